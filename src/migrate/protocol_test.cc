#include "migrate/protocol.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

#include "base/file.h"
#include "migrate/faults.h"

namespace dvs {
namespace {

TEST(Protocol, TheDocumentHasItsSteps) {
  const auto document = read_file(std::string(DVS_SOURCE_DIR) + "/docs/migration.md");
  ASSERT_TRUE(document.ok());
  for (const Step& step : kSteps) {
    std::string row;
    for (const std::string_view cell : {role_name(step.role), phase_name(step.from),
                                        event_name(step.on), phase_name(step.to), step.action}) {
      row += "| " + std::string(cell) + " ";
    }
    row += "|\n";
    EXPECT_NE(document->find(row), std::string::npos) << row;
  }
}

TEST(Protocol, EachStepIsThereOnce) {
  std::set<std::tuple<MigrationRole, Phase, Event>> seen;
  for (const Step& step : kSteps) {
    EXPECT_TRUE(seen.emplace(step.role, step.from, step.on).second) << event_name(step.on);
    const Phase from = step.from == Phase::kUndecided ? Phase::kWaiting : step.from;
    EXPECT_EQ(&step_of(step.role, from, step.on), &step);
  }
}

TEST(Protocol, AnOutcomeMayComeInEveryPhaseButOnce) {
  for (const MigrationRole role :
       {MigrationRole::kSource, MigrationRole::kTarget, MigrationRole::kCoordinator,
        MigrationRole::kKeeper, MigrationRole::kBystander}) {
    for (const Event outcome : {Event::kCommitted, Event::kRolledBack}) {
      for (const Step& step : kSteps) {
        if (step.role != role || !is_undecided(step.from)) continue;
        EXPECT_FALSE(is_undecided(step_of(role, step.from, outcome).to));
      }
      EXPECT_DEATH(step_of(role, Phase::kFinished, outcome), "check failed");
      EXPECT_DEATH(step_of(role, Phase::kKeeping, outcome), "check failed");
    }
  }
}

TEST(Protocol, WhatCannotFollowEndsTheProgram) {
  EXPECT_DEATH(step_of(MigrationRole::kSource, Phase::kCopying, Event::kFrozen), "check failed");
  EXPECT_DEATH(step_of(MigrationRole::kTarget, Phase::kReceiving, Event::kRestored),
               "check failed");
  EXPECT_DEATH(step_of(MigrationRole::kBystander, Phase::kBegun, Event::kReported), "check failed");
}

// That is where crash_points_test lets it die, and cancels.
TEST(Protocol, EachPhaseOfEachRoleHasAPointAtWhichItDies) {
  std::set<std::pair<MigrationRole, Phase>> covered;
  for (const FaultPoint& point : kFaultPoints) {
    if (point.kind == FaultKind::kDies) covered.emplace(point.role, point.phase);
  }
  for (const Step& step : kSteps) {
    for (const Phase phase : {step.from, step.to}) {
      const bool nothing_done = phase == Phase::kBegun || phase == Phase::kFinished;
      if (phase == Phase::kUndecided || nothing_done) continue;
      EXPECT_EQ(covered.count({step.role, phase}), 1u)
          << role_name(step.role) << " " << phase_name(phase);
    }
  }
}

}  // namespace
}  // namespace dvs
