#include "container/shared_files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "container/paths.h"

namespace dvs {
namespace {

namespace fs = std::filesystem;

class SharedFiles : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/shared_files_test.XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    ASSERT_TRUE(make_dirs(paths::logs_dir(dir_)).ok());
    ASSERT_TRUE(replace_file(dir_ + "/secret", "of the node").ok());
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(dir_).ok()); }
  std::string path(const std::string& name) const { return paths::shared_dir(dir_) + "/" + name; }

  std::string dir_;
};

TEST_F(SharedFiles, AreWrittenReadAndRemoved) {
  ASSERT_TRUE(write_shared(dir_, "logs/a.log", "a long line").ok());
  ASSERT_TRUE(write_shared(dir_, "logs/a.log", "a line").ok());
  EXPECT_EQ(*read_shared(dir_, "logs/a.log", 100), "a line");
  EXPECT_EQ(*read_shared(dir_, "logs/a.log", 4), "line");
  remove_shared(dir_, "logs/a.log");
  EXPECT_EQ(read_shared(dir_, "logs/a.log", 100).error().code(), Code::kNotFound);
}

TEST_F(SharedFiles, LinksAreNotFollowed) {
  fs::create_symlink(dir_ + "/secret", path("logs/a.log"));
  EXPECT_FALSE(read_shared(dir_, "logs/a.log", 100).ok());
  EXPECT_FALSE(write_shared(dir_, "logs/a.log", "mine").ok());
  EXPECT_EQ(*read_file(dir_ + "/secret"), "of the node");
}

TEST_F(SharedFiles, NorIsALinkInPlaceOfTheirDirectory) {
  fs::remove(path("logs"));
  fs::create_symlink(dir_, path("logs"));
  EXPECT_FALSE(read_shared(dir_, "logs/secret", 100).ok());
  EXPECT_FALSE(write_shared(dir_, "logs/new", "mine").ok());
  EXPECT_FALSE(fs::exists(dir_ + "/new"));
  remove_shared(dir_, "logs/secret");
  EXPECT_TRUE(fs::exists(dir_ + "/secret"));
}

TEST_F(SharedFiles, APipeIsRefusedInsteadOfWaitedFor) {
  ASSERT_EQ(::mkfifo(path("exits").c_str(), 0600), 0);
  EXPECT_FALSE(read_shared(dir_, "exits", 100).ok());
  EXPECT_FALSE(write_shared(dir_, "exits", "x").ok());
}

TEST_F(SharedFiles, AnEndlessFileIsReadToItsLimit) {
  ASSERT_TRUE(write_shared(dir_, "exits", "begin").ok());
  ASSERT_EQ(::truncate(path("exits").c_str(), 1L << 40), 0);
  EXPECT_EQ(read_shared(dir_, "exits", 1000)->size(), 1000u);
}

}  // namespace
}  // namespace dvs
