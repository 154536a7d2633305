// The engine on the real thing: criu, namespaces, a freezer cgroup. "Source" and "target" are two
// sets of namespaces on this machine, each with its own /run and clock.
#include "migrate/engine/engine.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/clock.h"
#include "base/file.h"
#include "migrate/engine/preflight.h"
#include "migrate/engine/testing/test_node.h"

namespace dvs {
namespace {

using testing::eventually;
using testing::kCounters;
using testing::TestNode;

constexpr const char* kCriu = "/usr/local/lib/dvs/criu/criu";
constexpr const char* kImages = "m1";

class EngineTest : public ::testing::Test {
 protected:
  void SetUp() override { engine_ = open(std::chrono::seconds(30)); }

  std::unique_ptr<Engine> open(std::chrono::milliseconds timeout) {
    auto engine = open_criu(executor_, {kCriu, timeout});
    if (!engine.ok()) ADD_FAILURE() << engine.error().message();
    return engine.ok() ? std::move(*engine) : nullptr;
  }

  // Runs the event loop until the operation has told its result.
  template <typename T, typename Start>
  Result<T> await(Start start) {
    std::optional<Result<T>> result;
    start([&](Result<T> told) { result = std::move(told); });
    executor_.restart();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(40);
    while (!result && std::chrono::steady_clock::now() < deadline) {
      executor_.run_one_for(std::chrono::milliseconds(100));
      if (executor_.stopped()) executor_.restart();
    }
    if (!result) return Error(Code::kTimeout, "the operation told no result");
    return std::move(*result);
  }

  Result<DumpResult> dump(const TestNode& node, pid_t pid) { return dump(*engine_, node, pid); }
  Result<DumpResult> dump(Engine& engine, const TestNode& node, pid_t pid) {
    return await<DumpResult>([&](auto done) {
      engine.dump({node.site(kImages), pid, node.cgroup()}, std::move(done));
    });
  }

  Result<std::unique_ptr<HeldTree>> restore(const TestNode& node) {
    return await<std::unique_ptr<HeldTree>>([&](auto done) {
      engine_->restore({node.site(kImages), {node.procs_file()}}, std::move(done));
    });
  }
  Result<bool> resume(HeldTree& tree) {
    return await<bool>([&](auto done) { tree.resume(std::move(done)); });
  }
  Result<bool> kill(HeldTree& tree) {
    return await<bool>([&](auto done) { tree.kill(std::move(done)); });
  }

  // What the mover would do: the images, and the state of the DC's shared memory and log.
  void copy_images(const TestNode& from, const TestNode& to) {
    namespace fs = std::filesystem;
    fs::create_directories(to.site(kImages).outer_dir);
    for (const auto& entry : fs::directory_iterator(from.site(kImages).outer_dir)) {
      fs::copy(entry.path(), to.site(kImages).outer_dir + "/" + entry.path().filename().string());
    }
    std::memcpy(static_cast<void*>(&to.state()), &from.state(), sizeof(testing::SharedState));
    fs::copy(from.outside("/run/dvs/victim.log"), to.outside("/run/dvs/victim.log"),
             fs::copy_options::overwrite_existing);
  }

  // Freezes the victim, dumps it, and restores and resumes it on the target.
  void migrate(const TestNode& from, pid_t pid, const TestNode& to) {
    from.freeze();
    auto dumped = dump(from, pid);
    ASSERT_TRUE(dumped.ok()) << dumped.error().message();
    EXPECT_TRUE(from.frozen());
    copy_images(from, to);
    auto held = restore(to);
    ASSERT_TRUE(held.ok()) << held.error().message();
    auto resumed = resume(**held);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message();
  }

  static bool counts(const TestNode& node, int index = 0) {
    const uint64_t before = node.state().counters[index];
    return eventually([&] { return node.state().counters[index] > before + 2; });
  }
  static bool has_process(const TestNode& node, pid_t pid) {
    return ::access(node.outside("/proc/" + std::to_string(pid)).c_str(), F_OK) == 0;
  }

  Executor executor_;
  std::unique_ptr<Engine> engine_;
};

pid_t start(TestNode& node, const std::string& mode) {
  auto pid = node.start_victim(mode);
  if (!pid.ok()) ADD_FAILURE() << pid.error().message();
  return pid.ok() ? *pid : -1;
}

void wake(const TestNode& node) {
  node.state().word = 1;
  ::syscall(SYS_futex, &node.state().word, FUTEX_WAKE, 1, nullptr, nullptr, 0);
}

TEST_F(EngineTest, TellsItsVersion) { EXPECT_EQ(engine_->version().substr(0, 7), "criu 4."); }

TEST_F(EngineTest, NeedsCriu) {
  auto engine = open_criu(executor_, {"/nonexistent/criu", {}});
  ASSERT_FALSE(engine.ok());
  EXPECT_EQ(engine.error().code(), Code::kUnsupported);
  auto other = open_criu(executor_, {"/bin/true", {}});
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

TEST_F(EngineTest, PreparedCommandsDoTheSame) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "count");
  engine_->prepare_dump(source.site(kImages));
  engine_->prepare_restore({target.site(kImages), {target.procs_file()}});
  migrate(source, pid, target);
  EXPECT_TRUE(counts(target));
  EXPECT_EQ(target.members().size(), 1u);
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
  migrate(source, start(source, "futex"), target);
  EXPECT_EQ(target.state().answer, 0u) << "the wait has ended by itself";
  wake(target);
  EXPECT_TRUE(counts(target));
  EXPECT_EQ(target.state().result, 0);
  EXPECT_EQ(source.state().answer, 0u);
}

TEST_F(EngineTest, TimedFutexWaitIsInterruptedOnce) {
  TestNode source("source");
  TestNode target("target");
  migrate(source, start(source, "futex_timed"), target);
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
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  auto held = restore(target);
  ASSERT_TRUE(held.ok()) << held.error().message();
  ASSERT_TRUE(target.run({"kill", "-9", std::to_string(pid)}).ok());
  auto resumed = resume(**held);
  EXPECT_FALSE(resumed.ok());
  EXPECT_TRUE(eventually([&] { return target.members().empty(); }));
  source.thaw();
  EXPECT_TRUE(counts(source)) << "the source's copy is untouched";
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

TEST_F(EngineTest, DumpThatIsEndedHalfWayLeavesTheTreeFrozenAndSound) {
  TestNode source("source");
  const pid_t pid = start(source, "threads");
  int late = 0;
  for (int ms = 1; ms <= 40; ms += 3) {
    auto hasty = open(std::chrono::milliseconds(ms));
    ASSERT_TRUE(remove_tree(source.site(kImages).outer_dir).ok());
    source.freeze();
    hasty->prepare_dump(source.site(kImages));
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

TEST_F(EngineTest, LogGoesOnWhateverTheTargetsFileHolds) {
  TestNode source("source");
  TestNode target("target");
  const pid_t pid = start(source, "log");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  std::ofstream(target.outside("/run/dvs/victim.log"), std::ios::app) << "between\n";
  auto held = restore(target);
  ASSERT_TRUE(held.ok()) << held.error().message();
  ASSERT_TRUE(resume(**held).ok());
  target.state().order = 1;
  ASSERT_TRUE(eventually([&] { return target.state().answer == 1; }));
  EXPECT_EQ(*read_file(target.outside("/run/dvs/victim.log")), "before\nbetween\nafter\n");
}

class MappedFileTest : public EngineTest {
 protected:
  static void make_file(const TestNode& node, uintmax_t size) {
    const std::string path = node.outside("/run/dvs/mapped");
    std::ofstream{path};
    std::filesystem::resize_file(path, size);
  }
};

TEST_F(MappedFileTest, OfAnotherSizeIsNamed) {
  TestNode source("source");
  TestNode target("target");
  make_file(source, 4096);
  make_file(target, 8192);
  const pid_t pid = start(source, "map");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  auto held = restore(target);
  ASSERT_FALSE(held.ok());
  EXPECT_EQ(held.error().code(), Code::kConflict) << held.error().message();
  EXPECT_EQ(held.error().message(),
            "/run/dvs/mapped has 8192 bytes here, but had 4096 where the process opened it");
}

TEST_F(MappedFileTest, MissingIsNamed) {
  TestNode source("source");
  TestNode target("target");
  make_file(source, 4096);
  const pid_t pid = start(source, "map");
  source.freeze();
  ASSERT_TRUE(dump(source, pid).ok());
  copy_images(source, target);
  auto held = restore(target);
  ASSERT_FALSE(held.ok());
  EXPECT_EQ(held.error().code(), Code::kNotFound) << held.error().message();
  EXPECT_NE(held.error().message().find("/run/dvs/mapped"), std::string::npos)
      << held.error().message();
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
  const std::string dir = source.site(kImages).inner_dir;
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

TEST_F(EngineTest, RemovedFileMovesAlongAndLeavesNoTrace) {
  TestNode source("source");
  TestNode target("target");
  migrate(source, start(source, "removed"), target);
  target.state().order = 1;
  ASSERT_TRUE(eventually([&] { return target.state().answer == 1; }));
  EXPECT_EQ(target.state().result, 1);
  const std::vector<std::string> expected = {"engine", "state", "victim.log"};
  EXPECT_EQ(*list_dir(source.outside("/run/dvs")), expected);
  EXPECT_EQ(*list_dir(target.outside("/run/dvs")), expected);
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

struct Unmovable {
  const char* mode;
  const char* word;  // in the message
};
class UnmovableTest : public EngineTest, public ::testing::WithParamInterface<Unmovable> {};

TEST_P(UnmovableTest, IsNamedAndLeftAsItWas) {
  TestNode source("source");
  auto pid = source.start_victim(GetParam().mode);
  if (!pid.ok()) GTEST_SKIP() << pid.error().message();  // this kernel does not have it
  source.freeze();
  auto dumped = dump(source, *pid);
  ASSERT_FALSE(dumped.ok());
  EXPECT_EQ(dumped.error().code(), Code::kUnsupported) << dumped.error().message();
  EXPECT_NE(dumped.error().message().find(GetParam().word), std::string::npos)
      << dumped.error().message();
  EXPECT_TRUE(source.frozen());
  source.thaw();
  EXPECT_TRUE(counts(source));
}

INSTANTIATE_TEST_SUITE_P(Kinds, UnmovableTest,
                         ::testing::Values(Unmovable{"io_uring", "io_uring"},
                                           Unmovable{"fuse", "/dev/fuse"}, Unmovable{"tun", "tun"},
                                           Unmovable{"alg", "socket"}, Unmovable{"vsock", "socket"},
                                           Unmovable{"renamed", "/run/dvs/first"},
                                           Unmovable{"userfault", "userfaultfd"}),
                         [](const auto& param) { return std::string(param.param.mode); });

class MovableTest : public EngineTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(MovableTest, GoesAlong) {
  TestNode source("source");
  TestNode target("target");
  auto pid = source.start_victim(GetParam());
  if (!pid.ok()) GTEST_SKIP() << pid.error().message();  // this kernel does not have it
  migrate(source, *pid, target);
  EXPECT_TRUE(counts(target));
}

INSTANTIATE_TEST_SUITE_P(Kinds, MovableTest,
                         ::testing::Values("inotify", "fanotify", "packet", "pidfd"),
                         [](const auto& param) { return std::string(param.param); });

TEST_F(EngineTest, CpuOfThisNodeSuitsItself) {
  const std::string dir = "/tmp/dvs_engine_cpu_" + std::to_string(::getpid());
  const CriuOptions options{kCriu, std::chrono::seconds(10)};
  auto cpu = await<std::string>([&](auto done) { describe_cpu(executor_, options, dir, done); });
  ASSERT_TRUE(cpu.ok()) << cpu.error().message();
  auto suits = await<bool>([&](auto done) { check_cpu(executor_, options, dir, *cpu, done); });
  EXPECT_TRUE(suits.ok()) << suits.error().message();
  auto damaged =
      await<bool>([&](auto done) { check_cpu(executor_, options, dir, cpu->substr(0, 20), done); });
  EXPECT_FALSE(damaged.ok());
  EXPECT_NE(::access(dir.c_str(), F_OK), 0) << "the scratch directory is removed";
}

}  // namespace
}  // namespace dvs
