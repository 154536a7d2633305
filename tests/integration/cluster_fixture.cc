#include "cluster_fixture.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <iostream>
#include <regex>
#include <sstream>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "dvk/dvk.h"

namespace dvs::integration {
namespace {

int slot_index(int endpoint) { return _ENDPOINT_P(endpoint) + NR_TASKS; }

constexpr int kChosen = 1 << 30;  // no endpoint asked for

std::string build_dir() {
  const char* dir = std::getenv("DVS_BUILD_DIR");
  return dir == nullptr ? "." : dir;
}

// Whether /proc/NAME is a live process of `cluster` that has `dc_pid` in its innermost namespace.
bool is_copy(const std::string& name, const std::string& cluster, int dc_pid) {
  if (name.find_first_not_of("0123456789") != std::string::npos) return false;
  auto cgroup = read_file("/proc/" + name + "/cgroup");
  auto status = read_file("/proc/" + name + "/status");
  if (!cgroup.ok() || !status.ok() || status->find("State:\tZ") != std::string::npos) return false;
  if (cgroup->find("/dvs/" + cluster + "/") == std::string::npos) return false;
  std::smatch ids;
  return std::regex_search(*status, ids, std::regex("NSpid:.*\t(\\d+)\n")) &&
         ids[1] == std::to_string(dc_pid);
}

}  // namespace

std::string ClusterTest::dir_;
std::string ClusterTest::cluster_;
bool ClusterTest::up_ = false;

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

void ClusterTest::start_cluster(local::UpOptions options) {
  if (::geteuid() != 0) return;
  char name[] = "/dev/shm/dvs-test-XXXXXX";
  ASSERT_NE(::mkdtemp(name), nullptr);
  dir_ = name;
  options.dir = dir_;
  options.bin_dir = build_dir() + "/bin";
  options.faults = true;
  options.etcd_no_fsync = true;
  options.die_with_caller = true;
  const Status up = local::up(options);
  up_ = up.ok();
  ASSERT_OK(up);
  auto info = local::info(dir_);
  ASSERT_OK(info);
  cluster_ = info->cluster;
  await_links();
}

void ClusterTest::TearDownTestSuite() {
  if (dir_.empty()) return;
  if (up_) expect_clean();
  EXPECT_OK(local::down(dir_));
  (void)remove_tree(dir_);
  up_ = false;
}

// All DCs are gone, so no cgroup of the cluster may be left below its nodes'.
void ClusterTest::expect_clean() {
  std::vector<std::string> left;
  for (const char* mount : {"/sys/fs/cgroup/freezer", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    const std::string root = std::string(mount) + "/dvs/" + cluster_;
    std::error_code ec;
    for (std::filesystem::recursive_directory_iterator it(root, ec), end; !ec && it != end;
         it.increment(ec)) {
      if (it->is_directory() && it.depth() > 0) left.push_back(it->path());
    }
  }
  EXPECT_EQ(left, std::vector<std::string>()) << "cgroups were left behind";
}

void ClusterTest::SetUp() {
  ASSERT_EQ(::geteuid(), 0u) << "needs root";
  ASSERT_TRUE(up_) << "there is no cluster";
}

void ClusterTest::TearDown() {
  if (!up_) return;
  for (const Process& process : started_) expect_content(process);
  if (HasFailure()) {
    for (const Process& process : started_) {
      const std::string text = log(process);
      std::cerr << "---- endpoint " << process.endpoint << ", the end of its log:\n"
                << text.substr(text.size() - std::min<size_t>(text.size(), 800)) << "\n";
    }
    show_logs();
  }
  for (const std::string& dc : dcs_) {
    EXPECT_OK(call("DELETE", "/v1/dcs/" + dc + "?force=1"));
  }
  for (const Process& process : started_) {
    EXPECT_TRUE(eventually([&] { return copies(process) == 0; }, 5s))
        << "process " << process.pid << " outlived its DC";
  }
}

// What the daemons said last.
void ClusterTest::show_logs() {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_)) {
    if (entry.path().extension() != ".log") continue;
    auto text = read_file(entry.path());
    std::istringstream lines(text.ok() ? *text : "");
    std::deque<std::string> kept;
    for (std::string line; std::getline(lines, line);) {
      kept.push_back(line.substr(0, 400));
      if (kept.size() > 40) kept.pop_front();
    }
    std::cerr << "---- " << entry.path().string() << "\n";
    for (const std::string& line : kept) std::cerr << line << "\n";
  }
}

void ClusterTest::expect_content(const Process& process) {
  const std::string text = log(process);
  const size_t bad = text.find("BAD");
  if (bad == std::string::npos) return;
  ADD_FAILURE() << "endpoint " << process.endpoint << " complains: " << text.substr(bad, 300);
}

std::string ClusterTest::program(const std::string& name) {
  return std::filesystem::path(build_dir() + "/tests/integration/programs") / name;
}

std::string ClusterTest::binary(const std::string& name) { return build_dir() + "/bin/" + name; }

local::NodeInfo ClusterTest::node(const std::string& name) {
  auto info = local::info(dir_);
  EXPECT_OK(info);
  if (!info.ok()) return {};
  for (const auto& each : info->nodes) {
    if (each.name == name) return each;
  }
  ADD_FAILURE() << "there is no node " << name;
  return {};
}

// ---- the API ------------------------------------------------------------------------------------

// One request, whose answer may not stay away for longer than this.
Result<Json> ClusterTest::ask(const std::string& socket, const std::string& method,
                              const std::string& target, const Json& body,
                              const std::function<void(const Json&)>& on_event) {
  auto answer = http_exchange({socket, method, target, body, on_event, 30s});
  if (!answer.ok()) return answer.error();
  if (auto error = answer->error()) return *error;
  return answer->body;
}

Result<Json> ClusterTest::call(const std::string& method, const std::string& target,
                               const Json& body) {
  return ask(dir_ + "/nodes/" + via_ + "/dvsd.sock", method, target, body);
}

void ClusterTest::make_dc(const std::string& name, const std::vector<std::string>& nodes) {
  ASSERT_OK(call("POST", "/v1/dcs", {{"name", name}, {"nodes", nodes}}));
  dcs_.push_back(name);
}

Result<Json> ClusterTest::try_run(const std::string& dc, const Json& body) {
  return call("POST", "/v1/dcs/" + dc + "/processes", body);
}

Process ClusterTest::run(const std::string& dc, const std::string& node, int endpoint,
                         std::vector<std::string> argv) {
  argv[0] = program(argv[0]);
  Json body = {{"node", node}, {"argv", argv}};
  if (endpoint != kChosen) body["endpoint"] = endpoint;
  auto started = try_run(dc, body);
  EXPECT_OK(started);
  if (!started.ok()) return {};
  started_.push_back({dc, started->at("endpoint"), started->at("pid"), node});
  return started_.back();
}

Process ClusterTest::run(const std::string& dc, const std::string& node,
                         std::vector<std::string> argv) {
  return run(dc, node, kChosen, std::move(argv));
}

void ClusterTest::signal(const Process& process, int number) {
  EXPECT_OK(call(
      "POST", "/v1/dcs/" + process.dc + "/endpoints/" + std::to_string(process.endpoint) + "/kill",
      {{"signal", number}}));
}

Migration ClusterTest::migrate(const Process& process, const std::string& target,
                               const std::function<void(const std::string&)>& on_phase) {
  Json body = {{"dc", process.dc},
               {"endpoint", process.endpoint},
               {"target", target},
               {"timeout_ms", 20'000}};
  body.update(how_);
  auto end = ask(dir_ + "/nodes/" + via_ + "/dvsd.sock", "POST", "/v1/migrations", body,
                 [&](const Json& event) {
                   const std::string phase = event.value("phase", "");
                   if (on_phase && !phase.empty()) on_phase(phase);
                 });
  if (!end.ok()) return end.error();
  return json_get<Json>(*end, "migration");
}

void ClusterTest::must_move(const Process& process, const std::string& target) {
  auto record = migrate(process, target);
  ASSERT_OK(record);
  ASSERT_EQ(record->at("state"), "committed") << record->dump();
  EXPECT_EQ(place(process), std::make_pair(target, process.pid));
}

std::string ClusterTest::state_of(const std::string& node) {
  auto nodes = call("GET", "/v1/nodes");
  for (const Json& each : nodes.ok() ? nodes->at("nodes") : Json::array()) {
    if (each.at("name") == node) return each.at("state");
  }
  return "";
}

Json ClusterTest::processes(const std::string& dc) {
  auto list = call("GET", "/v1/processes?dc=" + dc);
  EXPECT_OK(list);
  return list.ok() ? list->at("processes") : Json::array();
}

std::pair<std::string, int> ClusterTest::place(const Process& process) {
  for (const Json& each : processes(process.dc)) {
    if (each.at("endpoint") == process.endpoint) return {each.at("node"), each.at("pid")};
  }
  return {"", 0};
}

void ClusterTest::arm(const std::string& at, const std::string& fault, bool stop) {
  const std::string socket = dir_ + "/nodes/" + at + "/dvsd.sock";
  ASSERT_OK(ask(socket, "POST", "/v1/faults", {{"point", fault}, {"stop", stop}}));
}

// ---- what programs say --------------------------------------------------------------------------

std::string ClusterTest::log(const Process& process) {
  std::string all;
  for (uint64_t offset = 0;;) {
    auto part =
        call("GET", "/v1/dcs/" + process.dc + "/endpoints/" + std::to_string(process.endpoint) +
                        "/logs?offset=" + std::to_string(offset));
    if (!part.ok() || part->at("data").get<std::string>().empty()) return all;
    all += part->at("data").get<std::string>();
    offset = part->at("end");
  }
}

std::string ClusterTest::log_file(const Process& process) {
  const std::string logs = path_on(process.node, "/run/dvs/dcs/" + process.dc + "/shared/logs");
  auto names = list_dir(logs);
  const std::string slot = std::to_string(slot_index(process.endpoint)) + "-";
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>()) {
    if (name.rfind(slot, 0) == 0) return logs + "/" + name;
  }
  return "";
}

bool ClusterTest::wait_log(const Process& process, const std::string& text, size_t from,
                           std::chrono::milliseconds limit) {
  const bool found = eventually(
      [&] {
        const std::string all = log(process);
        return all.size() > from && all.find(text, from) != std::string::npos;
      },
      limit);
  EXPECT_TRUE(found) << "endpoint " << process.endpoint << " did not say '" << text << "'";
  return found;
}

int ClusterTest::finish_client(const Process& client) {
  signal(client, SIGTERM);
  if (!wait_log(client, "done requests=")) return 0;
  std::smatch match;
  const std::string text = log(client);
  if (!std::regex_search(text, match, std::regex("done requests=(\\d+) errors=(\\d+)"))) return 0;
  EXPECT_EQ(match[2], "0") << text;
  return std::stoi(match[1]);
}

void ClusterTest::expect_done_client(const Process& client, int requests) {
  wait_log(client, "done requests=" + std::to_string(requests) + " errors=0");
}

void ClusterTest::expect_serves(const Process& server, const std::string& node) {
  const Process client =
      run(server.dc, node, {"client", std::to_string(server.endpoint), "1", "10", "0"});
  expect_done_client(client, 10);
}

std::vector<pid_t> ClusterTest::host_pids(const Process& process) {
  std::vector<pid_t> pids;
  auto names = list_dir("/proc");
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>{}) {
    if (is_copy(name, cluster_, process.pid)) pids.push_back(std::stoi(name));
  }
  return pids;
}

int ClusterTest::copies(const Process& process) {
  return static_cast<int>(host_pids(process).size());
}

bool ClusterTest::runs_on(const std::string& name, const std::string& text) {
  const auto list = list_dir(path_on(name, "/proc"));
  for (const std::string& pid : list.ok() ? *list : std::vector<std::string>{}) {
    const auto command = read_file(path_on(name, "/proc/" + pid + "/cmdline"));
    if (command.ok() && command->find(text) != std::string::npos) return true;
  }
  return false;
}

void ClusterTest::expect_nothing_prepared() {
  for (const char* name : {"n1", "n2", "n3"}) {
    for (const char* helper : {"dvs-criu", "dvs-pager"}) {
      EXPECT_TRUE(eventually([&] { return !runs_on(name, helper); })) << helper << " on " << name;
    }
  }
}

// ---- faults -------------------------------------------------------------------------------------

void ClusterTest::kill_dvsd(const std::string& name) {
  const pid_t pid = node(name).dvsd_pid;
  ASSERT_GT(pid, 0);
  ASSERT_EQ(::kill(pid, SIGKILL), 0);
}

void ClusterTest::await_dvsd(const std::string& name, pid_t before) {
  const std::string socket = dir_ + "/nodes/" + name + "/dvsd.sock";
  const bool answers = eventually([&] {
    const pid_t now = node(name).dvsd_pid;
    return now != 0 && now != before && ask(socket, "GET", "/v1/node", nullptr).ok();
  });
  ASSERT_TRUE(answers) << "dvsd of " << name << " did not come back";
  await_links();
}

void ClusterTest::await_links() {
  const auto all_up = [](const local::NodeInfo& node) {
    auto nodes = ask(node.socket, "GET", "/v1/nodes", nullptr);
    if (!nodes.ok()) return false;
    const Json& list = nodes->at("nodes");
    return std::all_of(list.begin(), list.end(), [](const Json& each) {
      return each.at("state") == "up" && each.at("link") != "down";
    });
  };
  EXPECT_TRUE(eventually([&] {
    auto info = local::info(dir_);
    return info.ok() && std::all_of(info->nodes.begin(), info->nodes.end(), all_up);
  })) << "the nodes are not linked";
}

void ClusterTest::power_off(const std::string& name) { ASSERT_OK(local::kill_node(dir_, name)); }

void ClusterTest::power_on(const std::string& name) {
  ASSERT_OK(local::join(dir_, name));
  await_links();
  const auto parts_ready = [&] {
    auto dcs = call("GET", "/v1/dcs");
    if (!dcs.ok()) return false;
    const Json& list = dcs->at("dcs");
    return std::all_of(list.begin(), list.end(),
                       [&](const Json& dc) { return !dc.at("missing").contains(name); });
  };
  EXPECT_TRUE(eventually(parts_ready));
}

void ClusterTest::set_network(const std::string& name, bool up) {
  ChildOptions options;
  options.argv = {"nsenter", "-t",   std::to_string(node(name).holder_pid),
                  "-n",      "ip",   "link",
                  "set",     "eth0", up ? "up" : "down"};
  options.capture_output = true;
  const auto done = run_child_blocking(options);
  ASSERT_OK(done);
  EXPECT_TRUE(done->ok()) << done->output;
}

void ClusterTest::restart_dvsd(const std::string& name) {
  const pid_t before = node(name).dvsd_pid;
  kill_dvsd(name);
  await_dvsd(name, before);
}

std::string ClusterTest::path_on(const std::string& name, const std::string& path) {
  return "/proc/" + std::to_string(node(name).holder_pid) + "/root" + path;
}

}  // namespace dvs::integration
