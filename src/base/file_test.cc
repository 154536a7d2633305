#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

namespace dvs {
namespace {

class FileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/dvs-file-test-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(dir_).ok()); }

  std::string path(const std::string& name) const { return dir_ + "/" + name; }

  std::string dir_;
};

TEST_F(FileTest, WritesAndReadsBack) {
  const std::string content = std::string("a\0b\n", 4) + std::string(100'000, 'x');
  ASSERT_TRUE(replace_file(path("f"), content).ok());
  auto read = read_file(path("f"));
  ASSERT_TRUE(read.ok()) << read.error().message();
  EXPECT_EQ(*read, content);
}

TEST_F(FileTest, ReplacingLeavesNoOtherFileAndNeedsTheDirectory) {
  ASSERT_TRUE(replace_file(path("f"), "old").ok());
  ASSERT_TRUE(replace_file(path("f"), "new").ok());
  EXPECT_EQ(*read_file(path("f")), "new");
  EXPECT_EQ(*list_dir(dir_), std::vector<std::string>{"f"});
  EXPECT_EQ(replace_file(path("missing/f"), "x").error().code(), Code::kNotFound);
}

// A reader that has the old file open keeps the whole of the old content.
TEST_F(FileTest, ReplacingDoesNotTouchTheOldFile) {
  ASSERT_TRUE(replace_file(path("f"), "old").ok());
  ASSERT_EQ(::link(path("f").c_str(), path("hard").c_str()), 0);
  ASSERT_TRUE(replace_file(path("f"), "new").ok());
  EXPECT_EQ(*read_file(path("hard")), "old");
}

TEST_F(FileTest, ReadsFilesOfUnknownSize) {
  auto status = read_file("/proc/self/status");
  ASSERT_TRUE(status.ok());
  EXPECT_NE(status->find("\nPid:\t" + std::to_string(::getpid()) + "\n"), std::string::npos);
}

TEST_F(FileTest, AMissingFileIsNotFoundAndNamed) {
  auto missing = read_file(path("nothing"));
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_NE(missing.error().message().find(path("nothing")), std::string::npos);
}

TEST_F(FileTest, ControlFilesAreNotCreated) {
  EXPECT_EQ(write_control_file(path("nothing"), "1").error().code(), Code::kNotFound);
  EXPECT_NE(::access(path("nothing").c_str(), F_OK), 0);
  ASSERT_TRUE(replace_file(path("f"), "").ok());
  ASSERT_TRUE(write_control_file(path("f"), "42").ok());
  EXPECT_EQ(*read_file(path("f")), "42");
}

TEST_F(FileTest, MakesNestedDirectoriesOnceAndAgain) {
  EXPECT_TRUE(make_dirs(path("a/b/c")).ok());
  EXPECT_TRUE(make_dirs(path("a/b/c")).ok());
  EXPECT_EQ(*list_dir(path("a/b")), std::vector<std::string>{"c"});
  ASSERT_TRUE(replace_file(path("f"), "").ok());
  EXPECT_FALSE(make_dirs(path("f/d")).ok());
}

TEST_F(FileTest, RemovesTreesButDoesNotFollowLinks) {
  ASSERT_TRUE(make_dirs(path("tree/deep")).ok());
  ASSERT_TRUE(replace_file(path("kept"), "still here").ok());
  ASSERT_EQ(::symlink(dir_.c_str(), path("tree/deep/out").c_str()), 0);
  EXPECT_TRUE(remove_tree(path("tree")).ok());
  EXPECT_EQ(*list_dir(dir_), std::vector<std::string>{"kept"});
  EXPECT_TRUE(remove_tree(path("tree")).ok()) << "a missing path is fine";
}

TEST_F(FileTest, ListsSorted) {
  for (const char* name : {"b", "c", "a"}) ASSERT_TRUE(replace_file(path(name), "").ok());
  EXPECT_EQ(*list_dir(dir_), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(list_dir(path("nothing")).error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace dvs
