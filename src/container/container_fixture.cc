#include "container/container_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <thread>

#include "base/file.h"
#include "container/paths.h"

namespace dvs {
namespace fs = std::filesystem;
using std::chrono::steady_clock;
namespace {

constexpr std::chrono::seconds kLimit{20};
constexpr const char* kRun = "/run/dvs";

std::string link_target(const std::string& path) {
  std::error_code ec;
  return fs::read_symlink(path, ec).string();
}

// All processes that live in one of the namespaces; zombies have none.
std::vector<pid_t> processes_of(const std::set<std::string>& namespaces) {
  std::vector<pid_t> found;
  const auto entries = list_dir("/proc");
  for (const auto& name : *entries) {
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    for (const char* kind : {"pid", "mnt", "time"}) {
      if (namespaces.count(link_target("/proc/" + name + "/ns/" + kind)) == 0) continue;
      found.push_back(std::stoi(name));
      break;
    }
  }
  return found;
}

// This process is a subreaper: what containers leave behind becomes its child.
bool no_child_left() {
  while (::waitpid(-1, nullptr, WNOHANG) > 0) continue;
  return ::waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD;
}

std::string sibling(const std::string& name) {
  return (fs::path(self_path()).parent_path() / name).string();
}

}  // namespace

bool eventually(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + kLimit;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::string self_path() { return link_target("/proc/self/exe"); }
std::string helper_path() { return sibling("dvs-container"); }

void ContainerTest::SetUp() {
  auto mounts = read_file("/proc/self/mountinfo");
  ASSERT_TRUE(mounts.ok());
  mounts_before_ = *mounts;
}

void ContainerTest::TearDown() {
  for (auto& container : containers_) {
    auto destroyed = await<bool>([&](Done<bool> done) { container->destroy(std::move(done)); });
    EXPECT_TRUE(destroyed.ok());
  }
  containers_.clear();
  EXPECT_TRUE(run_until(no_child_left)) << "a process outlived its container";
  EXPECT_EQ(processes_of(namespaces_), std::vector<pid_t>());
  EXPECT_EQ(*read_file("/proc/self/mountinfo"), mounts_before_);
  EXPECT_TRUE(remove_tree(kRun).ok());
}

bool ContainerTest::run_until(const std::function<bool()>& condition) {
  const auto deadline = steady_clock::now() + kLimit;
  while (!condition()) {
    if (steady_clock::now() > deadline) return false;
    executor_.restart();
    // Returns at once when there is nothing to wait for: the condition is about something else.
    if (executor_.run_one_for(std::chrono::milliseconds(5)) == 0) ::usleep(200);
  }
  return true;
}

ContainerSpec ContainerTest::spec(const std::string& name) const {
  ContainerSpec spec;
  spec.name = name;
  spec.dir = paths::dc_dir(kRun, name);
  spec.first_pid = 5000;
  spec.last_pid = 5999;
  spec.shown = {fs::path(self_path()).parent_path()};
  return spec;
}

Result<std::unique_ptr<Container>> ContainerTest::try_create(const ContainerSpec& spec) {
  return await<std::unique_ptr<Container>>([&](Done<std::unique_ptr<Container>> done) {
    create_container(executor_, helper_path(), spec, std::move(done));
  });
}

Container& ContainerTest::create(const ContainerSpec& spec) {
  auto created = try_create(spec);
  if (!created) {
    // There is nothing to go on with: the rest of the test would use no container.
    std::fprintf(stderr, "%s\n", created.error().message().c_str());
    std::abort();
  }
  watch(**created);
  containers_.push_back(std::move(*created));
  return *containers_.back();
}

void ContainerTest::watch(const Container& container) {
  for (const char* kind : {"pid", "mnt", "time"}) {
    const std::string ns = "/ns/" + std::string(kind);
    const std::string theirs = link_target("/proc/" + std::to_string(container.init_pid()) + ns);
    ASSERT_NE(theirs, link_target("/proc/self" + ns));
    ASSERT_TRUE(namespaces_.insert(theirs).second) << "containers share the namespace " << theirs;
  }
}

LaunchSpec ContainerTest::shell(const std::string& script) const {
  LaunchSpec spec;
  spec.argv = {"/bin/sh", "-c", script};
  spec.env = {"PATH=/usr/bin:/bin"};
  spec.log_path = "/run/dvs/dc/logs/test.log";
  return spec;
}

Result<std::unique_ptr<Launch>> ContainerTest::try_launch(Container& container, LaunchSpec spec) {
  return await<std::unique_ptr<Launch>>([&](Done<std::unique_ptr<Launch>> done) {
    container.launch(std::move(spec), std::move(done));
  });
}

Task ContainerTest::start(Container& container, LaunchSpec spec) {
  auto launch = try_launch(container, std::move(spec));
  EXPECT_TRUE(launch.ok()) << launch.error().message();
  if (!launch) return {};
  auto gone = await<bool>([&](Done<bool> done) { (*launch)->go(std::move(done)); });
  EXPECT_TRUE(gone.ok()) << gone.error().message();
  return {(*launch)->host_pid(), (*launch)->dc_pid()};
}

int ContainerTest::exit_of(const Container& container, pid_t dc_pid) {
  int status = -1;
  auto recorded = [&] {
    auto exits = read_file(paths::exits_file(container.spec().dir));
    std::istringstream lines(exits.ok() ? *exits : "");
    pid_t pid = 0;
    while (lines >> pid >> status) {
      if (pid == dc_pid) return true;
    }
    return false;
  };
  EXPECT_TRUE(run_until(recorded)) << "the end of process " << dc_pid << " was not recorded";
  return status;
}

std::string ContainerTest::output_of(Container& container, LaunchSpec spec) {
  const std::string log = paths::shared_dir(container.spec().dir) +
                          spec.log_path.substr(std::string("/run/dvs/dc").size());
  const Task task = start(container, std::move(spec));
  exit_of(container, task.dc_pid);
  auto output = read_file(log);
  std::error_code ec;
  fs::remove(log, ec);
  return output.ok() ? *output : output.error().message();
}

size_t ContainerTest::processes_in(const Container& container) {
  return processes_of({link_target("/proc/" + std::to_string(container.init_pid()) + "/ns/pid")})
      .size();
}

}  // namespace dvs
