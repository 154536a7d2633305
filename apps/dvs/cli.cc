#include "cli.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "base/unique_fd.h"
#include "local/local_cluster.h"
#include "print.h"

namespace dvs::cli {
namespace {

constexpr auto kAskLimit = std::chrono::seconds(30);
constexpr auto kChangeLimit = std::chrono::minutes(3);

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool somebody_listens(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  const UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

// Of the first live node of the local cluster; empty: there is none.
std::string local_socket() {
  const std::string nodes = cluster_dir() + "/nodes";
  const auto names = list_dir(nodes);
  if (!names.ok()) return {};
  for (const auto& name : *names) {
    const std::string path = nodes + "/" + name + "/dvsd.sock";
    if (somebody_listens(path)) return path;
  }
  return {};
}

Result<std::string> find_socket(const std::string& option) {
  if (!option.empty()) return option;
  const std::string configured = environment("DVS_SOCKET");
  if (!configured.empty()) return configured;
  // Who names a cluster means that one, also on a machine that is a node itself.
  const bool named = !environment("DVS_CLUSTER").empty();
  if (!named && somebody_listens(kNodeSocket)) return std::string(kNodeSocket);
  std::string local = local_socket();
  if (!local.empty()) return local;
  const std::string places = (named ? "" : std::string(kNodeSocket) + " nor in ") + cluster_dir();
  return Error(
      Code::kUnavailable,
      "no dvsd listens at " + places +
          "; start a cluster on this machine with `dvs up`, or name a socket with --socket");
}

}  // namespace

std::string cluster_dir() {
  const std::string dir = environment("DVS_CLUSTER");
  return dir.empty() ? local::kDefaultDir : dir;
}

ExitStatus exit_status_of(const Error& error) {
  switch (error.code()) {
    case Code::kInternal:
    case Code::kCorrupt:
      return kInternalError;
    case Code::kTimeout:
      return kUnknownOutcome;
    default:
      return kRefused;
  }
}

int Cli::fail(const std::string& what, const Error& error, ExitStatus status) {
  failure_ = status;
  clear_line();
  std::fprintf(stderr, "dvs: cannot %s: %s\n", what.c_str(), printable(error.message()).c_str());
  if (json) print_json({{"error", error_to_json(error)}});
  return status;
}

void Cli::draw_line(const std::string& text) {
  std::printf("\r\033[K%s", text.c_str());
  std::fflush(stdout);
  line_drawn_ = true;
}

void Cli::clear_line() {
  if (line_drawn_) std::fputs("\r\033[K", stdout);
  std::fflush(stdout);
  line_drawn_ = false;
}

Status Cli::choose_dvsd(HttpCall& call) const {
  if (api.empty() || !socket.empty()) {
    DVS_ASSIGN(call.socket_path, find_socket(socket));
    return {};
  }
  DVS_ASSIGN(HttpsTarget target, parse_https_target(api));
  if (trust.authority.empty()) return Error(Code::kInvalid, "--api needs --ca");
  target.trust = trust;
  target.trust.unit = tls::kNodeUnit;
  if (!token_file.empty()) {
    DVS_ASSIGN(target.token, read_file(token_file));
    target.token.erase(target.token.find_last_not_of(" \r\n") + 1);
  }
  call.https = std::move(target);
  return {};
}

std::optional<Json> Cli::exchange(const std::string& what, HttpCall call) {
  const bool only_asks = call.method == "GET";
  if (const Status chosen = choose_dvsd(call); !chosen.ok()) {
    fail(what, chosen.error(), kUnreachable);
    return std::nullopt;
  }
  auto answer = http_exchange(call);
  if (!answer.ok()) {
    const Code code = answer.error().code();
    const bool unknown = code == Code::kTimeout && !only_asks;
    fail(what, answer.error().context(unknown ? "the outcome is unknown" : "dvsd"),
         code == Code::kCorrupt ? kInternalError
         : unknown              ? kUnknownOutcome
                                : kUnreachable);
    return std::nullopt;
  }
  if (const auto error = answer->error()) {
    const ExitStatus status = exit_status_of(*error);
    fail(what, *error, only_asks && status == kUnknownOutcome ? kRefused : status);
    return std::nullopt;
  }
  return std::move(answer->body);
}

std::optional<Json> Cli::ask(const std::string& what, const std::string& target) {
  return exchange(what, {{}, "GET", target, nullptr, {}, kAskLimit});
}

std::optional<Json> Cli::change(const std::string& what, const std::string& method,
                                const std::string& target, Json body) {
  return exchange(what, {{}, method, target, std::move(body), {}, kChangeLimit});
}

CLI::App* add_command(CLI::App& parent, Cli& cli, const std::string& name,
                      const std::string& description, const std::string& examples,
                      std::function<int()> action) {
  CLI::App* command = parent.add_subcommand(name, description);
  command->add_flag("--json", cli.json, "Print JSON");
  command->add_option("--socket", cli.socket, "dvsd's socket (see `dvs --help`)")
      ->type_name("PATH");
  command->footer("Examples:\n" + examples);
  command->callback([&cli, action = std::move(action)] { cli.action = action; });
  return command;
}

CLI::App* add_group(CLI::App& parent, const std::string& name, const std::string& description) {
  CLI::App* group = parent.add_subcommand(name, description);
  group->require_subcommand(1);
  return group;
}

}  // namespace dvs::cli
