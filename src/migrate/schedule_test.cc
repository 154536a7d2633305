#include "migrate/schedule.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr int64_t kMs = 1'000'000;
constexpr double kSpeed = 1000;  // MiB/s

// Rounds of a process that has `memory` MiB and writes so fast, as they follow each other.
std::string run(CopyingSchedule& schedule, double memory, double writes_per_s) {
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
    if (const std::string enough = schedule.enough(); !enough.empty()) return enough;
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
  mover::Round round{1024 * kMiB, 1024 * kMiB, 0, 100 * kMs, 100 * kMs};
  int rounds = 0;
  do {
    schedule.add(round);
    round.changed_bytes = round.changed_bytes * 7 / 10;
    ++rounds;
  } while (schedule.enough().empty() && rounds < 100);
  EXPECT_EQ(rounds, 5);
}

TEST(Algorithms, AreChosenByNameOrBySize) {
  EXPECT_EQ(choose_algorithm("pre-copy", 1)->algorithm, Algorithm::kPreCopy);
  EXPECT_EQ(choose_algorithm("total-copy", 1 << 30)->algorithm, Algorithm::kTotalCopy);
  EXPECT_EQ(choose_algorithm("auto", 100 << 10)->algorithm, Algorithm::kTotalCopy);
  EXPECT_EQ(choose_algorithm("auto", 1 << 30)->algorithm, Algorithm::kPreCopy);
  const auto unknown = choose_algorithm("post-copy", 1);
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code(), Code::kInvalid);
  EXPECT_NE(unknown.error().message().find("pre-copy"), std::string::npos)
      << "names those there are";
}

}  // namespace
}  // namespace dvs
