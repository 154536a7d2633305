#include "local/local_cluster.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "local/channel.h"
#include "local/layout.h"
#include "local/process.h"
#include "local/teardown.h"
#include "tls/authority.h"

namespace dvs::local {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

constexpr std::chrono::seconds kJoinLimit{15};
constexpr std::chrono::seconds kStartLimit{60};  // each step of the supervisor is bounded itself
constexpr std::chrono::seconds kEndLimit{10};
constexpr std::chrono::seconds kRequestLimit{30};
constexpr std::chrono::milliseconds kPoll{5};

using Progress = std::function<void(const std::string&)>;

// The supervisors of die_with_caller hang on these: they close when this process ends. Never
// destroyed, so that no exit handler's order matters.
struct Leashes {
  std::mutex mutex;
  std::map<std::string, Channel> by_dir;
};
Leashes& leashes() {
  static auto* all = new Leashes;
  return *all;
}

Status check_root() {
  if (::geteuid() == 0) return {};
  return Error(Code::kDenied, "a local cluster needs root (it creates namespaces and mounts)");
}

// PATH may lack the sbin directories where distributions keep some of these.
Result<std::string> find_program(const std::string& name, const std::string& package) {
  const char* path = std::getenv("PATH");
  std::istringstream dirs(std::string(path == nullptr ? "" : path) + ":/usr/sbin:/sbin:/usr/bin");
  for (std::string dir; std::getline(dirs, dir, ':');) {
    const std::string program = fmt::format("{}/{}", dir, name);
    if (program[0] == '/' && ::access(program.c_str(), X_OK) == 0) return program;
  }
  return Error(Code::kNotFound,
               fmt::format("program '{}' not found; install the package {}", name, package));
}

Result<std::string> check_program(const std::string& path) {
  std::error_code ec;
  std::string absolute = fs::canonical(path, ec).string();
  if (ec || ::access(absolute.c_str(), X_OK) != 0) {
    return Error(Code::kNotFound, "no program " + path);
  }
  if (absolute.starts_with("/run/")) {
    return Error(Code::kInvalid, path + " is below /run, which every node covers with its own");
  }
  return absolute;
}

// An existing directory must be empty or a cluster's: down() will remove it.
Status check_dir_is_ours(const std::string& dir) {
  std::error_code ec;
  if (!fs::exists(dir, ec) || fs::exists(config_file(dir), ec)) return {};
  auto names = list_dir(dir);
  if (!names.ok()) return Error(Code::kInvalid, names.error().message());
  if (names->empty()) return {};
  return Error(Code::kInvalid, dir + " is not empty and no local cluster's directory");
}

std::string bin_dir_of(const UpOptions& options) {
  if (!options.bin_dir.empty()) return options.bin_dir;
  std::error_code ec;
  return fs::read_symlink("/proc/self/exe", ec).parent_path().string();
}

struct Plan {
  Config config;
  std::string helper;  // dvs-local
};

// Everything that can be wrong before anything is touched.
Result<Plan> make_plan(const UpOptions& options) {
  DVS_TRY(check_root());
  if (options.nodes < 1 || options.nodes > kMaxLocalNodes) {
    return Error(Code::kInvalid, fmt::format("a local cluster has 1 to {} nodes", kMaxLocalNodes));
  }
  Plan plan;
  Config& config = plan.config;
  DVS_ASSIGN(config.dir, canonical_dir(options.dir));
  DVS_TRY(check_node_name(config.dir, node_name(options.nodes - 1)));
  DVS_ASSIGN(config.ip_program, find_program("ip", "iproute2"));
  DVS_ASSIGN(config.etcd_program, find_program("etcd", "etcd-server"));
  const std::string bin = bin_dir_of(options);
  DVS_ASSIGN(plan.helper, check_program(bin + "/dvs-local"));
  DVS_ASSIGN(config.dvsd_program,
             check_program(options.dvsd_program.empty() ? bin + "/dvsd" : options.dvsd_program));
  config.nodes = options.nodes;
  config.restart_dvsd = options.restart_dvsd;
  config.faults = options.faults;
  config.run_bytes = options.run_bytes;
  config.etcd_no_fsync = options.etcd_no_fsync;
  config.dvsd_args = options.dvsd_args;
  config.tls = options.tls;
  for (const std::string& dir : options.dc_writable) {
    DVS_ASSIGN(std::string path, canonical_dir(dir));
    config.dvsd_args.insert(config.dvsd_args.end(), {"--dc-writable", std::move(path)});
  }
  config.clock_offsets_s = options.clock_offsets_s;
  return plan;
}

// One command at a time on a directory. Held until the descriptor is closed.
Result<UniqueFd> lock_dir(const std::string& dir) {
  UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + dir);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error(Code::kConflict, "another command is at work on " + dir);
  }
  return fd;
}

std::optional<UniqueFd> open_supervisor(const std::string& dir) {
  auto text = read_file(pid_file(dir));
  if (!text.ok()) return std::nullopt;
  std::istringstream fields(*text);
  pid_t pid = 0;
  uint64_t time = 0;
  if (!(fields >> pid >> time) || pid <= 1) return std::nullopt;
  return open_process(pid, time);
}

// Ends the cluster and removes all but `dir` itself. For one who holds the lock.
Status take_down(const std::string& dir) {
  {
    std::lock_guard lock(leashes().mutex);
    leashes().by_dir.erase(dir);
  }
  auto supervisor = open_supervisor(dir);
  if (supervisor) {
    ::syscall(SYS_pidfd_send_signal, supervisor->get(), SIGKILL, nullptr, 0);
  }
  // Before the wait: the kernel ends a pid namespace only when no frozen process is left in it.
  DVS_TRY(clear_cgroups(cluster_group(dir)));
  if (supervisor) DVS_TRY(await_end(supervisor->get(), kEndLimit));
  std::error_code ec;
  if (fs::exists(config_file(dir), ec)) DVS_TRY(remove_files(dir));
  return {};
}

// Follows the supervisor's progress until everything but the dvsds is there.
Status await_supervisor(Channel& channel, const std::string& dir, const Progress& progress) {
  for (;;) {
    auto said = channel.receive(kStartLimit);
    if (!said.ok() && said.error().code() == Code::kUnavailable) {
      return Error(Code::kInternal, "the supervisor ended; " + log_tail(supervisor_log(dir)));
    }
    if (!said.ok()) return said.error();
    if (said->contains("error")) return error_from_json(said->at("error"));
    if (said->contains("ready")) return {};
    DVS_ASSIGN(const auto line, json_get<std::string>(*said, "progress"));
    progress("starting " + line);
  }
}

bool dvsd_answers(const std::string& socket) {
  auto connection = connect_unix(socket);
  if (!connection.ok()) return false;
  const auto answer = http_get(connection->get(), "/v1/node");
  return answer.ok() && answer->starts_with("HTTP/1.1 200");
}

Status await_dvsd(const std::string& dir, const std::string& node,
                  steady_clock::time_point deadline) {
  while (!dvsd_answers(dvsd_socket(dir, node))) {
    if (steady_clock::now() > deadline) {
      return Error(Code::kTimeout, fmt::format("the dvsd of {} does not answer; {}", node,
                                               log_tail(dvsd_log(dir, node))));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return {};
}

Status launch(const Plan& plan, const Channel& for_supervisor) {
  ChildOptions child;
  child.argv = {plan.helper, "start", plan.config.dir};
  child.capture_output = true;
  child.timeout = kEndLimit;
  child.pass_fds = {{for_supervisor.fd(), kChannelFd}};
  DVS_ASSIGN(const ChildResult result, run_child_blocking(child));
  if (result.ok()) return {};
  return Error(Code::kInternal, "cannot start the supervisor: " + result.describe() + ": " +
                                    result.output + log_tail(supervisor_log(plan.config.dir)));
}

// A node that joins again has its certificate already.
Status certify(const std::string& dir, const std::string& node) {
  auto made = tls::certify(tls_dir(dir), node, tls_dir(dir) + "/nodes");
  return !made.ok() && made.error().code() == Code::kConflict ? Status() : made;
}

Status make_certificates(const Config& config) {
  DVS_TRY(tls::make_authority(tls_dir(config.dir), cluster_name(config.dir)));
  for (int index = 0; index < config.nodes; ++index) {
    DVS_TRY(certify(config.dir, node_name(index)));
  }
  return {};
}

Result<Config> read_config(const std::string& dir) {
  DVS_ASSIGN(const std::string text, read_file(config_file(dir)));
  DVS_ASSIGN(const Json json, parse_json(text));
  return config_from_json(json);
}

Status start(const Plan& plan, const UpOptions& options, const Progress& progress) {
  const Config& config = plan.config;
  DVS_TRY(replace_file(config_file(config.dir), config_to_json(config).dump(2) + "\n"));
  if (config.tls) DVS_TRY(make_certificates(config));
  DVS_ASSIGN(auto ends, make_channel());
  DVS_TRY(launch(plan, ends.second));
  ends.second.close();
  DVS_TRY(await_supervisor(ends.first, config.dir, progress));
  const auto deadline = steady_clock::now() + options.dvsd_limit;
  for (int index = 0; index < config.nodes; ++index) {
    progress("waiting for " + node_name(index));
    DVS_TRY(await_dvsd(config.dir, node_name(index), deadline));
  }
  if (!options.die_with_caller) return ends.first.send("detach");
  std::lock_guard lock(leashes().mutex);
  leashes().by_dir[config.dir] = std::move(ends.first);
  return {};
}

Result<Json> request(const std::string& dir, const Json& what) {
  DVS_TRY(check_root());
  auto connection = connect_unix(control_socket(dir));
  if (!connection.ok()) return Error(Code::kNotFound, "no local cluster runs in " + dir);
  Channel channel(*std::move(connection));
  DVS_TRY(channel.send(what));
  return channel.receive_answer(kRequestLimit);
}

// A request whose answer says no more than that it was done.
Status command(const std::string& given_dir, const Json& what) {
  DVS_ASSIGN(const std::string dir, canonical_dir(given_dir));
  auto answer = request(dir, what);
  if (!answer.ok()) return answer.error();
  return {};
}

pid_t pid_as_seen_here(const std::vector<Child>& children, int inner_pid) {
  for (const auto& child : children) {
    if (child.inner_pid == inner_pid) return child.pid;
  }
  return 0;
}

pid_t pid_behind_socket(const std::string& path) {
  auto connection = connect_unix(path);
  return connection.ok() ? listener_pid(connection->get()) : 0;
}

}  // namespace

Status up(const UpOptions& options) {
  const Progress progress = options.progress ? options.progress : [](const std::string&) {};
  DVS_ASSIGN(const Plan plan, make_plan(options));
  const std::string& dir = plan.config.dir;
  DVS_TRY(make_dirs(dir));
  DVS_ASSIGN(const UniqueFd lock, lock_dir(dir));
  if (connect_unix(control_socket(dir)).ok()) {
    return Error(Code::kConflict, "a local cluster is already up in " + dir + "; dvs down first");
  }
  DVS_TRY(check_dir_is_ours(dir));
  DVS_TRY(take_down(dir));  // what a crash left
  auto started = start(plan, options, progress);
  if (!started.ok() && take_down(dir).ok()) ::rmdir(dir.c_str());
  return started;
}

Status down(const std::string& given_dir) {
  DVS_TRY(check_root());
  DVS_ASSIGN(const std::string dir, canonical_dir(given_dir));
  const auto lock = lock_dir(dir);
  const bool gone = !lock.ok() && lock.error().code() == Code::kNotFound;
  if (gone) return clear_cgroups(cluster_group(dir));
  if (!lock.ok()) return lock.error();
  DVS_TRY(take_down(dir));
  ::rmdir(dir.c_str());  // stays when something else is in it
  return {};
}

Status join(const std::string& given_dir, const std::string& name) {
  DVS_ASSIGN(const std::string dir, canonical_dir(given_dir));
  if (auto config = read_config(dir); config.ok() && config->tls) DVS_TRY(certify(dir, name));
  DVS_TRY(command(dir, {{"op", "join"}, {"name", name}}));
  auto answers = await_dvsd(dir, name, steady_clock::now() + kJoinLimit);
  if (!answers.ok()) (void)kill_node(dir, name);
  return answers;
}

Status kill_node(const std::string& dir, const std::string& name) {
  return command(dir, {{"op", "kill-node"}, {"name", name}});
}

Status stop_etcd(const std::string& dir) { return command(dir, {{"op", "stop-etcd"}}); }
Status start_etcd(const std::string& dir) { return command(dir, {{"op", "start-etcd"}}); }

Result<Info> info(const std::string& given_dir) {
  DVS_ASSIGN(const std::string dir, canonical_dir(given_dir));
  DVS_ASSIGN(const Json answer, request(dir, {{"op", "info"}}));
  Info info;
  info.cluster = cluster_name(dir);
  info.etcd_endpoint = kEtcdEndpoint;
  info.supervisor_pid = pid_behind_socket(control_socket(dir));
  const auto children = children_of(info.supervisor_pid);
  DVS_ASSIGN(const int etcd, json_get<int>(answer, "etcd"));
  info.etcd_pid = pid_as_seen_here(children, etcd);
  DVS_ASSIGN(const auto nodes, json_get<std::vector<Json>>(answer, "nodes"));
  for (const auto& json : nodes) {
    NodeInfo node;
    DVS_ASSIGN(node.name, json_get<std::string>(json, "name"));
    DVS_ASSIGN(node.address, json_get<std::string>(json, "address"));
    DVS_ASSIGN(const int holder, json_get<int>(json, "holder"));
    node.socket = dvsd_socket(dir, node.name);
    node.holder_pid = pid_as_seen_here(children, holder);
    node.dvsd_pid = pid_behind_socket(node.socket);
    info.nodes.push_back(std::move(node));
  }
  return info;
}

}  // namespace dvs::local
