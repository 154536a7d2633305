// The engine on the real thing: criu, namespaces, a freezer cgroup. "Source" and "target" are two
// sets of namespaces on this machine, each with its own /run and clock.
#include "migrate/engine/engine.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "migrate/engine/process_tree.h"
#include "migrate/engine/testing/engine_fixture.h"

namespace dvs {
namespace {

using testing::EngineTest;
using testing::eventually;
using testing::kCounters;
using testing::kImages;
using testing::start;
using testing::TestNode;

void wake(const TestNode& node) {
  node.state().word = 1;
  ::syscall(SYS_futex, &node.state().word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

// Those who wait for the decision. (criu, which traces the tree, does not expect such signals.)
void signal_waiting(pid_t root, int number) {
  visit_tree(root, [number](pid_t pid) {
    const auto name = read_file("/proc/" + std::to_string(pid) + "/comm");
    if (name.ok() && (*name == "nsenter\n" || *name == "dvs-criu\n")) ::kill(pid, number);
  });
}

TEST_F(EngineTest, TellsItsVersion) { EXPECT_EQ(engine_->version().substr(0, 7), "criu 4."); }

TEST_F(EngineTest, OurLibraryIsLoadedIntoCriu) { EXPECT_EQ(engine_->why_not_apart(), ""); }

TEST_F(EngineTest, NeedsCriu) {
  auto engine = open_criu(executor_, {"/nonexistent/criu", testing::runner_program()});
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code(), Code::kUnsupported);
  auto other = open_criu(executor_, {"/bin/true", testing::runner_program()});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), Code::kUnsupported);
}

TEST_F(EngineTest, DumpLeavesTheTreeFrozenAndAlive) {
  TestNode source("source");
  const pid_t pid = start(source, "count");
  source.freeze();
  auto dumped = dump(source, pid);
  ASSERT_TRUE(dumped.ok()) << dumped.error().message();
  EXPECT_GT(dumped->image_bytes, 10000u);
  EXPECT_TRUE(source.frozen());
  const uint64_t silent = source.state().counters[0];
  ::usleep(20000);
  EXPECT_EQ(source.state().counters[0], silent);
  source.thaw();
  EXPECT_TRUE(counts(source));
}

TEST_F(EngineTest, RestoredTreeWaitsAtTheGateThenRunsUnderItsPid) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  const uint64_t before = target.state().counters[0];
  auto held = restore(target);
  ASSERT_TRUE(held.ok()) << held.error().message();
  EXPECT_TRUE(has_process(target, pid));
  ::usleep(20000);
  EXPECT_EQ(target.state().counters[0], before) << "it ran before it was told to";
  ASSERT_TRUE(resume(**held).ok());
  EXPECT_TRUE(counts(target));
  EXPECT_EQ(target.members().size(), 1u) << "only the victim is left in the cgroup";
  EXPECT_EQ(source.state().counters[0], before) << "the source's copy is still frozen";
}

// A machine that has other things to do must not cost the only copy. The restoring command stands
// still for longer than it should need.
TEST_F(EngineTest, ATreeThatIsSlowToRunIsNotGivenUp) {
  TestNode source("source");
  TestNode target("target");
  const auto held = hold(source, start(source, "count"), target);
  ASSERT_NE(held, nullptr);
  const auto record = read_file(target.site(kImages).dir + "/gate.command");
  ASSERT_TRUE(record.ok());
  signal_waiting(std::stoi(*record), SIGSTOP);
  std::optional<Result<bool>> resumed;
  held->resume([&](Result<bool> result) { resumed = std::move(result); });
  executor_.restart();
  executor_.run_for(std::chrono::milliseconds(5500));
  ASSERT_FALSE(resumed.has_value()) << "it was given up";
  EXPECT_TRUE(eventually([&] {
    // (Again: nsenter stops once more when it hears that its child was stopped.)
    if (!resumed.has_value()) signal_waiting(std::stoi(*record), SIGCONT);
    executor_.restart();
    executor_.run_for(std::chrono::milliseconds(10));
    return resumed.has_value();
  }));
  ASSERT_TRUE(resumed.has_value());
  EXPECT_TRUE(resumed->ok());
  EXPECT_TRUE(counts(target));
}

TEST_F(EngineTest, PreparedCommandsDoTheSame) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  engine_->prepare_dump({source.site(kImages), pid, source.cgroup()});
  engine_->prepare_restore({target.site(kImages), {target.procs_file()}});
  migrate(source, pid, target);
  EXPECT_TRUE(counts(target));
  EXPECT_EQ(target.members().size(), 1u);
}

TEST_F(EngineTest, PreparationProbesTheKernelBeforeItCounts) {
  TestNode source("source");
  engine_->prepare_dump({source.site(kImages), start(source, "count"), source.cgroup()});
  EXPECT_TRUE(
      eventually([&] { return ::access(source.outside("/run/criu.kdat").c_str(), F_OK) == 0; }));
  engine_->discard(source.site(kImages));
}

TEST_F(EngineTest, DiscardedPreparationLeavesNothing) {
  TestNode target("target");
  engine_->prepare_restore({target.site(kImages), {target.procs_file()}});
  ASSERT_FALSE(target.members().empty());
  engine_->discard(target.site(kImages));
  EXPECT_TRUE(eventually([&] {
    executor_.restart();
    executor_.poll();
    return target.members().empty();
  }));
}

TEST_F(EngineTest, DiscardedDumpHasTouchedNothing) {
  TestNode source("source");
  const pid_t pid = start(source, "count");
  bool ready = false;
  engine_->prepare_dump({source.site(kImages), pid, source.cgroup()}, [&] { ready = true; });
  const auto turn = [&] {
    executor_.restart();
    executor_.poll();
  };
  ASSERT_TRUE(eventually([&] { return turn(), ready; }));
  ASSERT_TRUE(source.run({"pgrep", "-f", "dvs-criu|dump --rpc"}).ok()) << "it waits for the word";
  EXPECT_TRUE(counts(source)) << "the tree runs on until the dump";
  engine_->discard(source.site(kImages));
  EXPECT_TRUE(eventually([&] {
    return turn(), !source.run({"pgrep", "-f", "dvs-criu|dump --rpc"}).ok();
  }));
  EXPECT_TRUE(counts(source));
  EXPECT_FALSE(source.frozen());
}

TEST_F(EngineTest, KilledAtTheGateNeverRuns) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "tree");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  const uint64_t before = target.state().counters[0];
  auto held = restore(target);
  ASSERT_TRUE(held.ok()) << held.error().message();
  EXPECT_GE(target.members().size(), 3u);
  ASSERT_TRUE(kill(**held).ok());
  EXPECT_FALSE(has_process(target, pid));
  EXPECT_EQ(target.state().counters[0], before);
  // The pid is free again: the same images can be restored at once.
  auto again = restore(target);
  ASSERT_TRUE(again.ok()) << again.error().message();
  ASSERT_TRUE(resume(**again).ok());
  EXPECT_TRUE(counts(target));
}

TEST_F(EngineTest, FutexWaitGoesOnOnTheTargetsMemory) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "futex");
  await_call(source, pid, SYS_futex);
  migrate(source, pid, target);
  EXPECT_EQ(target.state().answer, 0u) << "the wait has ended by itself";
  wake(target);
  EXPECT_TRUE(counts(target));
  EXPECT_EQ(target.state().result, 0);
  EXPECT_EQ(source.state().answer, 0u);
}

TEST_F(EngineTest, TimedFutexWaitIsInterruptedOnce) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "futex_timed");
  await_call(source, pid, SYS_futex);
  migrate(source, pid, target);
  EXPECT_TRUE(eventually([&] { return target.state().answer == 1; }));
  EXPECT_EQ(target.state().result, EINTR);
  wake(target);
  EXPECT_TRUE(counts(target));
}

TEST_F(EngineTest, ThreadsKeepTheirIds) {
  TestNode source("source");
  TestNode target("target");
  migrate(source, start(source, "threads"), target);
  for (int i = 0; i < kCounters; ++i) EXPECT_TRUE(counts(target, i)) << "thread " << i;
  EXPECT_EQ(target.state().wrong_ids, 0u);
}

TEST_F(EngineTest, TreeWithChildrenAndAZombie) {
  TestNode source("source");
  TestNode target("target");
  migrate(source, start(source, "tree"), target);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(counts(target, i)) << "process " << i;
  target.state().order = 1;
  ASSERT_TRUE(eventually([&] { return target.state().answer == 1; }));
  EXPECT_EQ(target.state().result, 7) << "the dead child's exit status";
}

TEST_F(EngineTest, ProcessKilledAtTheGateIsAnError) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  const auto held = hold(source, pid, target);
  ASSERT_NE(held, nullptr);
  ASSERT_TRUE(target.run({"kill", "-9", std::to_string(pid)}).ok());
  auto resumed = resume(*held);
  EXPECT_FALSE(resumed.ok());
  EXPECT_TRUE(eventually([&] { return target.members().empty(); }));
  source.thaw();
  EXPECT_TRUE(counts(source)) << "the source's copy is untouched";
}

// The same a moment later: dvs-criu has looked, and criu is about to let it go.
TEST_F(EngineTest, ProcessKilledWhileItIsLetGoIsAnError) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  const auto held = hold(source, pid, target);
  ASSERT_NE(held, nullptr);
  const auto record = read_file(target.site(kImages).dir + "/gate.command");
  ASSERT_TRUE(record.ok());
  pid_t criu = 0;
  pid_t gate = 0;
  visit_tree(std::stoi(*record), [&](pid_t each) {
    const auto name = read_file("/proc/" + std::to_string(each) + "/comm");
    if (gate != 0 && criu == 0) criu = each;  // its child
    if (name.ok() && *name == "dvs-criu\n") gate = each;
  });
  ASSERT_NE(criu, 0);
  ::kill(criu, SIGSTOP);
  std::optional<Result<bool>> resumed;
  held->resume([&](Result<bool> result) { resumed = std::move(result); });
  const std::string polls = std::to_string(SYS_poll) + " ";
  ASSERT_TRUE(eventually([&] {  // it has told criu to go on, and waits for what criu says
    const auto call = read_file("/proc/" + std::to_string(gate) + "/syscall");
    return call.ok() && call->starts_with(polls);
  }));
  ASSERT_TRUE(target.run({"kill", "-9", std::to_string(pid)}).ok());
  ::kill(criu, SIGCONT);
  EXPECT_TRUE(eventually([&] {
    executor_.restart();
    executor_.run_for(std::chrono::milliseconds(10));
    return resumed.has_value();
  }));
  EXPECT_FALSE(resumed.has_value() && resumed->ok());
  EXPECT_TRUE(eventually([&] { return target.members().empty(); }));
}

// A dvsd that dies while the tree waits: another one finds it and decides.
class AdoptTest : public EngineTest {
 protected:
  void restore_in_another_process(const TestNode& target) {
    const pid_t other = ::fork();
    if (other == 0) {
      executor_.notify_fork(Executor::fork_child);
      auto held = restore(target);
      ::_exit(held.ok() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(other, &status, 0);
    ASSERT_EQ(status, 0) << "no tree was restored";
  }
};

TEST_F(AdoptTest, HeldTreeOutlivesItsDvsd) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  EXPECT_EQ(engine_->find_held(target.site(kImages)).error().code(), Code::kNotFound);
  for (const bool go : {false, true}) {
    restore_in_another_process(target);
    auto held = engine_->find_held(target.site(kImages));
    ASSERT_TRUE(held.ok()) << held.error().message();
    auto decided = go ? resume(**held) : kill(**held);
    ASSERT_TRUE(decided.ok()) << decided.error().message();
    EXPECT_EQ(has_process(target, pid), go);
    EXPECT_FALSE(engine_->find_held(target.site(kImages)).ok());
  }
  EXPECT_TRUE(counts(target));
}

TEST_F(EngineTest, SecondTracerFailsTheDumpAndChangesNothing) {
  TestNode source("source");
  const pid_t pid = start(source, "threads");
  const pid_t seen_here = source.members().at(0);
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, seen_here, nullptr, nullptr), 0);
  source.freeze();
  auto dumped = dump(source, pid);
  ASSERT_FALSE(dumped.ok());
  EXPECT_EQ(dumped.error().code(), Code::kUnsupported) << dumped.error().message();
  EXPECT_NE(dumped.error().message().find("traced"), std::string::npos) << dumped.error().message();
  EXPECT_TRUE(source.frozen());
  source.thaw();
  for (int i = 0; i < kCounters; ++i) EXPECT_TRUE(counts(source, i));
  ASSERT_EQ(::kill(seen_here, SIGKILL), 0);
  EXPECT_EQ(::waitpid(seen_here, nullptr, __WALL), seen_here);
}

TEST_F(EngineTest, DumpThatIsGivenUpHalfWayLeavesTheTreeFrozenAndSound) {
  TestNode source("source");
  const pid_t pid = start(source, "threads");
  int late = 0;
  for (int ms = 1; ms <= 30; ms += 2) {
    auto hasty = open(std::chrono::milliseconds(ms));
    ASSERT_TRUE(remove_tree(source.site(kImages).dir).ok());
    source.freeze();
    hasty->prepare_dump({source.site(kImages), pid, source.cgroup()});
    auto dumped = dump(*hasty, source, pid);
    if (!dumped.ok()) {
      EXPECT_EQ(dumped.error().code(), Code::kTimeout) << dumped.error().message();
      ++late;
    }
    EXPECT_TRUE(eventually([&] { return source.frozen(); })) << "after " << ms << " ms";
    source.thaw();
    for (int i = 0; i < kCounters; ++i) {
      ASSERT_TRUE(counts(source, i)) << "thread " << i << " after " << ms << " ms";
    }
  }
  EXPECT_GT(late, 0);
}

TEST_F(EngineTest, RestoreThatIsEndedHalfWayLeavesNothing) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "threads");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  const uint64_t before = target.state().counters[0];
  for (int ms = 1; ms <= 40; ms += 3) {
    engine_ = open(std::chrono::milliseconds(ms));
    auto held = restore(target);
    if (held.ok()) {
      ASSERT_TRUE(kill(**held).ok());
    } else {
      EXPECT_EQ(held.error().code(), Code::kTimeout) << held.error().message();
    }
    ASSERT_TRUE(eventually([&] { return target.members().empty(); })) << "after " << ms << " ms";
  }
  EXPECT_EQ(target.state().counters[0], before);
}

TEST_F(EngineTest, FailedRestoreLeavesNothing) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "tree");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  ASSERT_EQ(::unlink(target.outside("/run/dvs/victim.log").c_str()), 0);
  auto held = restore(target);
  ASSERT_FALSE(held.ok());
  EXPECT_EQ(held.error().code(), Code::kNotFound) << held.error().message();
  EXPECT_NE(held.error().message().find("victim.log"), std::string::npos) << held.error().message();
  EXPECT_TRUE(eventually([&] { return target.members().empty(); }));
  EXPECT_FALSE(has_process(target, pid));
}

TEST_F(EngineTest, TakenProcessIdIsAConflict) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  ASSERT_EQ(start(target, "count"), pid);
  copy_images(source, target);
  auto held = restore(target);
  ASSERT_FALSE(held.ok());
  EXPECT_EQ(held.error().code(), Code::kConflict) << held.error().message();
  EXPECT_NE(held.error().message().find(std::to_string(pid)), std::string::npos)
      << held.error().message();
  EXPECT_TRUE(counts(target)) << "the process that has the id is not disturbed";
}

TEST_F(EngineTest, FullTmpfsIsNoSpace) {
  TestNode source("source");
  const pid_t pid = start(source, "big");
  const std::string dir = std::string("/run/dvs/engine/") + kImages;
  ASSERT_TRUE(source.run({"mkdir", "-p", dir}).ok());
  ASSERT_TRUE(source.run({"mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir}).ok());
  source.freeze();
  auto dumped = dump(source, pid);
  ASSERT_FALSE(dumped.ok());
  EXPECT_EQ(dumped.error().code(), Code::kNoSpace) << dumped.error().message();
  EXPECT_TRUE(source.frozen());
  source.thaw();
  EXPECT_TRUE(counts(source));
}

TEST_F(EngineTest, ClockGoesOnInAnotherTimeNamespace) {
  TestNode source("source", 5000);
  TestNode target("target", 9000);
  migrate(source, start(source, "count"), target);
  ASSERT_TRUE(counts(target));
  const int64_t here = monotonic_ns();
  const int64_t seconds = (target.state().clock_ns - here) / 1000000000;
  EXPECT_NEAR(static_cast<double>(seconds), 9000.0, 2.0);
}

TEST_F(EngineTest, CpuOfThisNodeSuitsItself) {
  const std::string dir = "/tmp/dvs_engine_cpu_" + std::to_string(::getpid());
  auto cpu = await<std::string>([&](auto done) { engine_->describe_cpu(dir, done); });
  ASSERT_TRUE(cpu.ok()) << cpu.error().message();
  auto suits = await<bool>([&](auto done) { engine_->check_cpu(dir, *cpu, done); });
  EXPECT_TRUE(suits.ok()) << suits.error().message();
  auto damaged = await<bool>([&](auto done) { engine_->check_cpu(dir, cpu->substr(0, 20), done); });
  EXPECT_FALSE(damaged.ok());
  EXPECT_NE(::access(dir.c_str(), F_OK), 0) << "the scratch directory is removed";
}

}  // namespace
}  // namespace dvs
