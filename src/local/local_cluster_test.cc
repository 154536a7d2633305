#include "local/local_cluster.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "local/layout.h"
#include "local/process.h"

namespace dvs::local {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono::steady_clock;

std::string message(const Status& status) { return status.ok() ? "" : status.error().message(); }

#define ASSERT_OK(expr)                            \
  do {                                             \
    const Status status_ = (expr);                 \
    ASSERT_TRUE(status_.ok()) << message(status_); \
  } while (false)

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + 10s;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

std::string run(std::vector<std::string> argv) {
  ChildOptions options;
  options.argv = std::move(argv);
  options.capture_output = true;
  options.timeout = 10s;
  auto result = run_child_blocking(options);
  if (!result.ok()) return result.error().message();
  return result->ok() ? result->output : result->describe() + ": " + result->output;
}

// Host-wide things that a cluster must not leave behind.
std::string mounts_and_interfaces() {
  auto mounts = read_file("/proc/self/mountinfo");
  auto interfaces = list_dir("/sys/class/net");
  return (mounts.ok() ? *mounts : "") +
         Json(interfaces.ok() ? *interfaces : std::vector<std::string>()).dump();
}

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

bool running(pid_t pid, uint64_t start) {
  if (!open_process(pid, start)) return false;
  auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  return stat.ok() && stat->find(") Z ") == std::string::npos;
}

std::vector<std::string> commands_with(const std::string& text) {
  std::vector<std::string> found;
  auto names = list_dir("/proc");
  for (const auto& name : names.ok() ? *names : std::vector<std::string>()) {
    if (std::stoi("0" + name.substr(0, name.find_first_not_of("0123456789"))) == 0) continue;
    auto command = read_file("/proc/" + name + "/cmdline");
    if (command.ok() && command->find(text) != std::string::npos) found.push_back(*command);
  }
  return found;
}

class LocalCluster : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0u) << "needs root";
    char name[] = "/tmp/dvs-local-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    options_.dir = dir_;
    options_.bin_dir = bin();
    options_.dvsd_program = bin() + "/fake_dvsd";
    before_ = mounts_and_interfaces();
  }
  void TearDown() override {
    if (dir_.empty()) return;
    EXPECT_TRUE(down(dir_).ok());
    (void)remove_tree(dir_);
  }

  static std::string bin() {
    const char* build = std::getenv("DVS_BUILD_DIR");
    return std::string(build == nullptr ? "." : build) + "/bin";
  }

  Info must_info() {
    auto result = info(dir_);
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() ? *result : Info{};
  }
  NodeInfo node(size_t index) {
    const Info now = must_info();
    return index < now.nodes.size() ? now.nodes[index] : NodeInfo{};
  }
  // The output of a shell command inside a node, or what went wrong.
  std::string in_node(size_t index, const std::string& script) {
    return run({"nsenter", "-t", std::to_string(node(index).holder_pid), "-m", "-n", "-p", "bash",
                "-c", script});
  }
  // A process of the node that is no child of dvsd; as seen from here.
  pid_t start_in_node(size_t index) {
    const std::string out =
        in_node(index, "cd /; setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $!");
    const pid_t holder = node(index).holder_pid;
    pid_t found = 0;
    EXPECT_TRUE(eventually([&] {
      for (const auto& child : children_of(holder)) {
        if (std::to_string(child.inner_pid) + "\n" == out) found = child.pid;
      }
      return found != 0;
    })) << out;
    return found;
  }
  // Puts a process into a cgroup of the node, as dvsd does with tasks, and freezes it.
  void freeze(pid_t pid, const std::string& node_name, const std::string& hierarchy) {
    const bool v1 = is_v1(hierarchy);
    group_ = hierarchy + "/" + cluster_group(dir_) + "/" + node_name + "/dc/task";
    ASSERT_OK(make_dirs(group_));
    ASSERT_OK(write_control_file(group_ + "/cgroup.procs", std::to_string(pid)));
    ASSERT_OK(write_control_file(group_ + (v1 ? "/freezer.state" : "/cgroup.freeze"),
                                 v1 ? "FROZEN" : "1"));
    ASSERT_TRUE(eventually([&] {
      auto state = read_file(group_ + (v1 ? "/freezer.state" : "/cgroup.events"));
      return state.ok() && (*state == "FROZEN\n" || state->find("frozen 1") != std::string::npos);
    }));
  }

  static bool is_v1(const std::string& hierarchy) { return hierarchy.ends_with("/freezer"); }
  // Where this host can freeze: v1's freezer, v2, or both.
  static std::vector<std::string> hierarchies() {
    std::vector<std::string> found;
    for (const std::string path :
         {"/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (exists(path + "/cgroup.procs")) found.push_back(path);
    }
    return found;
  }

  void expect_nothing_left() {
    EXPECT_EQ(commands_with(dir_), std::vector<std::string>());
    EXPECT_EQ(mounts_and_interfaces(), before_);
    EXPECT_FALSE(exists(dir_));
    EXPECT_EQ(run({"find", "/sys/fs/cgroup", "-name", cluster_name(dir_)}), "");
  }

  std::string dir_;
  std::string group_;
  std::string before_;
  UpOptions options_;
};

TEST_F(LocalCluster, NodesReachEachOtherAndEtcdAndHaveTheirOwnRun) {
  std::vector<std::string> progress;
  options_.progress = [&](const std::string& line) { progress.push_back(line); };
  const auto begin = steady_clock::now();
  ASSERT_OK(up(options_));
  std::printf("up with 3 nodes: %.0f ms\n",
              std::chrono::duration<double, std::milli>(steady_clock::now() - begin).count());
  EXPECT_GE(progress.size(), 3u);

  const Info now = must_info();
  ASSERT_EQ(now.nodes.size(), 3u);
  EXPECT_GT(now.etcd_pid, 0);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_GT(now.nodes[i].dvsd_pid, 0) << i;
    const std::string neighbour = now.nodes[(i + 1) % 3].address;
    EXPECT_EQ(in_node(i, "exec 3<>/dev/tcp/" + neighbour + "/7000 && echo connected"),
              "connected\n");
    EXPECT_NE(in_node(i,
                      "exec 3<>/dev/tcp/10.88.255.254/2379; "
                      "printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3")
                  .find("\"true\""),
              std::string::npos);
    EXPECT_EQ(in_node(i, "stat -f -c %T /run; stat -c %a /run; ls -A /run"), "tmpfs\n755\n");
    EXPECT_EQ(in_node(i, "touch /run/mine && cat /proc/1/comm"), "dvs-node\n");
  }
  ASSERT_OK(down(dir_));
  expect_nothing_left();
}

TEST_F(LocalCluster, DvsdComesBackAndTheNodesOtherProcessesLiveOn) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const pid_t other = start_in_node(0);
  const auto other_start = start_time(other);
  ASSERT_TRUE(other_start.ok());
  const pid_t dvsd = node(0).dvsd_pid;
  ASSERT_GT(dvsd, 1);
  ::kill(dvsd, SIGKILL);
  pid_t again = 0;
  EXPECT_TRUE(eventually([&] { return (again = node(0).dvsd_pid) != 0 && again != dvsd; }));
  EXPECT_TRUE(running(other, *other_start));
}

TEST_F(LocalCluster, DvsdStaysDownWhenAskedTo) {
  options_.nodes = 1;
  options_.restart_dvsd = false;
  ASSERT_OK(up(options_));
  ::kill(node(0).dvsd_pid, SIGKILL);
  EXPECT_TRUE(eventually([&] { return node(0).dvsd_pid == 0; }));
  // The holder has reaped it and has nothing else to do.
  EXPECT_TRUE(eventually([&] { return children_of(node(0).holder_pid).empty(); }));
  EXPECT_EQ(node(0).dvsd_pid, 0);
}

TEST_F(LocalCluster, OrphansInANodeAreReapedAtOnce) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  ::kill(start_in_node(0), SIGKILL);
  EXPECT_TRUE(eventually([&] { return children_of(node(0).holder_pid).size() == 1; }));
}

TEST_F(LocalCluster, KillNodeEndsAllOfOneNodeAndJoinBringsItBack) {
  ASSERT_OK(up(options_));
  const pid_t inside = start_in_node(1);
  const auto inside_start = start_time(inside);
  ASSERT_TRUE(inside_start.ok());
  freeze(inside, "n2", hierarchies().at(0));
  const NodeInfo first = node(0);
  ASSERT_EQ(in_node(1, "touch /run/mine; echo done"), "done\n");

  ASSERT_OK(kill_node(dir_, "n2"));
  EXPECT_FALSE(running(inside, *inside_start));
  EXPECT_FALSE(exists(group_));
  EXPECT_EQ(node(1).holder_pid, 0);
  EXPECT_EQ(node(1).dvsd_pid, 0);
  EXPECT_EQ(node(0).dvsd_pid, first.dvsd_pid);

  ASSERT_OK(join(dir_, "n2"));
  EXPECT_EQ(node(1).address, "10.88.0.2");
  EXPECT_EQ(in_node(0, "exec 3<>/dev/tcp/10.88.0.2/7000 && echo connected"), "connected\n");
  EXPECT_EQ(in_node(1, "ls /run"), "");
}

TEST_F(LocalCluster, EtcdKeepsItsPlaceInTheNetworkWhileNodesComeAndGo) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const std::string seen = "exec 3<>/dev/tcp/10.88.255.254/2379 && ip neighbour show 10.88.255.254";
  for (const char* name : {"n2", "n3", "n4"}) ASSERT_OK(join(dir_, name));
  EXPECT_NE(in_node(0, seen).find(kHubMac), std::string::npos) << in_node(0, seen);
  for (const char* name : {"n2", "n3", "n4"}) ASSERT_OK(kill_node(dir_, name));
  EXPECT_NE(in_node(0, "ip neighbour flush all;" + seen).find(kHubMac), std::string::npos);
}

TEST_F(LocalCluster, JoinAddsANode) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  ASSERT_OK(join(dir_, "extra"));
  EXPECT_EQ(node(1).name, "extra");
  EXPECT_GT(node(1).dvsd_pid, 0);
  EXPECT_EQ(in_node(0, "exec 3<>/dev/tcp/10.88.0.2/7000 && echo connected"), "connected\n");

  const Status twice = join(dir_, "extra");
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().code(), Code::kConflict);
  const Status bad = join(dir_, "../n1");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code(), Code::kInvalid);
}

TEST_F(LocalCluster, EtcdKeepsItsDataOverAKill) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const auto etcd = [&](const std::string& call, const std::string& body) {
    return in_node(0,
                   fmt::format("exec 3<>/dev/tcp/10.88.255.254/2379 && printf 'POST /v3/kv/{} "
                               "HTTP/1.0\\r\\nContent-Length: {}\\r\\n\\r\\n%s' '{}' >&3; cat <&3",
                               call, body.size(), body));
  };
  const std::string put = etcd("put", R"({"key":"Zm9v","value":"YmFy"})");
  ASSERT_NE(put.find("revision"), std::string::npos) << put;

  ASSERT_OK(stop_etcd(dir_));
  EXPECT_EQ(must_info().etcd_pid, 0);
  EXPECT_NE(etcd("range", "{}").find("refused"), std::string::npos);

  ASSERT_OK(start_etcd(dir_));
  EXPECT_GT(must_info().etcd_pid, 0);
  const std::string got = etcd("range", R"({"key":"Zm9v"})");
  EXPECT_NE(got.find("YmFy"), std::string::npos) << got;
}

TEST_F(LocalCluster, NodesMayHaveShiftedClocks) {
  options_.nodes = 2;
  options_.clock_offsets_s = {0, 4000};
  ASSERT_OK(up(options_));
  const auto uptime_of_dvsd = [&](size_t index) {
    return std::stod(
        run({"nsenter", "-t", std::to_string(node(index).dvsd_pid), "-T", "cat", "/proc/uptime"}));
  };
  EXPECT_NEAR(uptime_of_dvsd(1) - uptime_of_dvsd(0), 4000, 100);
}

TEST_F(LocalCluster, DownEndsFrozenProcessesToo) {
  ASSERT_OK(up(options_));
  std::vector<std::pair<pid_t, uint64_t>> frozen;
  for (const auto& hierarchy : hierarchies()) {
    const pid_t pid = start_in_node(2);
    const auto start = start_time(pid);
    ASSERT_TRUE(start.ok());
    freeze(pid, "n3", hierarchy);
    frozen.emplace_back(pid, *start);
  }
  ASSERT_OK(down(dir_));
  for (const auto& [pid, start] : frozen) EXPECT_FALSE(running(pid, start));
  expect_nothing_left();
  ASSERT_OK(down(dir_));
}

TEST_F(LocalCluster, TwoClustersDoNotMeet) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const std::string other = dir_ + "-other";
  options_.dir = other;
  const Status second = up(options_);
  EXPECT_TRUE(second.ok()) << message(second);
  ASSERT_OK(down(other));
  EXPECT_FALSE(exists(other));
  EXPECT_EQ(in_node(0, "exec 3<>/dev/tcp/10.88.0.1/7000 && echo connected"), "connected\n");
}

TEST_F(LocalCluster, NothingOutlivesAKilledSupervisorAndDownClearsTheRest) {
  ASSERT_OK(up(options_));
  start_in_node(0);
  const pid_t supervisor = must_info().supervisor_pid;
  ASSERT_GT(supervisor, 1);
  ::kill(supervisor, SIGKILL);
  EXPECT_TRUE(eventually([&] { return commands_with(dir_).empty(); }));
  EXPECT_FALSE(info(dir_).ok());
  ASSERT_OK(down(dir_));
  expect_nothing_left();
}

TEST_F(LocalCluster, UpClearsWhatAKilledSupervisorLeftEvenFrozenProcesses) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const pid_t inside = start_in_node(0);
  const auto inside_start = start_time(inside);
  ASSERT_TRUE(inside_start.ok());
  freeze(inside, "n1", hierarchies().at(0));
  ::kill(must_info().supervisor_pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return !info(dir_).ok(); }));
  ASSERT_OK(up(options_));
  EXPECT_FALSE(running(inside, *inside_start));
  EXPECT_GT(node(0).dvsd_pid, 0);
}

TEST_F(LocalCluster, GoesAwayWithItsCallerWhenAskedTo) {
  options_.nodes = 1;
  options_.die_with_caller = true;
  int told[2];
  ASSERT_EQ(::pipe2(told, O_CLOEXEC), 0);
  const pid_t caller = ::fork();
  if (caller == 0) {
    const Status status = up(options_);
    (void)!::write(told[1], status.ok() ? "y" : "n", 1);
    for (;;) ::pause();
  }
  char answer = 0;
  ASSERT_EQ(::read(told[0], &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_GT(node(0).dvsd_pid, 0);
  const pid_t inside = start_in_node(0);
  const auto inside_start = start_time(inside);
  ASSERT_TRUE(inside_start.ok());
  freeze(inside, "n1", hierarchies().at(0));

  ::kill(caller, SIGKILL);
  ::waitpid(caller, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return commands_with(dir_).empty() && !exists(dir_); }));
  EXPECT_FALSE(running(inside, *inside_start));
  expect_nothing_left();
}

TEST_F(LocalCluster, UpTwiceIsAConflictAndHarmsNothing) {
  options_.nodes = 1;
  ASSERT_OK(up(options_));
  const pid_t dvsd = node(0).dvsd_pid;
  const Status twice = up(options_);
  ASSERT_FALSE(twice.ok());
  EXPECT_EQ(twice.error().code(), Code::kConflict);
  EXPECT_NE(twice.error().message().find("dvs down"), std::string::npos);
  EXPECT_EQ(node(0).dvsd_pid, dvsd);
}

TEST_F(LocalCluster, ADvsdThatFailsIsShownAndEverythingIsTakenDown) {
  options_.nodes = 2;
  options_.dvsd_args = {"--broken"};
  options_.dvsd_limit = 300ms;
  const Status failed = up(options_);
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message().find("fake dvsd is broken on purpose"), std::string::npos)
      << failed.error().message();
  expect_nothing_left();
}

TEST_F(LocalCluster, RefusesDirectoriesItCannotUse) {
  const auto code_for = [&](const std::string& dir) {
    options_.dir = dir;
    const Status status = up(options_);
    EXPECT_FALSE(status.ok()) << dir;
    return status.ok() ? Code::kInternal : status.error().code();
  };
  EXPECT_EQ(code_for("/run/dvs-local-test"), Code::kInvalid);
  EXPECT_EQ(code_for("/var/run/dvs-local-test"), Code::kInvalid);
  EXPECT_EQ(code_for(dir_ + "/" + std::string(100, 'x')), Code::kInvalid);
  EXPECT_EQ(code_for(""), Code::kInvalid);

  ASSERT_OK(replace_file(dir_ + "/precious", "data"));
  EXPECT_EQ(code_for(dir_), Code::kInvalid);
  ASSERT_OK(down(dir_));
  EXPECT_TRUE(exists(dir_ + "/precious"));
}

TEST_F(LocalCluster, NamesTheProgramThatIsMissing) {
  options_.dvsd_program = dir_ + "/no-dvsd";
  const Status failed = up(options_);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), Code::kNotFound);
  EXPECT_NE(failed.error().message().find("no-dvsd"), std::string::npos);
}

TEST_F(LocalCluster, NeedsRoot) {
  ASSERT_EQ(::seteuid(65534), 0);
  const Status failed = up(options_);
  ASSERT_EQ(::seteuid(0), 0);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), Code::kDenied);
}

// A cluster that dies with its caller removes its directory itself, maybe while down() looks at it.
TEST_F(LocalCluster, DownTakesADirectoryThatVanishesMeanwhile) {
  const std::string dir = dir_ + "/vanishes";
  ASSERT_OK(make_dirs(dir_));
  std::atomic<bool> over = false;
  std::thread other([&] {
    while (!over) {
      ::mkdir(dir.c_str(), 0755);
      ::rmdir(dir.c_str());
    }
  });
  Status ended;
  for (int i = 0; i < 5000 && ended.ok(); ++i) ended = down(dir);
  over = true;
  other.join();
  ASSERT_OK(ended);
}

TEST_F(LocalCluster, WithoutAClusterCommandsSaySo) {
  EXPECT_EQ(info(dir_).error().code(), Code::kNotFound);
  EXPECT_EQ(join(dir_, "n1").error().code(), Code::kNotFound);
  EXPECT_TRUE(down(dir_ + "/nothing").ok());
}

}  // namespace
}  // namespace dvs::local
