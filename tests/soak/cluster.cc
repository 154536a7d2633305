#include "soak/cluster.h"

#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "api/http_server.h"
#include "base/child.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "soak/protocol.h"

namespace dvs::soak {
namespace {

constexpr std::chrono::seconds kLimit{30};
// A migration says nothing for as long as a page that it is owed is waited for.
constexpr std::chrono::seconds kSilence{60};

std::string endpoint_path(int endpoint, const char* what) {
  return std::string("/v1/dcs/") + kDc + "/endpoints/" + std::to_string(endpoint) + "/" + what;
}

// The last number of the line "NSpid:\t12\t3\n", unless it is a zombie.
int innermost_id(const std::string& status) {
  const size_t at = status.find("NSpid:");
  if (at == std::string::npos || status.find("State:\tZ") != std::string::npos) return 0;
  const size_t end = status.find('\n', at);
  return std::atoi(status.c_str() + status.rfind('\t', end) + 1);
}

// "2026-11-23 13:11:36.123 W [n1] ..." as CLOCK_REALTIME.
int64_t time_of(const std::string& line) {
  std::tm time = {};
  const char* rest = ::strptime(line.c_str(), "%Y-%m-%d %H:%M:%S", &time);
  if (rest == nullptr || *rest != '.') return 0;
  time.tm_isdst = -1;
  return (static_cast<int64_t>(std::mktime(&time)) * 1000 + std::atoi(rest + 1)) * 1'000'000;
}

}  // namespace

bool await(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Result<std::unique_ptr<Cluster>> Cluster::start(const std::string& dir, int nodes,
                                                const std::string& writable) {
  local::UpOptions options;
  options.dir = dir;
  options.nodes = nodes;
  options.faults = true;
  options.die_with_caller = true;
  options.etcd_no_fsync = true;
  options.dc_writable = {writable};
  DVS_TRY(local::up(options));
  std::unique_ptr<Cluster> cluster(new Cluster(dir));
  DVS_ASSIGN(const local::Info info, local::info(dir));
  cluster->cluster_ = info.cluster;
  for (const auto& node : info.nodes) cluster->nodes_.push_back(node.name);
  DVS_TRY(cluster->enter_network());
  DVS_ASSIGN(cluster->directory_, Directory::open(info.etcd_endpoint, info.cluster));
  DVS_TRY(cluster->call("n1", "POST", "/v1/dcs", {{"name", kDc}, {"nodes", cluster->nodes_}}));
  DVS_TRY(cluster->await_whole());
  return cluster;
}

// So that etcd can be reached; unix sockets can be anyway. For this thread and those that it
// starts.
Status Cluster::enter_network() const {
  DVS_ASSIGN(const local::Info now, info());
  const std::string path = "/proc/" + std::to_string(now.etcd_pid) + "/ns/net";
  const UniqueFd network(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!network.valid() || ::setns(network.get(), CLONE_NEWNET) != 0) return errno_error(path);
  return {};
}

Result<Json> Cluster::call(const std::string& node, const std::string& method,
                           const std::string& target, const Json& body,
                           const std::function<void(const Json&)>& on_event) const {
  const HttpCall request{
      dir_ + "/nodes/" + node + "/dvsd.sock", method, target, body, on_event, kSilence};
  DVS_ASSIGN(HttpAnswer answer, http_exchange(request));
  if (const auto error = answer.error()) return *error;
  return std::move(answer.body);
}

Status Cluster::arm(const std::string& node, const std::string& point) const {
  DVS_TRY(call(node, "POST", "/v1/faults", {{"point", point}}));
  return {};
}

Result<Cluster::Started> Cluster::run(const std::string& node, int endpoint,
                                      const std::vector<std::string>& argv) const {
  DVS_ASSIGN(const Json started, call(node, "POST", std::string("/v1/dcs/") + kDc + "/processes",
                                      {{"node", node}, {"endpoint", endpoint}, {"argv", argv}}));
  Started process;
  DVS_ASSIGN(process.pid, json_get<int>(started, "pid"));
  DVS_ASSIGN(process.task, json_get<std::string>(started, "task"));
  return process;
}

Status Cluster::signal(int endpoint, int number) const {
  DVS_TRY(call(nodes_[0], "POST", endpoint_path(endpoint, "kill"), {{"signal", number}}));
  return {};
}

std::string Cluster::place(int endpoint) const {
  const auto record = directory_->endpoint(kDc, static_cast<uint32_t>(endpoint + NR_TASKS));
  return record.has_value() ? directory_->node(record->node) : "";
}

Result<local::NodeInfo> Cluster::node(const std::string& name) const {
  DVS_ASSIGN(const local::Info now, info());
  for (const auto& node : now.nodes) {
    if (node.name == name) return node;
  }
  return Error(Code::kNotFound, "there is no node " + name);
}

Result<std::string> Cluster::path_on(const std::string& name, const std::string& path) const {
  DVS_ASSIGN(const local::NodeInfo at, node(name));
  if (at.holder_pid == 0) return Error(Code::kUnavailable, name + " is off");
  return "/proc/" + std::to_string(at.holder_pid) + "/root" + path;
}

Status Cluster::run_in_network(const std::string& name, std::vector<std::string> argv) const {
  DVS_ASSIGN(const local::NodeInfo at, node(name));
  ChildOptions options;
  options.argv = {"nsenter", "-t", std::to_string(at.holder_pid), "-n"};
  options.argv.insert(options.argv.end(), argv.begin(), argv.end());
  options.capture_output = true;
  DVS_ASSIGN(const ChildResult done, run_child_blocking(options));
  if (done.ok()) return {};
  return Error(Code::kInternal, argv[0] + ": " + done.describe() + ": " + done.output);
}

bool Cluster::is_whole() const {
  const auto is_up = [](const Json& node) {
    return node.value("state", "") == "up" && node.value("link", "") != "down";
  };
  return std::all_of(nodes_.begin(), nodes_.end(), [&](const std::string& name) {
    const auto answer = call(name, "GET", "/v1/nodes");
    const auto list = answer.ok() ? json_get<Json>(*answer, "nodes") : answer;
    return list.ok() && list->size() == nodes_.size() &&
           std::all_of(list->begin(), list->end(), is_up);
  });
}

Status Cluster::await_whole() const {
  if (await([this] { return is_whole(); }, kLimit)) return {};
  return Error(Code::kTimeout, "the nodes do not all see each other");
}

int Cluster::copies(const Started& process) const {
  int found = 0;
  const auto names = list_dir("/proc");
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>{}) {
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto cgroup = read_file("/proc/" + name + "/cgroup");
    if (!cgroup.ok() || cgroup->find("/dvs/" + cluster_ + "/") == std::string::npos) continue;
    if (cgroup->find("/" + process.task + "\n") == std::string::npos) continue;
    const auto status = read_file("/proc/" + name + "/status");
    if (status.ok() && innermost_id(*status) == process.pid) ++found;
  }
  return found;
}

std::vector<Cluster::Fired> Cluster::take_fired() {
  std::vector<Fired> fired;
  for (const std::string& name : nodes_) {
    size_t& from = logs_read_[name];
    std::ifstream log(dir_ + "/nodes/" + name + "/dvsd.log");
    log.seekg(static_cast<std::streamoff>(from));
    for (std::string line; std::getline(log, line) && !log.eof();) {
      from += line.size() + 1;
      constexpr std::string_view kWords = "fault point ";
      const size_t at = line.find(kWords);
      if (at == std::string::npos || line.find(" fires") == std::string::npos) continue;
      fired.push_back({name, std::atoi(line.c_str() + at + kWords.size()), time_of(line)});
      ++fired_in_all_[fired.back().point];
    }
  }
  return fired;
}

}  // namespace dvs::soak
