#include "container/container.h"

#include <signal.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>

#include "base/child.h"
#include "base/clock.h"
#include "base/file.h"
#include "container/container_fixture.h"
#include "container/paths.h"

namespace dvs {
namespace {

// Runs a command inside by the container's prefix.
ChildResult enter(const Container& container, const std::vector<std::string>& command) {
  ChildOptions options;
  options.argv = container.enter_prefix();
  options.argv.insert(options.argv.end(), command.begin(), command.end());
  options.capture_output = true;
  options.timeout = std::chrono::seconds(20);
  auto result = run_child_blocking(std::move(options));
  EXPECT_TRUE(result.ok()) << result.error().message();
  return result.ok() ? *result : ChildResult{};
}

TEST_F(ContainerTest, LivesUntilDestroyedAndLeavesNothing) {
  Container& container = create("a");
  EXPECT_TRUE(container.alive());
  start(container, shell("sleep 100 & sleep 100"));
  ASSERT_TRUE(eventually([&] { return processes_in(container) == 4; }));

  auto destroyed = await<bool>([&](Done<bool> done) { container.destroy(std::move(done)); });
  ASSERT_TRUE(destroyed.ok());
  EXPECT_FALSE(container.alive());
  EXPECT_TRUE(std::filesystem::exists(container.spec().dir));
  // TearDown() looks for processes, mounts and namespaces, and destroys it a second time.
}

TEST_F(ContainerTest, SeesOnlyItsOwnProcesses) {
  Container& container = create("a");
  EXPECT_EQ(output_of(container, "cd /proc; echo [0-9]*; cat /proc/1/comm"), "1 5001\ndvs-init\n");
}

TEST_F(ContainerTest, SeesNothingOfTheNodeOrOtherContainers) {
  ASSERT_TRUE(make_dirs("/run/dvs/dcs/other").ok());
  ASSERT_TRUE(replace_file("/run/dvs/node.json", "{}").ok());
  Container& container = create("a");
  EXPECT_EQ(output_of(container, "ls /run; ls /run/dvs; ls /run/dvs/dc"), "dvs\ndc\nlogs\n");
}

TEST_F(ContainerTest, SeesNothingOfOtherContainersKeptElsewhere) {
  ASSERT_EQ(::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs("/mnt/dvs/dcs/other").ok());
  auto elsewhere = spec("a");
  elsewhere.dir = "/mnt/dvs/dcs/a";
  Container& container = create(elsewhere);
  EXPECT_EQ(output_of(container, "ls /mnt/dvs/dcs; ls /run/dvs/dc"), "logs\n");
  ASSERT_EQ(::umount2("/mnt", MNT_DETACH), 0);
}

// Those of root that need no capability.
TEST_F(ContainerTest, CannotChangeWhatConcernsTheWholeMachine) {
  Container& container = create("a");
  for (const char* path : {"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/ns_last_pid",
                           "/proc/sysrq-trigger", "/etc/hosts", "/usr/new", "/new"}) {
    // An empty word: where it can be written after all, nothing changes.
    const std::string script =
        "{ printf '' >> " + std::string(path) + "; } 2>/dev/null && echo written";
    const bool openable = std::string_view(path).ends_with("ns_last_pid");
    EXPECT_EQ(output_of(container, script), openable ? "written\n" : "") << path;
  }
  EXPECT_EQ(
      output_of(container, "{ echo 9 > /proc/sys/kernel/ns_last_pid; } 2>/dev/null || echo no"),
      "no\n");
  EXPECT_EQ(output_of(container, "ls /sys/fs/cgroup"), "");
  EXPECT_EQ(output_of(container, "mkdir /sys/fs/cgroup/new 2>/dev/null || echo no"), "no\n");
}

TEST_F(ContainerTest, HasDevicesAndDirectoriesOfItsOwn) {
  ASSERT_TRUE(replace_file("/tmp/container_test.file", "of the node").ok());
  Container& container = create("a");
  EXPECT_EQ(output_of(container, "cd /dev; echo *"),
            "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n");
  EXPECT_EQ(output_of(container, "ls /tmp/container_test.file /dev/shm 2>/dev/null"),
            "/dev/shm:\n");
  EXPECT_EQ(output_of(container,
                      "for d in /tmp /var/tmp /dev/shm /run; do echo $d > $d/x; done; "
                      "cat /tmp/x /var/tmp/x /dev/shm/x /run/x"),
            "/tmp\n/var/tmp\n/dev/shm\n/run\n");
  EXPECT_EQ(::unlink("/tmp/container_test.file"), 0);
}

TEST_F(ContainerTest, HasItsOwnSystemVIpc) {
  const int queue = ::msgget(IPC_PRIVATE, 0600);
  ASSERT_GE(queue, 0);
  Container& container = create("a");
  EXPECT_EQ(output_of(container, "wc -l < /proc/sysvipc/msg"), "1\n");  // the heading
  ::msgctl(queue, IPC_RMID, nullptr);
}

TEST_F(ContainerTest, SeesAndWritesWhatItsNodeAllows) {
  char dir[] = "/tmp/container_test.XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  const std::string node = dir;
  for (const char* name : {"/shown", "/writable", "/hidden"}) {
    ASSERT_TRUE(make_dirs(node + name).ok());
    ASSERT_TRUE(replace_file(node + name + "/file", "of the node\n").ok());
  }
  ASSERT_EQ(::mount("tmpfs", "/mnt", "tmpfs", 0, nullptr), 0);
  ASSERT_TRUE(make_dirs("/mnt/hidden/secret").ok());
  auto allowed = spec("a");
  allowed.shown.push_back(node + "/shown");
  allowed.writable.push_back(node + "/writable");
  allowed.hidden.push_back("/mnt/hidden");
  Container& container = create(allowed);
  EXPECT_EQ(output_of(container, "cd " + node +
                                     "; echo *; { echo x > shown/file; } 2>/dev/null; "
                                     "echo x > writable/file; cat */file; ls /mnt/hidden"),
            "shown writable\nof the node\nx\n");
  EXPECT_EQ(*read_file(node + "/writable/file"), "x\n");
  ASSERT_EQ(::umount2("/mnt", MNT_DETACH), 0);
  EXPECT_TRUE(remove_tree(node).ok());
}

TEST_F(ContainerTest, ProgramsCannotReadTheEnvironmentOfTheDaemon) {
  ::setenv("DVS_TEST_SECRET", "secret", 1);
  Container& container = create("a");
  ::unsetenv("DVS_TEST_SECRET");
  EXPECT_EQ(output_of(container, "cat /proc/1/environ 2>/dev/null | wc -c"), "0\n");
}

TEST_F(ContainerTest, ShiftsMonotonicAndBoottimeClocks) {
  constexpr int64_t kSecond = 1'000'000'000;
  // This process's own time namespace may be shifted against the initial one already.
  int64_t own = 0;
  std::istringstream offsets(*read_file("/proc/self/timens_offsets"));
  std::string clock;
  int64_t seconds = 0, nanoseconds = 0;
  offsets >> clock >> seconds >> nanoseconds;
  own = seconds * kSecond + nanoseconds;

  for (const int64_t offset : {4000 * kSecond + 5, -kSecond / 2 - 7}) {
    auto shifted = spec("a" + std::to_string(offset));
    shifted.monotonic_offset_ns = offset;
    Container& container = create(shifted);
    auto probe = shell("");
    probe.argv = {self_path(), "clocks"};
    const int64_t before = monotonic_ns();
    std::istringstream output(output_of(container, probe));
    const int64_t after = monotonic_ns();
    int64_t monotonic = 0, boottime = 0;
    output >> monotonic >> boottime;
    EXPECT_GE(monotonic - offset + own, before);
    EXPECT_LE(monotonic - offset + own, after);
    EXPECT_GE(boottime, monotonic);  // this machine may have been suspended
  }
}

TEST_F(ContainerTest, RefusesAClockBeforeTheBeginningOfTime) {
  auto wrong = spec("a");
  wrong.monotonic_offset_ns = -1'000'000'000'000'000'000;
  auto created = try_create(wrong);
  ASSERT_FALSE(created.ok());
  EXPECT_NE(created.error().message().find("cannot set the container's clock"), std::string::npos)
      << created.error().message();
}

TEST_F(ContainerTest, RefusesProcessIdsThatTheKernelDoesNotHave) {
  auto wrong = spec("a");
  wrong.last_pid = 5'000'000;
  auto created = try_create(wrong);
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.error().code(), Code::kUnsupported);
  EXPECT_NE(created.error().message().find("kernel.pid_max"), std::string::npos);
}

TEST_F(ContainerTest, KeepsProcessIdsInTheRange) {
  auto narrow = spec("a");
  narrow.first_pid = 40'000;  // above the pid_max of many machines
  narrow.last_pid = 40'004;
  Container& container = create(narrow);
  for (int i = 0; i < 12; ++i) {
    const Task task = start(container, shell(":"));
    EXPECT_GE(task.dc_pid, narrow.first_pid);
    EXPECT_LE(task.dc_pid, narrow.last_pid);
    exit_of(container, task.dc_pid);
    ASSERT_TRUE(std::filesystem::remove(paths::exits_file(narrow.dir)));
  }
}

TEST_F(ContainerTest, SaysWhenTheRangeIsFull) {
  auto narrow = spec("a");
  narrow.first_pid = 7000;
  narrow.last_pid = 7001;
  Container& container = create(narrow);
  std::set<pid_t> pids;
  for (int i = 0; i < 2; ++i) pids.insert(start(container, shell("exec sleep 100")).dc_pid);
  EXPECT_EQ(pids, (std::set<pid_t>{7000, 7001}));
  auto launch = try_launch(container, shell(":"));
  ASSERT_FALSE(launch.ok());
  EXPECT_EQ(launch.error().code(), Code::kNoSpace);
  EXPECT_EQ(processes_in(container), 3u);
}

TEST_F(ContainerTest, ReapsAtOnceAndRecordsTheStatus) {
  Container& container = create("a");
  EXPECT_EQ(exit_of(container, start(container, shell("exit 7")).dc_pid), 7 << 8);

  const Task task = start(container, shell("exec sleep 100"));
  ASSERT_EQ(::kill(task.host_pid, SIGKILL), 0);
  EXPECT_EQ(exit_of(container, task.dc_pid), SIGKILL);
  EXPECT_TRUE(eventually([&] { return ::kill(task.host_pid, 0) != 0; })) << "still a zombie";

  // A child whose parent went first.
  const std::string orphan = output_of(container, "sh -c 'sleep 0.05; exit 9' & echo $!");
  EXPECT_EQ(exit_of(container, std::stoi(orphan)), 9 << 8);
}

TEST_F(ContainerTest, GoesOnReapingWhateverStandsInPlaceOfTheExitsFile) {
  Container& container = create("a");
  const std::string exits = paths::exits_file(container.spec().dir);
  ASSERT_EQ(::mkfifo(exits.c_str(), 0644), 0);
  const Task task = start(container, shell(":"));
  EXPECT_TRUE(eventually([&] { return ::kill(task.host_pid, 0) != 0; })) << "not reaped";
  ASSERT_TRUE(std::filesystem::remove(exits));
  EXPECT_EQ(exit_of(container, start(container, shell("exit 1")).dc_pid), 1 << 8);
}

TEST_F(ContainerTest, IsFoundAgainAfterARestart) {
  Container& before = create("a");
  const auto handle = container_handle(before);
  ASSERT_TRUE(handle.ok());
  auto after = reopen_container(executor_, helper_path(), before.spec(), *handle);
  ASSERT_TRUE(after.ok()) << after.error().message();
  EXPECT_TRUE((*after)->alive());
  EXPECT_EQ(output_of(**after, "echo hello"), "hello\n");
}

TEST_F(ContainerTest, ADeadOneIsNotFoundAgain) {
  Container& container = create("a");
  auto handle = *container_handle(container);
  auto other = handle;
  other.init_start_time += 1;  // its id was used again
  auto reopened = reopen_container(executor_, helper_path(), container.spec(), other);
  ASSERT_FALSE(reopened.ok());
  EXPECT_EQ(reopened.error().code(), Code::kNotFound);

  ASSERT_TRUE(await<bool>([&](Done<bool> done) { container.destroy(std::move(done)); }).ok());
  reopened = reopen_container(executor_, helper_path(), container.spec(), handle);
  ASSERT_FALSE(reopened.ok());
  EXPECT_EQ(reopened.error().code(), Code::kNotFound);

  auto launch = try_launch(container, shell(":"));
  ASSERT_FALSE(launch.ok());
  EXPECT_EQ(launch.error().code(), Code::kNotFound) << launch.error().message();
  EXPECT_EQ(enter(container, {"/bin/true"}).exit_code, 125);
}

TEST_F(ContainerTest, TwoShareNothing) {
  Container& a = create("a");
  auto other_range = spec("b");
  other_range.first_pid = 6000;
  other_range.last_pid = 6999;
  Container& b = create(other_range);
  EXPECT_EQ(output_of(a, "echo mine > /run/dvs/dc/file; cat /run/dvs/dc/file"), "mine\n");
  EXPECT_EQ(output_of(b, "cat /run/dvs/dc/file 2>/dev/null || echo none"), "none\n");
  const Task task = start(a, shell("exec sleep 100"));
  EXPECT_EQ(output_of(b, "kill -0 " + std::to_string(task.dc_pid) + " 2>/dev/null || echo none"),
            "none\n");
  ASSERT_TRUE(await<bool>([&](Done<bool> done) { a.destroy(std::move(done)); }).ok());
  EXPECT_TRUE(b.alive());
}

TEST_F(ContainerTest, EnterPassesOnHowTheProgramEnded) {
  Container& container = create("a");
  EXPECT_EQ(enter(container, {"/bin/true"}).exit_code, 0);
  EXPECT_EQ(enter(container, {"/bin/sh", "-c", "exit 42"}).exit_code, 42);
  EXPECT_EQ(enter(container, {"/bin/sh", "-c", "kill -9 $$"}).exit_code, 128 + SIGKILL);
  const auto missing = enter(container, {"/no/such/program"});
  EXPECT_EQ(missing.exit_code, 127);
  EXPECT_NE(missing.output.find("/no/such/program"), std::string::npos);
  EXPECT_EQ(enter(container, {"/etc/passwd"}).exit_code, 126);
}

TEST_F(ContainerTest, EnterRunsInsideWithTheStdioGiven) {
  Container& container = create("a");
  EXPECT_EQ(enter(container, {"sh", "-c", "pwd; ls /run/dvs; cat /proc/1/comm"}).output,
            "/\ndc\ndvs-init\n");
}

// Starts `command` inside, in the background; its result is put into `result`.
pid_t enter_in_background(Executor& executor, const Container& container, const char* script,
                          std::optional<ChildResult>& result) {
  ChildOptions options;
  options.argv = container.enter_prefix();
  options.argv.insert(options.argv.end(), {"/bin/sh", "-c", script});
  auto pid = run_child(executor, std::move(options), [&](ChildResult ended) { result = ended; });
  EXPECT_TRUE(pid.ok());
  return pid.ok() ? *pid : 0;
}

TEST_F(ContainerTest, AKilledEnterTakesItsProgramAlong) {
  Container& container = create("a");
  std::optional<ChildResult> result;
  const pid_t helper = enter_in_background(executor_, container, "exec sleep 100", result);
  ASSERT_TRUE(eventually([&] { return processes_in(container) == 2; }));
  ASSERT_EQ(::kill(helper, SIGKILL), 0);
  ASSERT_TRUE(run_until([&] { return result.has_value(); }));
  EXPECT_TRUE(eventually([&] {
    // Its parent is gone: this process inherits it, as the machine's first process would.
    ::waitpid(-1, nullptr, WNOHANG);
    return processes_in(container) == 1;
  }));
}

TEST_F(ContainerTest, EnterForwardsTheWishToEnd) {
  Container& container = create("a");
  std::optional<ChildResult> result;
  const pid_t helper = enter_in_background(
      executor_, container, "trap 'exit 9' TERM; : > /run/dvs/dc/up; while :; do sleep 0.01; done",
      result);
  const std::string up = paths::shared_dir(container.spec().dir) + "/up";
  ASSERT_TRUE(eventually([&] { return std::filesystem::exists(up); }));
  ASSERT_EQ(::kill(helper, SIGTERM), 0);
  ASSERT_TRUE(run_until([&] { return result.has_value(); }));
  EXPECT_EQ(result->exit_code, 9);
}

}  // namespace
}  // namespace dvs
