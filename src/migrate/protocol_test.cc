#include "migrate/protocol.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <tuple>

#include "base/file.h"

namespace dvs {
namespace {

TEST(Protocol, TheDocumentHasItsSteps) {
  const auto document = read_file(std::string(DVS_SOURCE_DIR) + "/docs/migration.md");
  ASSERT_TRUE(document.ok());
  for (const Step& step : kSteps) {
    std::string row;
    for (const std::string_view cell : {side_name(step.side), phase_name(step.from),
                                        event_name(step.on), phase_name(step.to), step.action}) {
      row += "| " + std::string(cell) + " ";
    }
    row += "|\n";
    EXPECT_NE(document->find(row), std::string::npos) << row;
  }
}

TEST(Protocol, EachStepIsThereOnce) {
  std::set<std::tuple<Side, Phase, Event>> seen;
  for (const Step& step : kSteps) {
    EXPECT_TRUE(seen.emplace(step.side, step.from, step.on).second) << event_name(step.on);
    EXPECT_EQ(&step_of(step.side, step.from == Phase::kAny ? Phase::kWaiting : step.from, step.on),
              &step);
  }
}

TEST(Protocol, AnOutcomeMayComeInEveryPhaseButOnce) {
  for (const Side side : {Side::kSource, Side::kTarget}) {
    for (const Event outcome : {Event::kCommitted, Event::kRolledBack}) {
      for (const Step& step : kSteps) {
        if (step.side != side || step.from == Phase::kAny) continue;
        EXPECT_EQ(step_of(side, step.from, outcome).to, Phase::kFinished);
      }
      EXPECT_DEATH(step_of(side, Phase::kFinished, outcome), "check failed");
    }
  }
}

TEST(Protocol, WhatCannotFollowEndsTheProgram) {
  EXPECT_DEATH(step_of(Side::kSource, Phase::kCopying, Event::kFrozen), "check failed");
  EXPECT_DEATH(step_of(Side::kTarget, Phase::kReceiving, Event::kRestored), "check failed");
}

}  // namespace
}  // namespace dvs
