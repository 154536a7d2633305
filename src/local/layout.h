// What a local cluster is called, where it keeps things, and which command lines it runs. No
// processes here.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace dvs::local {

// What the supervisor needs to know; DIR/cluster.json.
struct Config {
  std::string dir;  // absolute, without links
  int nodes = 0;
  bool restart_dvsd = true;
  bool faults = false;
  uint64_t run_bytes = 0;
  bool etcd_no_fsync = false;
  std::string ip_program, etcd_program, dvsd_program;  // absolute paths
  std::vector<std::string> dvsd_args;
  bool tls = false;
  std::vector<int64_t> clock_offsets_s;
};
Json config_to_json(const Config& config);
Result<Config> config_from_json(const Json& json);

// `dir` made absolute and without links. kInvalid: below /run, where the nodes would not see it.
Result<std::string> canonical_dir(const std::string& dir);

std::string config_file(const std::string& dir);  // its presence marks DIR as a cluster's
std::string tls_dir(
    const std::string& dir);  // the authority and its list; nodes' certificates in nodes/
std::string pid_file(const std::string& dir);  // "PID STARTTIME" of the supervisor
std::string control_socket(const std::string& dir);
std::string supervisor_log(const std::string& dir);
std::string etcd_dir(const std::string& dir);
std::string etcd_log(const std::string& dir);
std::string nodes_dir(const std::string& dir);
std::string node_dir(const std::string& dir, const std::string& node);
std::string dvsd_socket(const std::string& dir, const std::string& node);
std::string dvsd_log(const std::string& dir, const std::string& node);

// Always the same for a directory, so that leftovers can be found with nothing else known.
std::string cluster_name(const std::string& dir);
std::string cluster_group(const std::string& dir);  // the cgroup everything of it lives below

// kInvalid unless 1 to 32 of a-z, 0-9 and '-', and its socket's path is short enough for bind().
Status check_node_name(const std::string& dir, const std::string& name);

constexpr const char* kEtcdEndpoint = "http://10.88.255.254:2379";
constexpr const char* kEtcdAddress = "10.88.255.254";
constexpr uint16_t kEtcdPort = 2379;
constexpr const char* kHubAddress = "10.88.255.254/16";
// Fixed: a bridge without one takes that of a port, and changes it when that port's node dies.
constexpr const char* kHubMac = "02:64:76:73:ff:ff";
std::string node_name(int index);     // "n1" for 0
std::string node_address(int index);  // "10.88.0.1" for 0
std::string node_mac(int index);      // fixed, so that neighbours find a node that came back
std::string hub_interface(int index);

std::vector<std::string> etcd_command(const Config& config);
std::vector<std::string> dvsd_command(const Config& config, const std::string& name, int index);

// The last lines of a log, indented, for an error message; says so when there are none.
std::string log_tail(const std::string& path);

}  // namespace dvs::local
