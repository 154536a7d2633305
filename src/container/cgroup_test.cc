#include "container/cgroup.h"

#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/child.h"
#include "base/file.h"
#include "container/container_fixture.h"
#include "container/paths.h"

namespace dvs {
namespace {

// Where the wanted kind is mounted, if it is.
std::optional<std::string> mount_point_of(bool v2) {
  std::ifstream mounts("/proc/self/mounts");
  std::string source, point, type, options, line;
  while (mounts >> source >> point >> type >> options && std::getline(mounts, line)) {
    if (v2 ? type == "cgroup2" : type == "cgroup" && options.find("freezer") != options.npos) {
      return point;
    }
  }
  return std::nullopt;
}

class CgroupTest : public ContainerTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    ContainerTest::SetUp();
    auto mount = mount_point_of(GetParam());
    ASSERT_TRUE(mount) << "this hierarchy is not mounted on this machine";
    cgroups_ = Cgroups::at(*mount, GetParam());
    ASSERT_TRUE(cgroups_->create(group_).ok());
  }
  void TearDown() override {
    if (cgroups_) {
      EXPECT_TRUE(kill().ok());
      EXPECT_TRUE(eventually([&] { return cgroups_->remove(parent_).ok(); }));
    }
    ContainerTest::TearDown();
  }

  LaunchSpec in_group(const std::string& script) const {
    auto spec = shell(script);
    spec.cgroup_procs_files = {cgroups_->procs_file(group_)};
    return spec;
  }
  Result<bool> freeze() {
    return await<bool>([&](Done<bool> done) {
      cgroups_->freeze(executor_, group_, std::chrono::seconds(10), std::move(done));
    });
  }
  Result<bool> kill() {
    return await<bool>(
        [&](Done<bool> done) { cgroups_->kill(executor_, group_, std::move(done)); });
  }
  size_t log_size(const Container& container) {
    std::error_code ec;
    auto size = std::filesystem::file_size(
        paths::shared_dir(container.spec().dir) + "/" + paths::log_file("test"), ec);
    return ec ? 0 : size;
  }
  bool grows(const Container& container) {
    const size_t before = log_size(container);
    return eventually([&] { return log_size(container) > before; });
  }

  const std::string parent_ = "dvs-test-" + std::to_string(::getpid());
  const std::string group_ = parent_ + "/dc/task";
  std::optional<Cgroups> cgroups_;
};

// Forks all the time; each child writes.
constexpr const char* kForking = "while :; do sh -c 'echo x' & echo y; wait; done";

TEST_P(CgroupTest, AProgramIsBornInItsGroup) {
  Container& container = create("a");
  const Task task = start(container, in_group("exec sleep 100"));
  EXPECT_EQ(*cgroups_->processes(group_), std::vector<pid_t>{task.host_pid});
}

TEST_P(CgroupTest, EnterPutsItsProgramIntoAGroup) {
  Container& container = create("a");
  ChildOptions options;
  options.argv = container.enter_prefix();
  options.argv.pop_back();
  options.argv.insert(options.argv.end(), {"--cgroup", cgroups_->procs_file(group_), "--",
                                           "/bin/cat", "/proc/self/cgroup"});
  options.capture_output = true;
  auto result = run_child_blocking(std::move(options));
  ASSERT_TRUE(result.ok());
  EXPECT_NE(result->output.find(":/" + group_ + "\n"), std::string::npos) << result->output;
}

TEST_P(CgroupTest, AFrozenTreeIsSilentAndGoesOnWhenThawed) {
  Container& container = create("a");
  start(container, in_group(kForking));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(grows(container));
    auto frozen = freeze();
    ASSERT_TRUE(frozen.ok()) << frozen.error().message();
    EXPECT_TRUE(*cgroups_->frozen(group_));
    const size_t size = log_size(container);
    const auto processes = *cgroups_->processes(group_);
    ::usleep(20'000);  // time in which it would write
    EXPECT_EQ(log_size(container), size);
    EXPECT_EQ(*cgroups_->processes(group_), processes);
    ASSERT_TRUE(cgroups_->thaw(group_).ok());
    EXPECT_FALSE(*cgroups_->frozen(group_));
  }
  EXPECT_TRUE(grows(container));
}

TEST_P(CgroupTest, KillsARunningTreeThatForks) {
  Container& container = create("a");
  start(container, in_group(kForking));
  ASSERT_TRUE(grows(container));
  ASSERT_TRUE(kill().ok());
  EXPECT_TRUE(cgroups_->processes(group_)->empty());
  EXPECT_TRUE(eventually([&] { return processes_in(container) == 1; }));
}

TEST_P(CgroupTest, AKilledFrozenTreeExecutesNothing) {
  Container& container = create("a");
  start(container, in_group("trap 'echo trapped' TERM; while :; do echo x; done"));
  ASSERT_TRUE(grows(container));
  ASSERT_TRUE(freeze().ok());
  const size_t size = log_size(container);
  ASSERT_TRUE(kill().ok());
  EXPECT_TRUE(cgroups_->processes(group_)->empty());
  EXPECT_EQ(log_size(container), size);
  EXPECT_FALSE(*cgroups_->frozen(group_)) << "the group could not be used again";
  EXPECT_TRUE(kill().ok()) << "of an empty group";
}

TEST_P(CgroupTest, ListsEveryThreadWithBothIds) {
  Container& container = create("a");
  auto spec = in_group("");
  spec.argv = {self_path(), "threads"};
  const Task task = start(container, spec);
  ASSERT_TRUE(eventually([&] { return log_size(container) > 0; }));
  auto threads = threads_of_cgroup(cgroups_->dir(group_));
  ASSERT_TRUE(threads.ok());
  ASSERT_EQ(threads->size(), 2u);
  for (const auto& thread : *threads) {
    EXPECT_EQ(thread.host_pid, task.host_pid);
    EXPECT_EQ(thread.dc_pid, task.dc_pid);
    EXPECT_EQ(thread.host_tid - task.host_pid == 0, thread.dc_tid - task.dc_pid == 0);
  }
  EXPECT_NE((*threads)[0].dc_tid, (*threads)[1].dc_tid);
  EXPECT_GE((*threads)[1].dc_tid, container.spec().first_pid);
}

TEST_P(CgroupTest, OnlyEmptyGroupsAreRemoved) {
  Container& container = create("a");
  start(container, in_group("exec sleep 100"));
  ASSERT_TRUE(cgroups_->create(group_).ok()) << "it exists";
  EXPECT_EQ(cgroups_->list(parent_ + "/dc"), std::vector<std::string>{"task"});
  auto removed = cgroups_->remove(parent_);
  ASSERT_FALSE(removed.ok());
  EXPECT_EQ(removed.error().code(), Code::kConflict);
  ASSERT_TRUE(kill().ok());
  EXPECT_TRUE(eventually([&] { return cgroups_->remove(parent_).ok(); }));
  EXPECT_TRUE(cgroups_->list(parent_).empty());
  EXPECT_TRUE(cgroups_->remove(parent_).ok()) << "it is gone already";
}

TEST_P(CgroupTest, AGroupThatDoesNotExistIsNotFound) {
  ASSERT_TRUE(cgroups_->remove(group_).ok());
  EXPECT_EQ(freeze().error().code(), Code::kNotFound);
  EXPECT_EQ(cgroups_->thaw(group_).error().code(), Code::kNotFound);
  EXPECT_EQ(cgroups_->processes(group_).error().code(), Code::kNotFound);
  EXPECT_TRUE(kill().ok());
}

INSTANTIATE_TEST_SUITE_P(Kinds, CgroupTest, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "v2" : "v1"; });

TEST(Cgroups, PrefersTheV1Freezer) {
  auto detected = Cgroups::detect();
  ASSERT_TRUE(detected.ok()) << detected.error().message();
  const auto v1 = mount_point_of(false);
  EXPECT_EQ(detected->v2(), !v1.has_value());
  EXPECT_EQ(detected->mount_point(), v1 ? *v1 : *mount_point_of(true));
}

}  // namespace
}  // namespace dvs
