#include "migrate/protocol.h"

#include <algorithm>

#include "base/check.h"

namespace dvs {
namespace {

constexpr std::string_view kPhases[] = {"begun",   "copying",  "settling",  "freezing",  "syncing",
                                        "dumping", "sending",  "receiving", "restoring", "deciding",
                                        "waiting", "finished", "any"};
constexpr std::string_view kEvents[] = {"copying opened", "started",      "round copied", "settled",
                                        "frozen",         "frozen whole", "synced",       "dumped",
                                        "sent",           "received",     "restored",     "failed",
                                        "committed",      "rolled back"};

}  // namespace

std::string_view side_name(Side side) { return side == Side::kSource ? "source" : "target"; }
std::string_view phase_name(Phase phase) { return kPhases[static_cast<size_t>(phase)]; }
std::string_view event_name(Event event) { return kEvents[static_cast<size_t>(event)]; }

const Step& step_of(Side side, Phase from, Event on) {
  const auto* found = std::find_if(kSteps.begin(), kSteps.end(), [&](const Step& step) {
    const bool fits = step.from == from || (step.from == Phase::kAny && from != Phase::kFinished);
    return step.side == side && fits && step.on == on;
  });
  DVS_CHECK(found != kSteps.end());
  return *found;
}

}  // namespace dvs
