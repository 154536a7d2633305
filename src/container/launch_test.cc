#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "base/unique_fd.h"
#include "container/container_fixture.h"
#include "container/paths.h"

namespace dvs {
namespace {

class LaunchTest : public ContainerTest {
 protected:
  // go() must fail, and nothing be left in the container.
  Error failed_go(Container& container, LaunchSpec spec) {
    auto launch = try_launch(container, std::move(spec));
    if (!launch) return launch.error();
    auto gone = await<bool>([&](Done<bool> done) { (*launch)->go(std::move(done)); });
    EXPECT_EQ(processes_in(container), 1u);
    return gone ? Error(Code::kInternal, "it was started") : gone.error();
  }
};

TEST_F(LaunchTest, WritesTheLogAndAppends) {
  Container& container = create("a");
  for (int i = 0; i < 2; ++i) {
    const Task task = start(container, shell("echo out; echo err >&2"));
    exit_of(container, task.dc_pid);
    ASSERT_TRUE(std::filesystem::remove(paths::exits_file(container.spec().dir)));
  }
  EXPECT_EQ(*read_file(paths::shared_dir(container.spec().dir) + "/" + paths::log_file("test")),
            "out\nerr\nout\nerr\n");
}

TEST_F(LaunchTest, EnvironmentIsExactlyTheOneGiven) {
  Container& container = create("a");
  auto spec = shell("tr '\\0' '\\n' < /proc/$$/environ");
  spec.env = {"A=1", "PATH=/bin:/usr/bin", "B=two words\xff"};
  EXPECT_EQ(output_of(container, spec), "A=1\nPATH=/bin:/usr/bin\nB=two words\xff\n");
}

TEST_F(LaunchTest, InheritsNothingElse) {
  Container& container = create("a");
  ::signal(SIGUSR1, SIG_IGN);
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR2);
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  const UniqueFd leak(::open("/dev/null", O_RDONLY));  // not closed on exec
  const mode_t mask = ::umask(0);
  EXPECT_EQ(
      output_of(
          container,
          "fd=3; while [ $fd -lt 64 ]; do [ -e /proc/$$/fd/$fd ] && echo leak; fd=$((fd+1)); done;"
          "readlink /proc/$$/fd/0 /proc/$$/fd/1;"
          "while read -r key value; do case $key in Sig[BI]*) echo $value; esac; done"
          "</proc/$$/status; umask"),
      "/dev/null\n/run/dvs/dc/logs/test.log\n"
      "0000000000000000\n0000000000000000\n0022\n");
  ::umask(mask);
  ::sigprocmask(SIG_UNBLOCK, &blocked, nullptr);
  ::signal(SIGUSR1, SIG_DFL);
}

TEST_F(LaunchTest, IsItsOwnSessionBelowTheFirstProcess) {
  Container& container = create("a");
  auto spec = shell("pwd; echo $PPID; awk '{print $1 == $5, $1 == $6, $7}' /proc/$$/stat");
  spec.cwd = "/usr";
  EXPECT_EQ(output_of(container, spec), "/usr\n1\n1 1 0\n");
}

TEST_F(LaunchTest, DescriptorsAreOfTheContainersMounts) {
  Container& container = create("a");
  // Each descriptor's mount is one of those the process sees.
  EXPECT_EQ(output_of(container,
                      "for fd in 0 1 2; do id=$(awk '/^mnt_id/{print $2}' /proc/$$/fdinfo/$fd);"
                      "grep -c \"^$id \" /proc/self/mountinfo; done"),
            "1\n1\n1\n");
}

TEST_F(LaunchTest, TellsBothProcessIds) {
  Container& container = create("a");
  const Task task = start(container, shell("exec sleep 100"));
  const std::string status = *read_file("/proc/" + std::to_string(task.host_pid) + "/status");
  const std::string expected =
      "NSpid:\t" + std::to_string(task.host_pid) + "\t" + std::to_string(task.dc_pid) + "\n";
  EXPECT_NE(status.find(expected), std::string::npos) << status;
}

TEST_F(LaunchTest, LooksTheProgramUpInTheGivenPath) {
  Container& container = create("a");
  auto spec = shell("");
  spec.argv = {"echo", "found"};
  EXPECT_EQ(output_of(container, spec), "found\n");
  spec.env = {"PATH=/nowhere"};
  EXPECT_EQ(failed_go(container, spec).code(), Code::kNotFound);
}

TEST_F(LaunchTest, NamesAMissingProgramAndLeavesNothing) {
  Container& container = create("a");
  auto spec = shell("");
  spec.argv = {"/no/such/program"};
  const Error error = failed_go(container, spec);
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_NE(error.message().find("/no/such/program"), std::string::npos) << error.message();
  spec.argv = {"/etc/passwd"};
  EXPECT_EQ(failed_go(container, spec).code(), Code::kDenied);
}

TEST_F(LaunchTest, SaysWhatCannotBePrepared) {
  Container& container = create("a");
  auto no_cwd = shell(":");
  no_cwd.cwd = "/no/such/dir";
  EXPECT_NE(failed_go(container, no_cwd).message().find("/no/such/dir"), std::string::npos);
  auto no_log = shell(":");
  no_log.log_path = "/no/such/log";
  EXPECT_NE(failed_go(container, no_log).message().find("/no/such/log"), std::string::npos);
  auto no_group = shell(":");
  no_group.cgroup_procs_files = {"/no/such/group/cgroup.procs"};
  EXPECT_EQ(failed_go(container, no_group).code(), Code::kNotFound);
  auto nothing = shell(":");
  nothing.argv.clear();
  EXPECT_EQ(failed_go(container, nothing).code(), Code::kInvalid);
  auto null_byte = shell(":");
  null_byte.env.push_back(std::string("A=\0B=1", 7));
  EXPECT_EQ(failed_go(container, null_byte).code(), Code::kInvalid);
  EXPECT_EQ(processes_in(container), 1u);
}

TEST_F(LaunchTest, WithoutGoNothingOfItRuns) {
  Container& container = create("a");
  auto launch = try_launch(container, shell(": > /run/dvs/dc/ran"));
  ASSERT_TRUE(launch.ok());
  const pid_t pid = (*launch)->host_pid();
  EXPECT_EQ(::kill(pid, 0), 0);
  launch->reset();
  EXPECT_TRUE(run_until([&] { return ::kill(pid, 0) != 0; }));
  EXPECT_FALSE(std::filesystem::exists(paths::shared_dir(container.spec().dir) + "/ran"));
  EXPECT_EQ(processes_in(container), 1u);
}

TEST_F(LaunchTest, TakesLargeArguments) {
  Container& container = create("a");
  auto spec = shell("echo ${#A}");
  spec.env = {"A=" + std::string(120'000, 'x')};
  EXPECT_EQ(output_of(container, spec), "120000\n");
}

}  // namespace
}  // namespace dvs
