#include "migrate/memory_source.h"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>
#include <cstring>

#include "migrate/memory_frames.h"
#include "mover/testing/child.h"

namespace dvs {
namespace {

using mover::Child;
using mover::kPageSize;
using mover::Stages;

constexpr size_t kPages = 4096;  // 16 MiB, more than is ever queued

// A process with much memory, which is copied over a link that takes as much as it is told to.
class MemorySourceTest : public testing::Test {
 protected:
  MemorySourceTest()
      : memory_(mover::map_pages(kPages, 'x')),
        child_([](Stages& stages) { stages.at(0); }),
        source_(executor_, "m1", 0, *Packer::make("none"), mover::inject_userfaultfd,
                {[this](std::string_view body) {
                   if (up_) bytes_ += decode_memory(body)->bytes.size();
                   const auto until = std::chrono::steady_clock::now() + takes_;
                   while (std::chrono::steady_clock::now() < until) {
                   }
                   return up_;
                 },
                 [this] { return bytes_ >= room_; }}) {}
  ~MemorySourceTest() override { ::munmap(memory_, kPages * kPageSize); }

  void begin_round() {
    ASSERT_TRUE(child_.to(0));
    source_.round({{child_.pid(), child_.pid()}},
                  [this](Result<mover::Round> round) { ended_ = std::move(round); });
  }
  // Runs the executor until then.
  bool until(const std::function<bool()>& there) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!there()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      executor_.restart();
      executor_.run_for(std::chrono::milliseconds(1));
    }
    return true;
  }

  Executor executor_;
  char* memory_;
  Child child_;
  bool up_ = true;
  std::chrono::microseconds takes_{0};  // to send a frame
  uint64_t bytes_ = 0;
  uint64_t room_ = UINT64_MAX;
  std::optional<Result<mover::Round>> ended_;
  MemorySource source_;
};

TEST_F(MemorySourceTest, ARoundEndsWhenTheLinkHasTakenAllOfIt) {
  begin_round();
  ASSERT_TRUE(until([&] { return ended_.has_value(); }));
  ASSERT_TRUE(ended_->ok());
  EXPECT_GE(bytes_, kPages * kPageSize);
  EXPECT_EQ(bytes_, (*ended_)->sent_bytes);
}

// Messages of other processes go through the same event loop.
TEST_F(MemorySourceTest, WhileARoundGoesOnOthersHaveTheirTurn) {
  takes_ = std::chrono::microseconds(200);  // the queue never runs empty
  begin_round();
  uint64_t seen = 0;
  uint64_t most = 0;
  std::function<void()> other = [&] {
    most = std::max(most, bytes_ - seen);
    seen = bytes_;
    if (!ended_) boost::asio::post(executor_, other);
  };
  boost::asio::post(executor_, other);
  ASSERT_TRUE(until([&] { return ended_.has_value(); }));
  ASSERT_TRUE(ended_->ok());
  EXPECT_LE(most, 1u << 20) << "bytes between two turns";
}

TEST_F(MemorySourceTest, GivenUpWhileTheLinkTakesNothingItsRoundEnds) {
  room_ = 1 << 20;
  begin_round();
  ASSERT_TRUE(until([&] { return bytes_ >= room_; }));
  source_.give_up();
  ASSERT_TRUE(until([&] { return ended_.has_value(); }));
  EXPECT_FALSE(ended_->ok());
}

TEST_F(MemorySourceTest, ALinkThatBreaksEndsItsRound) {
  room_ = 1 << 20;
  begin_round();
  ASSERT_TRUE(until([&] { return bytes_ >= room_; }));
  up_ = false;
  room_ = UINT64_MAX;
  source_.on_writable();
  ASSERT_TRUE(until([&] { return ended_.has_value(); }));
  EXPECT_FALSE(ended_->ok());
}

}  // namespace
}  // namespace dvs
