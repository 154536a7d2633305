#include "dvk/region.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "dvk/region_guard.h"

namespace dvs::dvk {
namespace {

class SlotSetTest : public testing::Test {
 protected:
  static constexpr uint32_t kSlots = 5000;
  std::vector<std::atomic<uint64_t>> words_ =
      std::vector<std::atomic<uint64_t>>(SlotSet::size_in_words(kSlots));
  SlotSet sut_{words_.data(), kSlots};
};

TEST_F(SlotSetTest, FindsNothingInAnEmptySet) { EXPECT_EQ(sut_.find(17), kSlots); }

TEST_F(SlotSetTest, FindsEveryMemberFromEveryPosition) {
  for (uint32_t member : {0u, 1u, 63u, 64u, 127u, 4095u, 4096u, 4999u}) {
    sut_.set(member);
    for (uint32_t from : {0u, 1u, 62u, 63u, 64u, 65u, 2048u, 4095u, 4096u, 4999u}) {
      EXPECT_EQ(sut_.find(from), member) << "member " << member << " from " << from;
    }
    sut_.clear(member);
    EXPECT_EQ(sut_.find(0), kSlots);
  }
}

TEST_F(SlotSetTest, GoesRoundInOrder) {
  for (uint32_t member : {3u, 700u, 4998u}) sut_.set(member);
  EXPECT_EQ(sut_.find(0), 3u);
  EXPECT_EQ(sut_.find(4), 700u);
  EXPECT_EQ(sut_.find(701), 4998u);
  EXPECT_EQ(sut_.find(4999), 3u);
}

TEST_F(SlotSetTest, RepairFindsAMemberWhoseSetterDiedBeforeTheSummary) {
  words_[70].store(1);  // slot 4480, its summary bit never set
  EXPECT_EQ(sut_.find(0), kSlots);
  sut_.repair();
  EXPECT_EQ(sut_.find(0), 4480u);
}

class RegionFileTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }
  void TearDown() override { std::filesystem::remove(path_); }
  void write(const std::string& bytes) { std::ofstream(path_, std::ios::binary) << bytes; }
  std::string path_ = "/dev/shm/dvs-region-test-" + std::to_string(getpid());
};

TEST_F(RegionFileTest, OpensWhatWasCreated) {
  RegionSpec spec;
  spec.slots = 4096;
  spec.dcid = 7;
  spec.dc_name = "DC0";
  auto created = Region::create(path_, spec);
  ASSERT_TRUE(created.ok()) << created.error().message();
  created->at(4095).endpoint.store(42);
  auto sut = Region::open(path_);
  ASSERT_TRUE(sut.ok()) << sut.error().message();
  EXPECT_EQ(sut->slots(), 4096u);
  EXPECT_EQ(sut->header().dcid, 7);
  EXPECT_EQ(sut->at(4095).endpoint.load(), 42);
}

TEST_F(RegionFileTest, RefusesWhatIsNoRegion) {
  std::string random(100'000, '\0');
  for (size_t i = 0; i < random.size(); ++i) random[i] = static_cast<char>(i * 2654435761u >> 13);
  for (const std::string& bytes : {std::string(), std::string("x"), random}) {
    write(bytes);
    auto sut = Region::open(path_);
    ASSERT_FALSE(sut.ok());
    EXPECT_EQ(sut.error().code(), Code::kCorrupt);
  }
}

TEST_F(RegionFileTest, RefusesARegionCutShort) {
  ASSERT_TRUE(Region::create(path_, RegionSpec{}).ok());
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 64);
  auto sut = Region::open(path_);
  ASSERT_FALSE(sut.ok());
  EXPECT_EQ(sut.error().code(), Code::kCorrupt);
}

TEST_F(RegionFileTest, RefusesALink) {
  ASSERT_TRUE(Region::create(path_ + ".real", RegionSpec{}).ok());
  std::filesystem::create_symlink(path_ + ".real", path_);
  EXPECT_FALSE(Region::open(path_).ok());
  std::filesystem::remove(path_ + ".real");
}

TEST_F(RegionFileTest, AGuardedOneMayBeCutShort) {
  auto sut = Region::create(path_, RegionSpec{});
  ASSERT_TRUE(sut.ok());
  const RegionGuard guard(*sut);
  sut->at(1000).node.store(7);
  EXPECT_FALSE(guard.broken());
  std::filesystem::resize_file(path_, 4096);
  EXPECT_EQ(sut->at(1000).node.load(), 0u);
  EXPECT_EQ(sut->slots(), RegionSpec{}.slots);
  sut->senders(1000).set(5);
  EXPECT_TRUE(guard.broken());
}

TEST_F(RegionFileTest, RefusesImpossibleShapes) {
  for (uint32_t slots : {0u, 127u, kMaxSlots + 1}) {
    RegionSpec spec;
    spec.slots = slots;
    EXPECT_FALSE(Region::create(path_, spec).ok()) << slots;
  }
}

TEST(RegionTest, EndpointsOutOfRangeHaveNoSlot) {
  auto sut = Region::anonymous(RegionSpec{});
  ASSERT_TRUE(sut.ok());
  for (int endpoint : {ANY, NONE, SELF, -36, 1024, 989, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(sut->slot_of(endpoint), sut->slots()) << endpoint;
  }
  EXPECT_EQ(sut->slot_of(-35), 0u);
  EXPECT_EQ(sut->slot_of(0), 35u);
  EXPECT_EQ(sut->slot_of(988), 1023u);
  EXPECT_EQ(sut->slot_of(_ENDPOINT(5, 100)), 135u);
}

}  // namespace
}  // namespace dvs::dvk
