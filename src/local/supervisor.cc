#include "local/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "local/etcd.h"
#include "local/layout.h"
#include "local/local_cluster.h"
#include "local/node_holder.h"
#include "local/process.h"
#include "local/teardown.h"

namespace dvs::local {
namespace {

constexpr std::chrono::seconds kNodeLimit{10};
constexpr std::chrono::seconds kRequestLimit{2};

struct Node {
  std::string name;
  int index = 0;     // place in the network; for ever
  pid_t holder = 0;  // 0: the node is off
};

class Supervisor {
 public:
  Supervisor(Config config, Channel caller)
      : config_(std::move(config)), caller_(std::move(caller)) {}

  // Forever, unless the start fails.
  int run();

 private:
  Status start();
  void handle_events();
  Status enter_world();
  Status make_hub();
  Status start_node(Node& node);
  Status connect_node(const Node& node);
  Status join(const std::string& name);
  Status kill_node(const std::string& name);
  Status end_node(Node& node);
  Node* find(const std::string& name);
  Json describe() const;

  void tell(const std::string& progress);
  void reap();
  void hear_caller();
  void serve(UniqueFd connection);
  Result<Json> handle(const Json& request);
  [[noreturn]] void take_all_down();

  const Config config_;
  Channel caller_;     // closed once the caller has detached
  UniqueFd children_;  // signalfd of SIGCHLD
  UniqueFd listener_;
  Etcd etcd_{config_};
  std::vector<Node> nodes_;
};

Status Supervisor::enter_world() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
  children_.reset(::signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!children_.valid()) return errno_error("cannot create a signalfd");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_error("cannot make mounts private");
  }
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
    return errno_error("cannot mount /proc");
  }
  return {};
}

Status Supervisor::make_hub() {
  const std::string& ip = config_.ip_program;
  DVS_TRY(run_tool({ip, "link", "set", "lo", "up"}));
  DVS_TRY(run_tool({ip, "link", "add", "dvs0", "address", kHubMac, "type", "bridge"}));
  DVS_TRY(run_tool({ip, "address", "add", kHubAddress, "dev", "dvs0"}));
  return run_tool({ip, "link", "set", "dvs0", "up"});
}

// The link of an earlier life of the node may still be there: the kernel ends network namespaces in
// the background.
Status Supervisor::connect_node(const Node& node) {
  const std::string& ip = config_.ip_program;
  const std::string link = hub_interface(node.index);
  (void)run_tool({ip, "link", "delete", link});
  DVS_TRY(run_tool({ip, "link", "add", link, "type", "veth", "peer", "name", "eth0", "address",
                    node_mac(node.index), "netns", std::to_string(node.holder)}));
  return run_tool({ip, "link", "set", link, "master", "dvs0", "up"});
}

NodeSpec spec_of(const Config& config, const Node& node) {
  const auto index = static_cast<size_t>(node.index);
  NodeSpec spec;
  spec.name = node.name;
  spec.ip_program = config.ip_program;
  spec.address = node_address(node.index) + "/16";
  spec.run_bytes = config.run_bytes;
  if (index < config.clock_offsets_s.size()) spec.clock_offset_s = config.clock_offsets_s[index];
  spec.restart_dvsd = config.restart_dvsd;
  spec.dvsd_command = dvsd_command(config, node.name, node.index);
  spec.dvsd_log = dvsd_log(config.dir, node.name);
  return spec;
}

// Leaves node.holder set when it fails; the caller ends the node.
Status Supervisor::start_node(Node& node) {
  DVS_TRY(make_dirs(node_dir(config_.dir, node.name)));
  DVS_ASSIGN(auto ends, make_channel());
  DVS_ASSIGN(node.holder, start_self(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET, {"node", node.name},
                                     ends.second.fd()));
  ends.second.close();
  DVS_TRY(connect_node(node));
  DVS_TRY(ends.first.send(node_spec_to_json(spec_of(config_, node))));
  auto ready = ends.first.receive_answer(kNodeLimit);
  if (!ready.ok()) return ready.error();
  return {};
}

// Frozen processes would keep the node's pid namespace from ending, so its cgroups are cleared too.
Status Supervisor::end_node(Node& node) {
  if (node.holder == 0) return {};
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, node.holder, 0)));
  if (!pidfd.valid()) return errno_error("cannot open a pidfd");
  // All at once, and dvsd not after what it looks after: it would tell others how that ended.
  const auto children = children_of(node.holder);
  ::kill(node.holder, SIGKILL);
  for (const Child& child : children) ::kill(child.pid, SIGKILL);
  DVS_TRY(clear_cgroups(cluster_group(config_.dir) + "/" + node.name));
  DVS_TRY(await_end(pidfd.get(), kNodeLimit));
  ::waitpid(node.holder, nullptr, 0);
  node.holder = 0;
  return {};
}

Node* Supervisor::find(const std::string& name) {
  const auto it = std::find_if(nodes_.begin(), nodes_.end(),
                               [&](const Node& node) { return node.name == name; });
  return it == nodes_.end() ? nullptr : &*it;
}

Status Supervisor::join(const std::string& name) {
  DVS_TRY(check_node_name(config_.dir, name));
  Node* node = find(name);
  if (node != nullptr && node->holder != 0) return Error(Code::kConflict, name + " runs already");
  if (node == nullptr) {
    if (nodes_.size() >= kMaxLocalNodes) return Error(Code::kNoSpace, "no room for another node");
    nodes_.push_back({name, static_cast<int>(nodes_.size()), 0});
    node = &nodes_.back();
  }
  auto started = start_node(*node);
  if (!started.ok()) {
    (void)end_node(*node);
    return started.error().context("cannot start " + name);
  }
  return {};
}

Status Supervisor::kill_node(const std::string& name) {
  Node* node = find(name);
  if (node == nullptr) return Error(Code::kNotFound, "no node " + name);
  return end_node(*node);
}

Status Supervisor::start() {
  DVS_TRY(enter_world());
  tell("network");
  DVS_TRY(make_hub());
  tell("etcd");
  DVS_TRY(etcd_.start());
  for (int index = 0; index < config_.nodes; ++index) {
    tell("node " + node_name(index));
    DVS_TRY(join(node_name(index)));
  }
  DVS_ASSIGN(listener_, listen_unix(control_socket(config_.dir)));
  (void)caller_.send(Json{{"ready", true}});
  return {};
}

void Supervisor::tell(const std::string& progress) {
  (void)caller_.send(Json{{"progress", progress}});  // a caller that has gone is noticed later
}

void Supervisor::reap() {
  signalfd_siginfo ignored;
  while (::read(children_.get(), &ignored, sizeof ignored) > 0) {
  }
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    etcd_.ended(pid);
    for (auto& node : nodes_) {
      if (node.holder != pid) continue;
      log::warn("{} ended with wait status {:#x}", node.name, status);
      node.holder = 0;
    }
  }
}

void Supervisor::hear_caller() {
  auto said = caller_.receive(kRequestLimit);
  if (!said.ok()) take_all_down();
  caller_.close();  // there is but one thing it may say: "detach"
}

Json Supervisor::describe() const {
  Json nodes = Json::array();
  for (const auto& node : nodes_) {
    nodes.push_back(
        {{"name", node.name}, {"address", node_address(node.index)}, {"holder", node.holder}});
  }
  return {{"etcd", etcd_.pid()}, {"nodes", nodes}};
}

Result<Json> Supervisor::handle(const Json& request) {
  DVS_ASSIGN(const auto operation, json_get<std::string>(request, "op"));
  DVS_ASSIGN(const auto name, json_get_or<std::string>(request, "name", ""));
  Status done;
  if (operation == "join") {
    done = join(name);
  } else if (operation == "kill-node") {
    done = kill_node(name);
  } else if (operation == "start-etcd") {
    done = etcd_.start();
  } else if (operation == "stop-etcd") {
    etcd_.stop();
  } else if (operation != "info") {
    done = Error(Code::kInvalid, "unknown operation " + operation);
  }
  if (!done.ok()) return done.error();
  return describe();
}

void Supervisor::serve(UniqueFd connection) {
  Channel client(std::move(connection));
  auto request = client.receive(kRequestLimit);
  if (!request.ok()) return;
  auto answer = handle(*request);
  (void)client.send(answer.ok() ? *answer : Json{{"error", error_to_json(answer.error())}});
}

// From inside, for a caller that died; what down() does from outside.
void Supervisor::take_all_down() {
  log::info("the caller has gone: ending the cluster");
  ::kill(-1, SIGKILL);  // all of this pid namespace but this process
  if (auto cleared = clear_cgroups(cluster_group(config_.dir)); !cleared.ok()) {
    log::error("{}", cleared.error().message());
  }
  if (auto removed = remove_files(config_.dir); !removed.ok()) {
    log::error("{}", removed.error().message());
  }
  ::rmdir(config_.dir.c_str());
  ::_exit(0);
}

void Supervisor::handle_events() {
  pollfd events[] = {{children_.get(), POLLIN, 0},
                     {listener_.get(), POLLIN, 0},
                     {caller_.open() ? caller_.fd() : -1, POLLIN, 0}};
  if (::poll(events, std::size(events), -1) < 0) return;
  if (events[0].revents != 0) reap();
  if (events[2].revents != 0) hear_caller();
  if (events[1].revents == 0) return;
  UniqueFd connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (connection.valid()) serve(std::move(connection));
}

int Supervisor::run() {
  if (auto started = start(); !started.ok()) {
    // This process's end ends the rest, and the caller clears up.
    (void)caller_.send(Json{{"error", error_to_json(started.error())}});
    return 1;
  }
  for (;;) handle_events();
}

// Away from the terminal and from the pipes of whoever ran `dvs up`.
Status detach_stdio(const std::string& dir) {
  ::setsid();
  ::umask(022);
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::string log = supervisor_log(dir);
  UniqueFd out(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!null.valid() || !out.valid()) return errno_error("cannot open " + log);
  if (::chdir("/") != 0 || ::dup2(null.get(), STDIN_FILENO) < 0 ||
      ::dup2(out.get(), STDOUT_FILENO) < 0 || ::dup2(out.get(), STDERR_FILENO) < 0) {
    return errno_error("cannot set up the supervisor's descriptors");
  }
  return {};
}

Result<Config> read_config(const std::string& dir) {
  DVS_ASSIGN(const std::string text, read_file(config_file(dir)));
  DVS_ASSIGN(const Json json, parse_json(text));
  return config_from_json(json);
}

}  // namespace

Status launch_supervisor(const std::string& dir, int caller_channel) {
  DVS_TRY(detach_stdio(dir));
  DVS_ASSIGN(const pid_t pid, start_self(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET,
                                         {"supervise", dir}, caller_channel));
  DVS_ASSIGN(const uint64_t time, start_time(pid));
  return replace_file(pid_file(dir), fmt::format("{} {}\n", pid, time));
}

int run_supervisor(const std::string& dir, Channel caller) {
  log::init("supervisor");
  auto config = read_config(dir);
  if (!config.ok()) {
    (void)caller.send(Json{{"error", error_to_json(config.error())}});
    return 1;
  }
  ::fcntl(caller.fd(), F_SETFD, FD_CLOEXEC);
  return Supervisor(*config, std::move(caller)).run();
}

}  // namespace dvs::local
