// dvsd: the daemon of a node. Builds the services and the conductor, and runs the event loop.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "base/log.h"
#include "node/conductor.h"

namespace {

using dvs::Error;
using dvs::Result;
using dvs::Status;

struct Options {
  dvs::NodeConfig node;
  std::string listen;
  std::vector<std::string> etcd;
  std::string socket = dvs::kNodeSocket;
  std::string criu;
  bool plain = false;
};

std::string beside_me(const std::string& program) {
  std::error_code ec;
  const auto me = std::filesystem::read_symlink("/proc/self/exe", ec);
  return (me.parent_path() / program).string();
}

std::string installed_in() {
  return std::filesystem::path(beside_me("")).parent_path().parent_path().string();
}

// Without links, as the view of a DC wants them (Container).
Status resolve(std::vector<std::string>& dirs) {
  for (std::string& dir : dirs) {
    std::error_code ec;
    const auto path = std::filesystem::canonical(dir, ec);
    if (ec) return dvs::errno_error("cannot find " + dir, ec.value());
    dir = path.string();
  }
  return {};
}

// The engine's program: as asked for, else a criu in PATH that open_criu() accepts, else what
// scripts/setup installs.
Result<std::unique_ptr<dvs::Engine>> find_engine(dvs::Executor& executor,
                                                 const std::string& asked) {
  const std::string runner = beside_me("dvs-criu");
  if (!asked.empty()) return dvs::open_criu(executor, {asked, runner});
  auto installed = dvs::open_criu(executor, {"/usr/local/lib/dvs/criu/criu", runner});
  if (installed.ok()) return installed;
  auto system = dvs::open_criu(executor, {"criu", runner});
  if (system.ok()) return system;
  return installed.error();
}

int fail(const Error& error) {
  std::cerr << "dvsd: " << error.message() << "\n";
  return 1;
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--name", options.node.name, "name of this node, unique in the cluster")
      ->required();
  app.add_option("--cluster", options.node.cluster, "name of the cluster")->required();
  app.add_option("--listen", options.listen, "ADDRESS:PORT for links; other nodes connect here")
      ->required();
  app.add_option("--etcd", options.etcd, "URLs of etcd, e.g. http://10.0.0.1:2379")
      ->required()
      ->delimiter(',');
  app.add_option("--run-dir", options.node.run_dir, "where this node keeps its state (a tmpfs)")
      ->capture_default_str();
  app.add_option("--socket", options.socket, "unix socket of the API")->capture_default_str();
  app.add_option("--criu", options.criu, "path of criu >= 4.2")->envname("DVS_CRIU");
  app.add_flag("--compress-links", options.node.compress_links,
               "compress large transfers to other nodes (for networks slower than about 4 Gbit/s)");
  app.add_option("--tls-ca", options.node.tls.authority,
                 "links are TLS: certificate (PEM) of the cluster's authority");
  app.add_option("--tls-cert", options.node.tls.certificate, "certificate (PEM) of this node");
  app.add_option("--tls-key", options.node.tls.key, "its private key (PEM)");
  app.add_flag("--plain", options.plain,
               "links without TLS: whoever reaches them is believed to be any node");
  app.add_flag("!--no-batching", options.node.batch_links,
               "write each message to other nodes by itself (to measure what batching brings)");
  app.add_option("--dc-writable", options.node.dc_writable,
                 "directory of this node that its DCs may write; the rest is read-only to them")
      ->check(CLI::ExistingDirectory);
  app.add_option("--dc-show", options.node.dc_shown,
                 "directory below /tmp, /var/tmp, /run or /dev that its DCs see, read-only; by "
                 "default they have their own of those")
      ->check(CLI::ExistingDirectory);
  app.add_option("--dc-hide", options.node.dc_hidden, "path that its DCs do not see");
  app.add_flag("--faults", options.node.faults, "allow fault points to be armed (tests only)");
  app.footer(
      "Example:\n  dvsd --name n1 --cluster lab --listen 10.0.0.1:7000 --etcd http://10.0.0.9:2379 "
      "\\\n    --tls-ca ca.pem --tls-cert n1.pem --tls-key n1.key");
}

Result<bool> split_listen(Options& options) {
  const size_t colon = options.listen.rfind(':');
  const Error bad(dvs::Code::kInvalid, "--listen takes ADDRESS:PORT, not '" + options.listen + "'");
  if (colon == std::string::npos) return bad;
  options.node.listen_address = options.listen.substr(0, colon);
  const std::string port = options.listen.substr(colon + 1);
  char* end = nullptr;
  const long number = std::strtol(port.c_str(), &end, 10);
  if (port.empty() || *end != 0 || number < 0 || number > 65535) return bad;
  options.node.listen_port = static_cast<uint16_t>(number);
  if (!dvs::is_name(options.node.name)) {
    return Error(dvs::Code::kInvalid, "--name: 1 to 15 letters, digits, '-' or '_'");
  }
  return true;
}

// Nobody gets links without proof of who is who by having forgotten an option.
Status check_protection(const Options& options) {
  if (options.node.tls.empty() && !options.plain) {
    return Error(
        dvs::Code::kInvalid,
        "links need protection: give this node's certificate with --tls-ca, --tls-cert and "
        "--tls-key (see `dvs cluster --help`), or say --plain on a network that you trust");
  }
  if (!options.node.tls.empty() && options.plain) {
    return Error(dvs::Code::kInvalid, "--plain and --tls-... exclude each other");
  }
  return {};
}

// Memory for windows of copies and chunks of images is kept for the next one, instead of being
// given back to the kernel and taken, page by page, again.
void keep_freed_memory() {
  constexpr int kKept = 64 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kKept / 2);
  ::mallopt(M_TRIM_THRESHOLD, kKept);
}

int run(Options options) {
  keep_freed_memory();
  if (auto valid = split_listen(options); !valid.ok()) return fail(valid.error());
  if (auto safe = check_protection(options); !safe.ok()) return fail(safe.error());
  if (geteuid() != 0) {
    return fail(Error(dvs::Code::kDenied, "needs root: it creates namespaces and cgroups"));
  }
  options.node.container_helper = beside_me("dvs-container");
  options.node.pager = beside_me("dvs-pager");
  options.node.tracer = beside_me("dvs-tracer");
  // What is installed beside dvsd runs in DCs, too, wherever that is.
  options.node.dc_shown.push_back(installed_in());
  if (options.criu.starts_with('/')) {
    options.node.dc_shown.push_back(std::filesystem::path(options.criu).parent_path());
  }
  for (auto* dirs : {&options.node.dc_shown, &options.node.dc_writable}) {
    if (auto found = resolve(*dirs); !found.ok()) return fail(found.error());
  }
  dvs::Executor executor(1);
  auto store = dvs::open_etcd(executor, {options.etcd});
  if (!store.ok()) return fail(store.error());
  auto engine = find_engine(executor, options.criu);
  if (!engine.ok()) return fail(engine.error().context("run scripts/setup or dvs check"));
  auto cgroups = dvs::Cgroups::detect();
  if (!cgroups.ok()) return fail(cgroups.error());

  boost::asio::signal_set signals(executor, SIGINT, SIGTERM);
  signals.async_wait([&](const boost::system::error_code&, int) { executor.stop(); });
  dvs::Doorbells doorbells(executor);
  dvs::Conductor conductor(executor, doorbells, options.node, **store, **engine, *cgroups);
  std::unique_ptr<dvs::HttpServer> server;
  int status = 0;
  conductor.start([&](Result<bool> started) {
    auto opened = started.ok() ? dvs::open_http_server(executor, options.socket)
                               : Result<std::unique_ptr<dvs::HttpServer>>(started.error());
    if (!opened.ok()) {
      status = fail(opened.error());
      executor.stop();
      return;
    }
    server = std::move(*opened);
    conductor.add_routes(*server);
    dvs::log::info("node {} of cluster {} is up", options.node.name, options.node.cluster);
  });
  doorbells.run();
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  dvs::log::init("dvsd");
  ::signal(SIGPIPE, SIG_IGN);
  Options options;
  CLI::App app("The daemon of a DVS node");
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);
  return run(std::move(options));
}
