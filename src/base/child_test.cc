#include "base/child.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "base/file.h"

namespace dvs {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

ChildOptions shell(const std::string& script) {
  ChildOptions options;
  options.argv = {"sh", "-c", script};
  options.capture_output = true;
  options.timeout = 20s;  // a hanging test fails instead
  return options;
}

ChildResult run(ChildOptions options) {
  auto result = run_child_blocking(std::move(options));
  EXPECT_TRUE(result.ok()) << result.error().message();
  return result.ok() ? *result : ChildResult{};
}

TEST(Child, ReportsTheExitStatus) {
  EXPECT_TRUE(run(shell("exit 0")).ok());
  const auto result = run(shell("exit 3"));
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_EQ(result.describe(), "exit status 3");
}

TEST(Child, ReportsTheSignalThatEndedIt) {
  const auto result = run(shell("kill -TERM $$"));
  EXPECT_FALSE(result.ok());
  EXPECT_EQ(result.signal, SIGTERM);
  EXPECT_EQ(result.describe(), "killed by signal 15 (Terminated)");
}

TEST(Child, CapturesBothOutputsInOrder) {
  EXPECT_EQ(run(shell("echo one; echo two >&2; echo three")).output, "one\ntwo\nthree\n");
}

TEST(Child, KeepsTheEndOfALongOutput) {
  const auto result = run(shell("head -c 1000000 /dev/zero | tr '\\0' x; echo end"));
  EXPECT_EQ(result.output.size(), 65536u);
  EXPECT_EQ(result.output.substr(65532), "end\n");
}

TEST(Child, AMissingProgramIsAnError) {
  ChildOptions options;
  options.argv = {"dvs-no-such-program"};
  auto result = run_child_blocking(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNotFound);
  EXPECT_NE(result.error().message().find("dvs-no-such-program"), std::string::npos);
}

TEST(Child, AProgramThatMayNotBeRunIsAnError) {
  ChildOptions options;
  options.argv = {"/etc/passwd"};
  auto result = run_child_blocking(options);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kDenied);
}

TEST(Child, IsKilledWhenItsTimeIsUp) {
  auto options = shell("exec sleep 1000");
  options.timeout = 50ms;
  const auto result = run(options);
  EXPECT_TRUE(result.timed_out);
  EXPECT_EQ(result.signal, SIGKILL);
  EXPECT_GE(result.elapsed, 50ms);
  EXPECT_EQ(result.describe().substr(0, 15), "timed out after");
}

TEST(Child, AGrandchildThatKeepsTheOutputOpenDoesNotDelayTheResult) {
  const auto result = run(shell("sleep 1000 & echo $!"));
  EXPECT_TRUE(result.ok()) << result.describe();
  const pid_t grandchild = static_cast<pid_t>(std::strtol(result.output.c_str(), nullptr, 10));
  ASSERT_GT(grandchild, 1);
  EXPECT_EQ(::kill(grandchild, SIGKILL), 0) << "the grandchild was gone: nothing was tested";
}

TEST(Child, ClosingItsOutputEarlyDoesNotEndIt) {
  const auto result = run(shell("echo early; exec >&- 2>&-; sleep 0.05; exit 7"));
  EXPECT_EQ(result.exit_code, 7);
  EXPECT_EQ(result.output, "early\n");
}

TEST(Child, ReadsNothingFromStdinUnlessTold) { EXPECT_EQ(run(shell("cat; echo .")).output, ".\n"); }

TEST(Child, ReadsTheGivenStdin) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]), writer(ends[1]);
  ASSERT_EQ(::write(writer.get(), "hello", 5), 5);
  writer.reset();
  auto options = shell("cat");
  options.stdin_fd = reader.get();
  EXPECT_EQ(run(options).output, "hello");
}

TEST(Child, AddsToTheEnvironmentAndReplacesInIt) {
  ::setenv("DVS_CHILD_TEST_OLD", "old", 1);
  ::setenv("DVS_CHILD_TEST_KEPT", "kept", 1);
  auto options = shell("echo $DVS_CHILD_TEST_OLD $DVS_CHILD_TEST_KEPT $DVS_CHILD_TEST_NEW");
  options.env = {"DVS_CHILD_TEST_OLD=replaced", "DVS_CHILD_TEST_NEW=new"};
  EXPECT_EQ(run(options).output, "replaced kept new\n");
}

// Two descriptors swap numbers, which a plain sequence of dup2 calls gets wrong.
TEST(Child, PassesDescriptorsUnderTheWantedNumbers) {
  int first[2], second[2];
  ASSERT_EQ(::pipe2(first, O_CLOEXEC), 0);
  ASSERT_EQ(::pipe2(second, O_CLOEXEC), 0);
  UniqueFd fds[] = {UniqueFd(first[0]), UniqueFd(first[1]), UniqueFd(second[0]),
                    UniqueFd(second[1])};
  ASSERT_EQ(::write(first[1], "first", 5), 5);
  ASSERT_EQ(::write(second[1], "second", 6), 6);
  fds[1].reset();
  fds[3].reset();
  auto options = shell("cat /dev/fd/" + std::to_string(second[0]) + "; cat /dev/fd/" +
                       std::to_string(first[0]));
  options.pass_fds = {{first[0], second[0]}, {second[0], first[0]}};
  EXPECT_EQ(run(options).output, "firstsecond");
}

TEST(Child, InheritsNoDescriptorThatWasNotPassed) {
  UniqueFd passed(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd low(::fcntl(passed.get(), F_DUPFD, 30));  // without O_CLOEXEC, on purpose
  UniqueFd high(::fcntl(passed.get(), F_DUPFD, 50));
  auto options = shell("for f in /proc/$$/fd/*; do echo ${f##*/}; done");
  options.pass_fds = {{passed.get(), 40}};
  const auto output = run(options).output;
  EXPECT_EQ(output.substr(0, 6), "0\n1\n2\n");
  EXPECT_NE(output.find("\n40\n"), std::string::npos) << output;
  for (int leaked : {low.get(), high.get()}) {
    EXPECT_EQ(output.find("\n" + std::to_string(leaked) + "\n"), std::string::npos) << output;
  }
}

TEST(Child, StartsWithDefaultSignalHandling) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  auto* pipe_handler = ::signal(SIGPIPE, SIG_IGN);
  const auto result = run(shell("grep -E '^Sig(Blk|Ign)' /proc/self/status"));
  ::signal(SIGPIPE, pipe_handler);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  unsigned long blocked_mask = 0, ignored_mask = 0;
  ASSERT_EQ(
      std::sscanf(result.output.c_str(), "SigBlk: %lx SigIgn: %lx", &blocked_mask, &ignored_mask),
      2)
      << result.output;
  EXPECT_EQ(blocked_mask, 0u);
  EXPECT_EQ(ignored_mask & 0x7fffffff, 0u);  // signals 32 and 33 belong to libc
}

TEST(Child, ManyRunAtOnceAndEachIsReaped) {
  Executor executor;
  constexpr int kChildren = 20;
  std::vector<pid_t> pids;
  std::vector<int> codes;
  bool inside = true;
  for (int i = 0; i < kChildren; ++i) {
    auto pid = run_child(executor, shell("exit " + std::to_string(i)), [&](ChildResult result) {
      EXPECT_FALSE(inside) << "called from inside run_child";
      codes.push_back(result.exit_code);
    });
    ASSERT_TRUE(pid.ok()) << pid.error().message();
    pids.push_back(*pid);
  }
  inside = false;
  executor.run();
  std::sort(codes.begin(), codes.end());
  ASSERT_EQ(codes.size(), static_cast<size_t>(kChildren));
  for (int i = 0; i < kChildren; ++i) EXPECT_EQ(codes[static_cast<size_t>(i)], i);
  for (pid_t pid : pids) EXPECT_EQ(::waitpid(pid, nullptr, WNOHANG), -1) << pid << " not reaped";
}

TEST(Child, LeavesNoDescriptorBehind) {
  run(shell("true"));
  const auto before = list_dir("/proc/self/fd");
  for (int i = 0; i < 5; ++i) run(shell("echo x"));
  ChildOptions missing;
  missing.argv = {"dvs-no-such-program"};
  missing.capture_output = true;
  EXPECT_FALSE(run_child_blocking(missing).ok());
  const auto after = list_dir("/proc/self/fd");
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(before->size(), after->size());
}

}  // namespace
}  // namespace dvs
