#include "local/layout.h"

#include <spdlog/fmt/fmt.h>
#include <sys/un.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "base/file.h"

namespace dvs::local {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNodeName = 32;
constexpr size_t kMaxSocketPath = sizeof(sockaddr_un::sun_path) - 1;
constexpr int kNodesPerSubnet = 250;
constexpr size_t kTailBytes = 2000;
constexpr int kDvsdPort = 7000;

bool is_name_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

Result<std::vector<int64_t>> get_offsets(const Json& json) {
  DVS_ASSIGN(const auto items, json_get<std::vector<Json>>(json, "clock_offsets_s"));
  std::vector<int64_t> offsets;
  for (const auto& item : items) {
    DVS_ASSIGN(const auto offset, json_get<int64_t>(Json{{"offset", item}}, "offset"));
    offsets.push_back(offset);
  }
  return offsets;
}

// What is removed between the library's look at it and its resolving it is resolved as not there.
fs::path resolve(const fs::path& path, std::error_code& ec) {
  constexpr int kAttempts = 100;
  fs::path resolved;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    resolved = fs::weakly_canonical(path, ec);
    if (ec != std::errc::no_such_file_or_directory) break;
  }
  return resolved;
}

}  // namespace

Json config_to_json(const Config& config) {
  return {{"dir", config.dir},
          {"nodes", config.nodes},
          {"restart_dvsd", config.restart_dvsd},
          {"faults", config.faults},
          {"run_bytes", config.run_bytes},
          {"etcd_no_fsync", config.etcd_no_fsync},
          {"ip_program", config.ip_program},
          {"etcd_program", config.etcd_program},
          {"dvsd_program", config.dvsd_program},
          {"dvsd_args", config.dvsd_args},
          {"tls", config.tls},
          {"clock_offsets_s", config.clock_offsets_s}};
}

Result<Config> config_from_json(const Json& json) {
  Config config;
  DVS_ASSIGN(config.dir, json_get<std::string>(json, "dir"));
  DVS_ASSIGN(config.nodes, json_get<int>(json, "nodes"));
  DVS_ASSIGN(config.restart_dvsd, json_get<bool>(json, "restart_dvsd"));
  DVS_ASSIGN(config.faults, json_get<bool>(json, "faults"));
  DVS_ASSIGN(config.run_bytes, json_get<uint64_t>(json, "run_bytes"));
  DVS_ASSIGN(config.etcd_no_fsync, json_get<bool>(json, "etcd_no_fsync"));
  DVS_ASSIGN(config.ip_program, json_get<std::string>(json, "ip_program"));
  DVS_ASSIGN(config.etcd_program, json_get<std::string>(json, "etcd_program"));
  DVS_ASSIGN(config.dvsd_program, json_get<std::string>(json, "dvsd_program"));
  DVS_ASSIGN(config.dvsd_args, json_get<std::vector<std::string>>(json, "dvsd_args"));
  DVS_ASSIGN(config.tls, json_get<bool>(json, "tls"));
  DVS_ASSIGN(config.clock_offsets_s, get_offsets(json));
  return config;
}

Result<std::string> canonical_dir(const std::string& dir) {
  if (dir.empty()) return Error(Code::kInvalid, "the cluster's directory is not given");
  std::error_code ec;
  const fs::path absolute = fs::absolute(dir, ec);
  const fs::path canonical = ec ? fs::path() : resolve(absolute, ec);
  if (ec) return errno_error("cannot resolve " + dir, ec.value());
  std::string path = canonical.string();
  if (path.size() > 1 && path.back() == '/') path.pop_back();
  if (path == "/run" || path.starts_with("/run/")) {
    return Error(Code::kInvalid, dir +
                                     " is below /run, which every node covers with its own; "
                                     "choose another directory");
  }
  return path;
}

std::string config_file(const std::string& dir) { return dir + "/cluster.json"; }
std::string tls_dir(const std::string& dir) { return dir + "/tls"; }
std::string pid_file(const std::string& dir) { return dir + "/supervisor.pid"; }
std::string control_socket(const std::string& dir) { return dir + "/supervisor.sock"; }
std::string supervisor_log(const std::string& dir) { return dir + "/supervisor.log"; }
std::string etcd_dir(const std::string& dir) { return dir + "/etcd"; }
std::string etcd_log(const std::string& dir) { return dir + "/etcd.log"; }
std::string nodes_dir(const std::string& dir) { return dir + "/nodes"; }
std::string node_dir(const std::string& dir, const std::string& node) {
  return nodes_dir(dir) + "/" + node;
}
std::string dvsd_socket(const std::string& dir, const std::string& node) {
  return node_dir(dir, node) + "/dvsd.sock";
}
std::string dvsd_log(const std::string& dir, const std::string& node) {
  return node_dir(dir, node) + "/dvsd.log";
}

std::string cluster_name(const std::string& dir) {
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const unsigned char c : dir) hash = (hash ^ c) * 0x100000001b3;
  return fmt::format("local-{:08x}", static_cast<uint32_t>(hash ^ (hash >> 32)));
}
std::string cluster_group(const std::string& dir) { return "dvs/" + cluster_name(dir); }

Status check_node_name(const std::string& dir, const std::string& name) {
  if (name.empty() || name.size() > kMaxNodeName ||
      !std::all_of(name.begin(), name.end(), is_name_character)) {
    return Error(
        Code::kInvalid,
        fmt::format("'{}' is no name for a node: 1 to {} of a-z, 0-9 and '-'", name, kMaxNodeName));
  }
  const std::string socket = dvsd_socket(dir, name);
  if (socket.size() > kMaxSocketPath) {
    return Error(
        Code::kInvalid,
        fmt::format("the path of a socket would be {} bytes long and may be {}: {}; choose "
                    "a shorter directory",
                    socket.size(), kMaxSocketPath, socket));
  }
  return {};
}

std::string node_name(int index) { return fmt::format("n{}", index + 1); }
std::string node_address(int index) {
  return fmt::format("10.88.{}.{}", index / kNodesPerSubnet, index % kNodesPerSubnet + 1);
}
std::string node_mac(int index) {
  return fmt::format("02:64:76:73:{:02x}:{:02x}", index / 256, index % 256);
}
std::string hub_interface(int index) { return fmt::format("node{}", index + 1); }

std::vector<std::string> etcd_command(const Config& config) {
  const std::string peer = "http://127.0.0.1:2380";
  std::vector<std::string> command = {
      config.etcd_program,
      "--name=local",
      "--data-dir=" + etcd_dir(config.dir),
      std::string("--listen-client-urls=") + kEtcdEndpoint,
      std::string("--advertise-client-urls=") + kEtcdEndpoint,
      "--listen-peer-urls=" + peer,
      "--initial-advertise-peer-urls=" + peer,
      "--initial-cluster=local=" + peer,
      "--heartbeat-interval=20",  // a lone member wins its election at once,
      "--election-timeout=100",   // but only when this has run out
      "--snapshot-count=1000",
      "--logger=zap",
      "--log-level=error"};
  if (config.etcd_no_fsync) command.push_back("--unsafe-no-fsync");
  return command;
}

std::vector<std::string> dvsd_command(const Config& config, const std::string& name, int index) {
  std::vector<std::string> command = {config.dvsd_program,
                                      "--name",
                                      name,
                                      "--cluster",
                                      cluster_name(config.dir),
                                      "--listen",
                                      fmt::format("{}:{}", node_address(index), kDvsdPort),
                                      "--etcd",
                                      kEtcdEndpoint,
                                      "--run-dir",
                                      "/run/dvs",
                                      "--socket",
                                      dvsd_socket(config.dir, name),
                                      "--dc-hide",
                                      config.dir};
  if (config.faults) command.push_back("--faults");
  if (config.tls) {
    const std::string files = tls_dir(config.dir) + "/nodes/";
    command.insert(command.end(),
                   {"--tls-ca", files + "ca.pem", "--tls-cert", files + name + ".pem", "--tls-key",
                    files + name + ".key", "--tls-crl", tls_dir(config.dir) + "/crl.pem"});
  } else {
    command.push_back("--plain");  // the network is the cluster's own, on this machine
  }
  command.insert(command.end(), config.dvsd_args.begin(), config.dvsd_args.end());
  return command;
}

std::string log_tail(const std::string& path) {
  auto log = read_file(path);
  if (!log.ok() || log->empty()) return path + " is empty";
  std::string tail = log->size() > kTailBytes ? log->substr(log->size() - kTailBytes) : *log;
  if (tail.size() < log->size()) tail.erase(0, tail.find('\n') + 1);
  while (tail.ends_with('\n')) tail.pop_back();
  std::string text = "the end of " + path + ":\n  ";
  for (const char c : tail) text += c == '\n' ? std::string("\n  ") : std::string(1, c);
  return text;
}

}  // namespace dvs::local
