#include "migrate/schedule.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr int64_t kMs = 1'000'000;
constexpr double kSpeed = 1000;  // MiB/s

// Rounds of a process that has `memory` MiB and writes so fast, as they follow each other.
std::string run(CopyingSchedule& schedule, double memory, double writes_per_s,
                Algorithm algorithm = Algorithm::kPreCopy) {
  double changed = memory;
  double since_last_look = 0;
  for (int round = 0; round < 1000; ++round) {
    const double seconds = changed / kSpeed + 0.001;
    mover::Round each;
    each.populated_bytes = static_cast<uint64_t>(memory * kMiB);
    each.changed_bytes = static_cast<uint64_t>(changed * kMiB);
    each.duration_ns = static_cast<int64_t>(seconds * 1e9);
    each.interval_ns = static_cast<int64_t>(since_last_look * 1e9);
    since_last_look = seconds;
    schedule.add(each);
    if (const std::string enough = schedule.enough(algorithm); !enough.empty()) return enough;
    changed = std::min(memory, writes_per_s * seconds);
  }
  return {};
}

TEST(CopyingSchedule, AnIdleProcessIsFrozenAfterTwoRounds) {
  CopyingSchedule schedule({});
  EXPECT_NE(run(schedule, 1024, 0), "");
  EXPECT_EQ(schedule.rounds(), 2u);
  EXPECT_LT(schedule.expected_downtime().count(), 1);
}

TEST(CopyingSchedule, ASlowWriterIsFrozenWhenTheRestFitsTheDowntime) {
  CopyingSchedule schedule({.max_downtime = std::chrono::milliseconds(10)});
  const std::string why = run(schedule, 1024, 200);
  EXPECT_NE(why.find("what is left"), std::string::npos) << why;
  EXPECT_GT(schedule.rounds(), 2u);
  EXPECT_LE(schedule.expected_downtime().count(), 10);
  EXPECT_NEAR(schedule.changed_bytes_per_second() / kMiB, 200, 100);
}

TEST(CopyingSchedule, AMoreGenerousDowntimeNeedsFewerRounds) {
  CopyingSchedule strict({.max_downtime = std::chrono::milliseconds(2)});
  CopyingSchedule generous({.max_downtime = std::chrono::milliseconds(300)});
  run(strict, 1024, 300);
  run(generous, 1024, 300);
  EXPECT_LT(generous.rounds(), strict.rounds());
}

TEST(CopyingSchedule, WhoWritesFasterThanCanBeSentEndsToo) {
  for (const double writes : {800.0, 1000.0, 5000.0}) {
    CopyingSchedule schedule({});
    const std::string why = run(schedule, 1024, writes);
    EXPECT_NE(why.find("rounds do not help"), std::string::npos) << writes << ": " << why;
    EXPECT_LE(schedule.rounds(), 4u);
  }
}

TEST(CopyingSchedule, RoundsAreLimitedWhateverHappens) {
  CopyingSchedule schedule({.max_downtime = std::chrono::milliseconds(1), .max_rounds = 5});
  mover::Round round;
  round.populated_bytes = round.changed_bytes = 1024 * kMiB;
  round.interval_ns = round.duration_ns = 100 * kMs;
  int rounds = 0;
  do {
    schedule.add(round);
    round.changed_bytes = round.changed_bytes * 7 / 10;
    ++rounds;
  } while (schedule.enough(Algorithm::kPreCopy).empty() && rounds < 100);
  EXPECT_EQ(rounds, 5);
}

TEST(CopyingSchedule, NonFreezingStopsAsSoonAsItKnowsWhatIsUsed) {
  CopyingSchedule schedule({});
  EXPECT_NE(run(schedule, 1024, 200, Algorithm::kNonFreezing), "");
  EXPECT_EQ(schedule.rounds(), 2u);
  EXPECT_FALSE(schedule.is_within_limit());
}

TEST(CopyingSchedule, WhileFrozenSomeSendAllAndOthersWhatFitsTheDowntime) {
  CopyingSchedule none({});
  EXPECT_EQ(none.budget(Algorithm::kOnDemand), 0u) << "nothing is known, so nothing is sent";
  EXPECT_EQ(none.budget(Algorithm::kTotalCopy), mover::Copier::kAll);
  CopyingSchedule schedule({.max_downtime = std::chrono::milliseconds(20)});
  run(schedule, 1024, 5000);
  EXPECT_EQ(schedule.budget(Algorithm::kPreCopy), mover::Copier::kAll);
  const double expected = kSpeed * kMiB * 0.020;
  for (const Algorithm each : {Algorithm::kOnDemand, Algorithm::kNonFreezing}) {
    EXPECT_NEAR(static_cast<double>(schedule.budget(each)), expected, expected / 5);
  }
}

ChoiceFacts with_memory(uint64_t bytes) {
  ChoiceFacts facts;
  facts.memory_bytes = bytes;
  return facts;
}

TEST(Algorithms, AreChosenByNameOrBySize) {
  for (const Algorithm each : {Algorithm::kTotalCopy, Algorithm::kPreCopy, Algorithm::kOnDemand,
                               Algorithm::kNonFreezing}) {
    EXPECT_EQ(choose_algorithm(algorithm_name(each), with_memory(1 << 30))->algorithm, each);
  }
  const auto small = choose_algorithm("auto", with_memory(100 << 10));
  EXPECT_EQ(small->algorithm, Algorithm::kTotalCopy);
  EXPECT_FALSE(small->adaptive);
  const auto large = choose_algorithm("auto", with_memory(1 << 30));
  EXPECT_EQ(large->algorithm, Algorithm::kPreCopy);
  EXPECT_TRUE(large->adaptive);
  EXPECT_FALSE(choose_algorithm("pre-copy", with_memory(1 << 30))->adaptive);
  const auto unknown = choose_algorithm("post-copy", with_memory(1));
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code(), Code::kInvalid);
  EXPECT_NE(unknown.error().message().find("auto, total-copy, pre-copy"), std::string::npos)
      << "names those there are";
}

TEST(Algorithms, AFastLinkMakesCopyingAheadNeedless) {
  ChoiceFacts facts = with_memory(2 * kMiB);
  EXPECT_EQ(choose_algorithm("auto", facts)->algorithm, Algorithm::kPreCopy);
  facts.bytes_per_second = 10'000.0 * kMiB;
  EXPECT_EQ(choose_algorithm("auto", facts)->algorithm, Algorithm::kTotalCopy);
  facts.bytes_per_second = 100.0 * kMiB;
  EXPECT_EQ(choose_algorithm("auto", facts)->algorithm, Algorithm::kPreCopy);
}

TEST(Algorithms, AFileServerIsForOneOfThem) {
  ChoiceFacts facts = with_memory(8 * kMiB);
  EXPECT_EQ(choose_algorithm("file-server", facts).error().code(), Code::kInvalid);
  facts.file_server = true;
  EXPECT_EQ(choose_algorithm("file-server", facts)->algorithm, Algorithm::kFileServer);
  EXPECT_EQ(choose_algorithm("auto", facts)->algorithm, Algorithm::kFileServer);
  EXPECT_EQ(choose_algorithm("pre-copy", facts).error().code(), Code::kInvalid);
}

}  // namespace
}  // namespace dvs
