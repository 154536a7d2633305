// dvsd: the daemon of a node. Builds the services and the conductor, and runs the event loop.
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <boost/asio/signal_set.hpp>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>

#include "base/log.h"
#include "container/capabilities.h"
#include "node/conductor.h"
#include "options.h"

namespace {

using dvs::Error;
using dvs::Result;
using dvs::Status;
using dvs::daemon::Options;

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

// Memory for windows of copies and chunks of images is kept for the next one, instead of being
// given back to the kernel and taken, page by page, again.
void keep_freed_memory() {
  constexpr int kKept = 64 << 20;
  ::mallopt(M_MMAP_THRESHOLD, kKept / 2);
  ::mallopt(M_TRIM_THRESHOLD, kKept);
}

Status load_identity(Options& options) {
  if (options.plain) return {};
  DVS_ASSIGN(options.node.tls, dvs::tls::Identity::load(options.tls, options.node.name));
  return {};
}

// Not refused: it may be on this machine, or in a tunnel.
void warn_of_plain_etcd(const Options& options) {
  for (const std::string& url : options.etcd.endpoints) {
    if (options.plain || url.starts_with("https://")) continue;
    dvs::log::warn("{} is not https: whoever reaches it decides who is a node", url);
  }
}

Result<std::shared_ptr<dvs::ApiTokens>> load_tokens(const std::string& file) {
  auto tokens = std::make_shared<dvs::ApiTokens>();
  if (!file.empty()) DVS_TRY(tokens->load(file));
  return tokens;
}

// What of the files is good is used from now on; of what is not, the old.
void reload(const Options& options, dvs::ApiTokens& tokens, dvs::Conductor& conductor) {
  const auto tell = [](const char* what, const Status& read) {
    if (read.ok()) return dvs::log::info("{} read again", what);
    dvs::log::error("{}, as they are now, are not used: {}", what, read.error().message());
  };
  if (options.node.tls != nullptr) {
    tell("certificates", options.node.tls->reload());
    conductor.recheck_links();
  }
  if (!options.api_tokens.empty()) tell("tokens", tokens.load(options.api_tokens));
}

void reload_at(boost::asio::signal_set& hangup, std::function<void()> work) {
  hangup.async_wait([&hangup, work](const boost::system::error_code& stopped, int) {
    if (stopped) return;
    work();
    reload_at(hangup, work);
  });
}

// The API: on a unix socket, and inside TLS if that is wanted.
struct Servers {
  std::unique_ptr<dvs::HttpServer> local, remote;

  Status open(dvs::Executor& executor, const Options& options,
              std::shared_ptr<const dvs::ApiTokens> tokens, dvs::Conductor& conductor) {
    DVS_ASSIGN(local, dvs::open_http_server(executor, options.socket, options.group));
    conductor.add_routes(*local);
    if (options.api.address.empty()) return {};
    DVS_ASSIGN(remote, dvs::open_https_server(executor, {options.api.address, options.api.port,
                                                         options.node.tls, std::move(tokens)}));
    conductor.add_routes(*remote);
    return {};
  }
};

int run(Options options) {
  keep_freed_memory();
  if (auto valid = check(options); !valid.ok()) return fail(valid.error());
  if (geteuid() != 0) {
    return fail(Error(dvs::Code::kDenied, "needs root: it creates namespaces and cgroups"));
  }
  if (Status less = dvs::give_up_capabilities(); !less.ok()) return fail(less.error());
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
  if (Status loaded = load_identity(options); !loaded.ok()) return fail(loaded.error());
  auto tokens = load_tokens(options.api_tokens);
  if (!tokens.ok()) return fail(tokens.error());
  warn_of_plain_etcd(options);
  dvs::Executor executor(1);
  auto store = dvs::open_etcd(executor, options.etcd);
  if (!store.ok()) return fail(store.error());
  auto engine = find_engine(executor, options.criu);
  if (!engine.ok()) return fail(engine.error().context("run scripts/setup or dvs check"));
  auto cgroups = dvs::Cgroups::detect();
  if (!cgroups.ok()) return fail(cgroups.error());

  boost::asio::signal_set ending(executor, SIGINT, SIGTERM);
  ending.async_wait([&](const boost::system::error_code&, int) { executor.stop(); });
  dvs::Doorbells doorbells(executor);
  dvs::Conductor conductor(executor, doorbells, options.node, **store, **engine, *cgroups);
  boost::asio::signal_set hangup(executor, SIGHUP);
  reload_at(hangup, [&] { reload(options, **tokens, conductor); });
  Servers servers;
  int status = 0;
  conductor.start([&](Result<bool> started) {
    Status opened = started.ok() ? Status() : Status(started.error());
    if (opened.ok()) opened = servers.open(executor, options, *tokens, conductor);
    if (!opened.ok()) {
      status = fail(opened.error());
      executor.stop();
      return;
    }
    dvs::log::info("node {} of cluster {} is up", options.node.name, options.node.cluster);
  });
  doorbells.run();
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  dvs::log::init("dvsd");
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGHUP, SIG_IGN);  // until there is something to read again
  Options options;
  if (const auto exit_status = dvs::daemon::parse(argc, argv, options)) return *exit_status;
  return run(std::move(options));
}
