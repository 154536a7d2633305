#include "migrate/memory_server.h"

#include <gtest/gtest.h>

#include <cstring>

namespace dvs {
namespace {

using mover::kPageSize;
using mover::PageRange;

constexpr pid_t kPid = 7;

PageRange pages(uint64_t first, uint64_t count) {
  return {first * kPageSize, (first + count) * kPageSize};
}

// Each page is full of its number; number 0 is the page of zeros at 256.
class Numbers final : public MemoryKeeper {
 public:
  explicit Numbers(bool& gone) : gone_(gone) {}
  Status read(pid_t, PageRange range, char* out) override {
    if (gone_) return Error(Code::kNotFound, "it has gone");
    for (uint64_t at = range.start; at < range.end; at += kPageSize, out += kPageSize) {
      std::memset(out, static_cast<int>(at / kPageSize % 256), kPageSize);
    }
    return {};
  }

 private:
  bool& gone_;
};

class MemoryServerTest : public testing::Test {
 protected:
  MemoryServerTest() { restart("none", 0); }
  void restart(const char* packing, uint64_t bandwidth) {
    server_ = std::make_unique<MemoryServer>(
        executor_, "m1", std::make_unique<Numbers>(gone_), bandwidth, *Packer::make(packing),
        MemoryServer::Link{[this](std::string_view body) {
                             sent_.emplace_back(body);
                             return true;
                           },
                           [this] { return sent_.size() >= room_; }});
  }
  void want(PageRange range, MemoryPart part = MemoryPart::kWant) {
    server_->on_want({part, kPid, range, {}});
  }
  MemoryFrame frame(size_t index) { return *decode_memory(sent_.at(index)); }

  Executor executor_;
  bool gone_ = false;
  size_t room_ = 1000;
  std::vector<std::string> sent_;
  std::unique_ptr<MemoryServer> server_;
};

TEST_F(MemoryServerTest, GivesWhatIsWantedAndSaysWhatIsZeros) {
  want(pages(255, 3));
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(frame(0).part, MemoryPart::kPages);
  EXPECT_EQ(frame(0).pages, pages(255, 1));
  EXPECT_EQ(frame(0).bytes, std::string(kPageSize, '\xff'));
  EXPECT_EQ(frame(1).part, MemoryPart::kDrop);
  EXPECT_EQ(frame(1).pages, pages(256, 1));
  EXPECT_EQ(frame(2).bytes, std::string(kPageSize, '\1'));
  EXPECT_EQ(server_->served_bytes(), 2 * kPageSize);
}

TEST_F(MemoryServerTest, WhatSomebodyWaitsForOvertakes) {
  room_ = 0;
  want(pages(1, 16), MemoryPart::kWantLater);
  want(pages(17, 16), MemoryPart::kWantLater);
  want(pages(100, 1));
  want(pages(17, 16));
  EXPECT_TRUE(sent_.empty());
  room_ = 1000;
  server_->on_writable();
  executor_.run();  // until it has nothing more to do
  ASSERT_EQ(sent_.size(), 3u) << "and nothing twice";
  EXPECT_EQ(frame(0).pages, pages(100, 1));
  EXPECT_EQ(frame(1).pages, pages(17, 16));
  EXPECT_EQ(frame(2).pages, pages(1, 16));
}

TEST_F(MemoryServerTest, BandwidthIsForWhatNobodyWaitsFor) {
  restart("none", 1);  // a byte per second
  want(pages(1, 1), MemoryPart::kWantLater);
  const size_t before = sent_.size();
  want(pages(2, 1), MemoryPart::kWantLater);
  EXPECT_EQ(sent_.size(), before) << "in an hour";
  want(pages(3, 1));
  EXPECT_EQ(sent_.size(), before + 1);
}

TEST_F(MemoryServerTest, WhatIsGoneIsSaidToBe) {
  gone_ = true;
  want(pages(1, 1));
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(frame(0).part, MemoryPart::kGone);
  EXPECT_EQ(frame(0).bytes, "it has gone");
}

TEST_F(MemoryServerTest, NobodyMayWantWithoutLimit) {
  want({kPageSize, mover::kAddressLimit});
  EXPECT_TRUE(sent_.empty());
}

TEST_F(MemoryServerTest, PackedPagesAreWhatTheyWere) {
  restart("zstd", 0);
  want(pages(1, 16));
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(frame(0).part, MemoryPart::kPacked);
  EXPECT_LT(frame(0).bytes.size(), kPageSize);
  std::string storage;
  const auto whole = unpacked(frame(0), storage);
  ASSERT_TRUE(whole.ok());
  EXPECT_EQ(whole->part, MemoryPart::kPages);
  EXPECT_EQ(whole->bytes.substr(15 * kPageSize), std::string(kPageSize, 16));
}

}  // namespace
}  // namespace dvs
