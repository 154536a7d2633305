// What the parts of a node share: its identity and the services that main() built.
#pragma once

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <string>

#include "api/http_server.h"
#include "container/cgroup.h"
#include "container/container.h"
#include "container/paths.h"
#include "directory/cluster.h"
#include "directory/store.h"
#include "migrate/engine/engine.h"
#include "migrate/faults.h"
#include "migrate/peers.h"
#include "node/doorbells.h"
#include "node/rpc.h"
#include "proxy/link.h"

namespace dvs {

struct NodeConfig {
  std::string name;
  std::string cluster;
  std::string listen_address;
  uint16_t listen_port = 0;
  std::string run_dir = "/run/dvs";
  std::string container_helper;  // path of dvs-container
  std::string pager;             // path of dvs-pager
  std::string tracer;            // path of dvs-tracer
  bool compress_links = false;
  std::shared_ptr<tls::Identity> tls;  // none: links are plain
  bool batch_links = true;
  // What DCs see of the node's files, see ContainerSpec.
  std::vector<std::string> dc_shown, dc_writable, dc_hidden;
  bool faults = false;
};

// All references live as long as the Conductor.
struct NodeContext {
  Executor& executor;
  Scheduler& scheduler;
  Doorbells& doorbells;
  NodeConfig config;
  Store& store;
  Cluster& cluster;
  Cgroups cgroups;
  Engine& engine;
  Faults& faults;
  NodeId id = 0;
  int64_t lease = 0;
  uint64_t incarnation = 0;
  std::map<std::string, double> sent_per_second = {};  // by node: bytes of memory, at the last time
  std::string no_mover = {};                  // why it cannot move memory here; empty: it can
  std::string cpu = {};                       // as the engine describes it; empty: not known (yet)
  boost::asio::thread_pool* aside = nullptr;  // for what would keep the event loop for long
  Rpc* rpc = nullptr;
  Peers* peers = nullptr;  // requests by a node's name
  Links* links = nullptr;

  const Keys& keys() const { return cluster.keys(); }
  // Runs `done` from the event loop, for completions that are known at once.
  template <typename F>
  void later(F&& work) {
    boost::asio::post(executor, std::forward<F>(work));
  }
};

}  // namespace dvs
