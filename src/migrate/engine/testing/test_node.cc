#include "migrate/engine/testing/test_node.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/child.h"
#include "base/file.h"

namespace dvs::testing {
namespace {

constexpr const char* kState = "/run/dvs/state";
constexpr const char* kLog = "/run/dvs/victim.log";
constexpr const char* kV1Freezer = "/sys/fs/cgroup/freezer";
constexpr const char* kV2Root = "/sys/fs/cgroup";
constexpr int kFirstVictimPid = 5000;

bool directory_exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// The namespaces' first process. Never returns.
[[noreturn]] void be_init(int ready) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  struct sigaction reap {};
  reap.sa_handler = SIG_IGN;
  reap.sa_flags = SA_NOCLDWAIT;
  ::sigaction(SIGCHLD, &reap, nullptr);
  const bool mounted = ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount("proc", "/proc", "proc", 0, nullptr) == 0 &&
                       ::mount("tmpfs", "/run", "tmpfs", 0, "size=256m") == 0 &&
                       ::mkdir("/run/dvs", 0755) == 0;
  if (!mounted || ::write(ready, "x", 1) != 1) ::_exit(1);
  ::close(ready);
  for (;;) ::pause();
}

// Creates the namespaces and waits for the end of their first process.
[[noreturn]] void be_parent(int64_t clock_offset_s, int ready) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME) != 0) ::_exit(1);
  const std::string offsets = "monotonic " + std::to_string(clock_offset_s) + " 0\nboottime " +
                              std::to_string(clock_offset_s) + " 0\n";
  if (!write_control_file("/proc/self/timens_offsets", offsets).ok()) ::_exit(1);
  const pid_t init = ::fork();
  if (init == 0) be_init(ready);
  if (init < 0) ::_exit(1);
  ::close(ready);
  int status = 0;
  ::waitpid(init, &status, 0);
  ::_exit(0);
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

std::string runner_program() { return RUNNER_PROGRAM; }

TestNode::TestNode(const std::string& name, int64_t clock_offset_s) {
  v2_ = !directory_exists(kV1Freezer);
  cgroup_ = std::string(v2_ ? kV2Root : kV1Freezer) + "/dvs_engine_test_" +
            std::to_string(::getpid()) + "_" + name;
  DVS_CHECK(make_dirs(cgroup_).ok(), "{}", cgroup_);
  start_namespaces(clock_offset_s);
  map_state();
}

void TestNode::start_namespaces(int64_t clock_offset_s) {
  int ends[2];
  DVS_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  parent_ = ::fork();
  DVS_CHECK(parent_ >= 0);
  if (parent_ == 0) {
    ::close(ends[0]);
    be_parent(clock_offset_s, ends[1]);
  }
  ::close(ends[1]);
  char ready = 0;
  const bool made = ::read(ends[0], &ready, 1) == 1;
  ::close(ends[0]);
  DVS_CHECK(made, "cannot create namespaces; are you root?");
  const std::string id = std::to_string(parent_);
  const auto children = read_file("/proc/" + id + "/task/" + id + "/children");
  init_ = children.ok() ? std::atoi(children->c_str()) : 0;
  DVS_CHECK(init_ > 0);
}

void TestNode::map_state() {
  const std::string path = outside(kState);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  DVS_CHECK(fd >= 0 && ::ftruncate(fd, sizeof(SharedState)) == 0, "{}", path);
  void* mapped = ::mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  DVS_CHECK(mapped != MAP_FAILED);
  ::close(fd);
  state_ = static_cast<SharedState*>(mapped);
}

TestNode::~TestNode() {
  kill_members();
  ::munmap(state_, sizeof(SharedState));
  ::kill(init_, SIGKILL);
  ::waitpid(parent_, nullptr, 0);
  ::rmdir(cgroup_.c_str());
}

std::vector<std::string> TestNode::prefix() const {
  return {"nsenter", "-t", std::to_string(init_), "-p", "-m", "-T", "--"};
}

std::string TestNode::outside(const std::string& path) const {
  return "/proc/" + std::to_string(init_) + "/root" + path;
}

EngineSite TestNode::site(const std::string& name) const {
  const std::string dir = "/run/dvs/engine/" + name;
  return {prefix(), outside(dir)};
}

Result<std::string> TestNode::run(std::vector<std::string> command) const {
  ChildOptions options;
  options.argv = prefix();
  options.argv.insert(options.argv.end(), command.begin(), command.end());
  options.capture_output = true;
  options.timeout = std::chrono::seconds(20);
  DVS_ASSIGN(const ChildResult result, run_child_blocking(std::move(options)));
  if (!result.ok()) return Error(Code::kInternal, result.describe() + ": " + result.output);
  return result.output;
}

Result<pid_t> TestNode::start_victim(const std::string& mode) {
  DVS_TRY(run(
      {"sh", "-c", "echo " + std::to_string(kFirstVictimPid) + " >/proc/sys/kernel/ns_last_pid"}));
  DVS_ASSIGN(const std::string output, run({VICTIM_PROGRAM, mode, kState, kLog, procs_file()}));
  const bool ready = eventually([&] { return state_->ready != 0 || members().empty(); });
  if (ready && state_->ready != 0) return std::atoi(output.c_str());
  const auto log = read_file(outside(kLog));
  return Error(Code::kUnsupported, "the victim does not start: " + (log.ok() ? *log : ""));
}

std::vector<pid_t> TestNode::members() const {
  std::vector<pid_t> pids;
  const auto content = read_file(procs_file());
  std::istringstream words(content.ok() ? *content : "");
  for (pid_t pid = 0; words >> pid;) pids.push_back(pid);
  return pids;
}

void TestNode::freeze() const {
  const auto file = cgroup_ + (v2_ ? "/cgroup.freeze" : "/freezer.state");
  DVS_CHECK(write_control_file(file, v2_ ? "1" : "FROZEN").ok());
  DVS_CHECK(eventually([this] { return frozen(); }));
}

void TestNode::thaw() const {
  const auto file = cgroup_ + (v2_ ? "/cgroup.freeze" : "/freezer.state");
  DVS_CHECK(write_control_file(file, v2_ ? "0" : "THAWED").ok());
}

bool TestNode::frozen() const {
  const auto content = read_file(cgroup_ + (v2_ ? "/cgroup.events" : "/freezer.state"));
  return content.ok() && content->find(v2_ ? "frozen 1" : "FROZEN") != std::string::npos;
}

void TestNode::kill_members() const {
  for (const pid_t pid : members()) ::kill(pid, SIGKILL);
  thaw();
  DVS_CHECK(eventually([this] {
    for (const pid_t pid : members()) ::kill(pid, SIGKILL);
    return members().empty();
  }));
}

}  // namespace dvs::testing
