#include "mover/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"

namespace dvs::mover {
namespace {

constexpr uint64_t kBase = 0x7fff00000000;  // far out in a sparse file

class StoreTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/dev/shm/dvs-store-XXXXXX";  // no other file system has such offsets
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name + "/memory";
    auto store = Store::open(directory_);
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_.emplace(std::move(*store));
  }
  void TearDown() override {
    std::filesystem::remove_all(std::filesystem::path(directory_).parent_path());
  }

  std::string page_of(char fill) { return std::string(kPageSize, fill); }
  char read(const StoredMemory& memory, uint64_t address) {
    char byte = '?';
    EXPECT_EQ(::pread(memory.file.get(), &byte, 1, static_cast<off_t>(address)), 1);
    return byte;
  }

  std::string directory_;
  std::optional<Store> store_;
};

TEST_F(StoreTest, HasWhatCameLastAndNotWhatWasDropped) {
  ASSERT_TRUE(store_->write(7, kBase, page_of('a') + page_of('b') + page_of('c')).ok());
  ASSERT_TRUE(store_->write(7, kBase + kPageSize, page_of('B')).ok());
  ASSERT_TRUE(store_->drop(7, {kBase + 2 * kPageSize, kBase + 3 * kPageSize}).ok());
  ASSERT_TRUE(store_->write(7, kBase + 9 * kPageSize, page_of('z')).ok());
  ASSERT_TRUE(store_->seal().ok());
  auto stored = open_stored(directory_, 7);
  ASSERT_TRUE(stored.ok()) << stored.error().message();
  EXPECT_EQ(stored->pages, (PageRanges{{kBase, kBase + 2 * kPageSize},
                                       {kBase + 9 * kPageSize, kBase + 10 * kPageSize}}));
  EXPECT_EQ(read(*stored, kBase), 'a');
  EXPECT_EQ(read(*stored, kBase + kPageSize), 'B');
  EXPECT_EQ(read(*stored, kBase + 2 * kPageSize), 0);
  struct stat info {};
  ASSERT_EQ(::fstat(stored->file.get(), &info), 0);
  EXPECT_LT(info.st_blocks * 512, 64 << 10) << "holes take no room";
}

TEST_F(StoreTest, AProcessWithoutMemoryHasNone) {
  auto stored = open_stored(directory_, 8);
  ASSERT_TRUE(stored.ok());
  EXPECT_FALSE(stored->file.valid());
  EXPECT_TRUE(stored->pages.empty());
}

TEST_F(StoreTest, WhatIsNotSealedOrIsNotOursIsRefused) {
  ASSERT_TRUE(store_->write(7, kBase, page_of('a')).ok());
  EXPECT_FALSE(open_stored(directory_, 7).ok()) << "more may be missing";
  const uint64_t backwards[] = {kBase + kPageSize, kBase};
  const uint64_t overlapping[] = {kBase, kBase + 2 * kPageSize, kBase + kPageSize,
                                  kBase + 3 * kPageSize};
  const uint64_t odd[] = {kBase + 1, kBase + kPageSize};
  const auto text = [](const auto& numbers) {
    return std::string_view(reinterpret_cast<const char*>(numbers), sizeof numbers);
  };
  for (const std::string_view list :
       {text(backwards), text(overlapping), text(odd), std::string_view("half a range")}) {
    ASSERT_TRUE(replace_file(directory_ + "/7.pages", list).ok());
    auto stored = open_stored(directory_, 7);
    ASSERT_FALSE(stored.ok());
    EXPECT_EQ(stored.error().code(), Code::kCorrupt);
  }
}

TEST_F(StoreTest, ImpossibleAddressesAreRefused) {
  const std::string page = page_of('x');
  for (const auto& [pid, address] : {std::pair<pid_t, uint64_t>{0, kBase},
                                     {-1, kBase},
                                     {7, kBase + 1},
                                     {7, kAddressLimit},
                                     {7, ~uint64_t{0} - kPageSize + 1}}) {
    const Status written = store_->write(pid, address, page);
    ASSERT_FALSE(written.ok()) << pid << " " << address;
    EXPECT_EQ(written.error().code(), Code::kCorrupt);
  }
  EXPECT_FALSE(store_->write(7, kBase, "half a page").ok());
  EXPECT_FALSE(store_->write(7, kBase, "").ok());
  EXPECT_FALSE(store_->drop(7, {kBase + kPageSize, kBase}).ok());
  EXPECT_FALSE(store_->drop(7, {kBase, kAddressLimit + kPageSize}).ok());
}

TEST_F(StoreTest, WhatIsOwedIsListedUntilItComes) {
  ASSERT_TRUE(store_->write(7, kBase, page_of('a') + page_of('b') + page_of('c')).ok());
  ASSERT_TRUE(store_->owe(7, {kBase + kPageSize, kBase + 3 * kPageSize}).ok());
  ASSERT_TRUE(store_->owe(7, {kBase + 8 * kPageSize, kBase + 9 * kPageSize}).ok());
  ASSERT_TRUE(store_->write(7, kBase + kPageSize, page_of('B')).ok());
  EXPECT_EQ(store_->owed_bytes(), 2 * kPageSize);
  ASSERT_TRUE(store_->seal().ok());
  auto stored = open_stored(directory_, 7);
  ASSERT_TRUE(stored.ok()) << stored.error().message();
  EXPECT_EQ(stored->pages, (PageRanges{{kBase, kBase + 2 * kPageSize}}));
  EXPECT_EQ(stored->owed, (PageRanges{{kBase + 2 * kPageSize, kBase + 3 * kPageSize},
                                      {kBase + 8 * kPageSize, kBase + 9 * kPageSize}}));
}

}  // namespace
}  // namespace dvs::mover
