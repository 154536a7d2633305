#include "migrate/memory_fetch.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/file.h"

namespace dvs {
namespace {

using mover::kPageSize;
using mover::PagerVerb;
using mover::PagerWord;

constexpr pid_t kPid = 7;

mover::PageRange pages(uint64_t first, uint64_t count) {
  return {first * kPageSize, (first + count) * kPageSize};
}

// The test is the pager, and the node that has the memory.
class MemoryFetchTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = "/dev/shm/dvs-fetch-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    pager_.reset(ends[1]);
    fetch_ = std::make_shared<MemoryFetch>(executor_, "m1", directory_, UniqueFd(ends[0]),
                                           [this](std::string_view body) {
                                             asked_.emplace_back(body);
                                             return true;
                                           });
    fetch_->start();
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(directory_).ok()); }

  void run() {
    executor_.restart();
    while (executor_.poll() > 0) {
    }
  }
  void want(mover::PageRange range, PagerVerb verb = PagerVerb::kWant) {
    const PagerWord word{verb, kPid, range};
    ASSERT_EQ(::send(pager_.get(), &word, sizeof word, 0), ssize_t{sizeof word});
    run();
  }
  void deliver(mover::PageRange range, char fill) {
    const std::string bytes(range.size(), fill);
    fetch_->on_frame({MemoryPart::kPages, kPid, range, bytes});
  }
  // What the pager hears next, or nothing.
  std::optional<PagerWord> hear() {
    PagerWord word;
    run();
    const ssize_t size = ::recv(pager_.get(), &word, sizeof word, MSG_DONTWAIT);
    return size == sizeof word ? std::optional(word) : std::nullopt;
  }

  Executor executor_;
  std::string directory_;
  UniqueFd pager_;
  std::shared_ptr<MemoryFetch> fetch_;
  std::vector<std::string> asked_;
};

TEST_F(MemoryFetchTest, WhatIsWantedIsAskedForAndStored) {
  want(pages(10, 4), PagerVerb::kWantLater);
  ASSERT_EQ(asked_.size(), 1u);
  EXPECT_EQ(decode_memory(asked_[0])->part, MemoryPart::kWantLater);
  EXPECT_EQ(decode_memory(asked_[0])->pages, pages(10, 4));
  deliver(pages(10, 4), 'x');
  const auto word = hear();
  ASSERT_TRUE(word);
  EXPECT_EQ(word->verb, PagerVerb::kStored);
  EXPECT_EQ(word->pages, pages(10, 4));
  EXPECT_EQ(fetch_->fetched_bytes(), 4 * kPageSize);
  deliver(pages(10, 4), 'y');
  EXPECT_FALSE(hear()) << "it came twice";
  deliver(pages(50, 1), 'z');
  EXPECT_FALSE(hear()) << "nobody has asked for that";
}

TEST_F(MemoryFetchTest, WhatCameInPartIsStillTaken) {
  want(pages(10, 4), PagerVerb::kWantLater);
  want(pages(10, 1));
  deliver(pages(10, 1), 'x');
  EXPECT_EQ(hear()->pages, pages(10, 1));
  deliver(pages(10, 4), 'x');
  EXPECT_EQ(hear()->pages, pages(10, 4));
}

TEST_F(MemoryFetchTest, WhatHasNotComeIsAskedForAgain) {
  want(pages(0x10, 4));
  want(pages(0x20, 1));
  deliver(pages(0x10, 1), 'x');
  asked_.clear();
  fetch_->on_link_up();
  ASSERT_EQ(asked_.size(), 2u);
  EXPECT_EQ(decode_memory(asked_[0])->pages, pages(0x11, 3));
  EXPECT_EQ(decode_memory(asked_[1])->pages, pages(0x20, 1));
}

// It may be busy for a while; more than its socket has room for must not be lost.
TEST_F(MemoryFetchTest, APagerThatIsSlowMissesNothing) {
  constexpr uint64_t kMany = 5000;
  for (uint64_t page = 1; page <= kMany; ++page) want(pages(page * 2, 1));
  for (uint64_t page = 1; page <= kMany; ++page) deliver(pages(page * 2, 1), 'x');
  for (uint64_t page = 1; page <= kMany; ++page) {
    const auto word = hear();
    ASSERT_TRUE(word) << page;
    ASSERT_EQ(word->pages, pages(page * 2, 1));
  }
}

TEST_F(MemoryFetchTest, WhatThePagerLeavesBehindIsItsOutcome) {
  bool ended = false;
  fetch_->await_end([&] { ended = true; });
  EXPECT_EQ(MemoryFetch::outcome(directory_).error().code(), Code::kNotFound);
  const std::string file = directory_ + "/" + mover::kPagerOutcome;
  ASSERT_TRUE(replace_file(file, "it rained").ok());
  EXPECT_EQ(MemoryFetch::outcome(directory_).error().message(), "it rained");
  ASSERT_TRUE(replace_file(file, "complete\n{\"faults\": 3}").ok());
  EXPECT_EQ(MemoryFetch::outcome(directory_)->at("faults"), 3);
  EXPECT_FALSE(ended);
  pager_.reset();
  run();
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace dvs
