// What a process may hold: what moves along, what must be there, and what cannot be moved.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "migrate/engine/testing/engine_fixture.h"

namespace dvs {
namespace {

using testing::EngineTest;
using testing::eventually;
using testing::start;
using testing::TestNode;

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

struct Unmovable {
  const char* mode;
  const char* word;  // in the message
};
class UnmovableTest : public EngineTest, public ::testing::WithParamInterface<Unmovable> {};

TEST_P(UnmovableTest, IsNamedAndLeftAsItWas) {
  TestNode source("source");
  auto pid = source.start_victim(GetParam().mode);
  ASSERT_TRUE(pid.ok()) << pid.error().message();
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
                                           Unmovable{"vsock", "socket"},
                                           Unmovable{"renamed", "/run/dvs/first"},
                                           Unmovable{"userfault", "userfaultfd"}),
                         [](const auto& param) { return std::string(param.param.mode); });

class MovableTest : public EngineTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(MovableTest, GoesAlong) {
  TestNode source("source");
  TestNode target("target");
  auto pid = source.start_victim(GetParam());
  ASSERT_TRUE(pid.ok()) << pid.error().message();
  migrate(source, *pid, target);
  EXPECT_TRUE(counts(target));
}

INSTANTIATE_TEST_SUITE_P(Kinds, MovableTest,
                         ::testing::Values("inotify", "fanotify", "packet", "pidfd"),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace dvs
