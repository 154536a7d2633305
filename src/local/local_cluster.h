// A whole cluster on one machine: a private etcd and N nodes, each a set of namespaces (network,
// mount, pid, optionally time) with its own tmpfs on /run and its own dvsd. Behind `dvs up`,
// `dvs down` and `dvs node join`.
//
// Everything lives below one supervisor process, which is the first process of its own pid
// namespace: when it ends, for whatever reason, the kernel ends all the rest. No named namespace,
// interface or mount is made on the host; what stays after a crash is DIR and, maybe, empty or
// frozen cgroups, which down() and the next up() clear away.
//
//   DIR/cluster.json             how the cluster was asked for; marks DIR as ours
//   DIR/supervisor.{pid,sock,log}
//   DIR/etcd/  DIR/etcd.log
//   DIR/nodes/NAME/dvsd.sock     what the CLI talks to; DIR/nodes/NAME/dvsd.log
//
// All functions block, need root, and report progress or failure within the limits named below.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace dvs::local {

constexpr const char* kDefaultDir = "/var/lib/dvs/local";
constexpr int kMaxLocalNodes = 250;

struct UpOptions {
  std::string dir = kDefaultDir;      // not below /run, which the nodes cover with their own
  int nodes = 3;                      // named n1, n2, ...
  bool restart_dvsd = true;           // 200 ms after it ended
  bool faults = false;                // dvsd --faults
  uint64_t run_bytes = 512ull << 20;  // limit of each node's /run; taken only as it fills
  std::string bin_dir;       // of dvsd, its helpers and dvs-local; empty: the running program's
  std::string dvsd_program;  // empty: BIN_DIR/dvsd
  std::vector<std::string> dvsd_args;  // added to dvsd's command line
  bool tls = false;  // links inside TLS, with an authority and certificates made for this cluster
  std::vector<std::string> dc_writable;  // directories that programs of DCs may write
  // Node i's dvsd and all it starts see CLOCK_MONOTONIC and _BOOTTIME shifted by this many seconds;
  // nodes beyond its end are not shifted. A result below zero is refused by the kernel.
  std::vector<int64_t> clock_offsets_s;
  std::chrono::milliseconds dvsd_limit{15'000};  // for all dvsds to answer
  bool die_with_caller = false;  // the cluster and DIR go away with the process that called up()
  bool etcd_no_fsync = false;    // quicker, and no longer durable over a crash of the machine
  std::function<void(const std::string&)> progress;  // one line at a time, or empty
};

// Starts a cluster; returns when every node's dvsd answers. On failure everything
// is taken down again and the error has the end of the log concerned. What a crashed cluster left
// in DIR is cleared first. kConflict: one runs there already, or another command is at work on it.
// kInvalid: DIR cannot be used. kNotFound: a program is missing (with the package's name).
Status up(const UpOptions& options);

// Ends everything in the cluster, frozen or not, and removes all up() made. Nothing there: fine.
Status down(const std::string& dir);

// Adds a node, or starts one again that was ended; returns when its dvsd answers (15 s at most).
// On failure the node is ended again. kConflict: it runs.
Status join(const std::string& dir, const std::string& name);

// Power-off of a node: its dvsd, containers and processes are gone when this returns.
Status kill_node(const std::string& dir, const std::string& name);

// SIGKILL to etcd, and a start on the same data. Fine when it is in that state already.
// It is never restarted by itself.
Status stop_etcd(const std::string& dir);
Status start_etcd(const std::string& dir);

struct NodeInfo {
  std::string name;
  std::string address;   // in the cluster's own network
  std::string socket;    // dvsd's API
  pid_t holder_pid = 0;  // the node's first process as the caller sees it; 0: the node is off
  pid_t dvsd_pid = 0;    // as the caller sees it; 0: nothing listens on the socket
};

struct Info {
  std::string cluster;
  std::vector<NodeInfo> nodes;  // in order of joining
  std::string etcd_endpoint;    // reachable from the nodes, not from the host
  pid_t etcd_pid = 0;           // 0: not running
  pid_t supervisor_pid = 0;
};

// kNotFound: no cluster runs in `dir`.
Result<Info> info(const std::string& dir);

}  // namespace dvs::local
