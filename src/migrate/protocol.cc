#include "migrate/protocol.h"

#include <algorithm>

#include "base/check.h"

namespace dvs {
namespace {

constexpr std::string_view kRoles[] = {"source", "target", "coordinator", "keeper", "bystander"};
constexpr std::string_view kPhases[] = {
    "begun",    "checking", "starting",  "copying",   "settling",  "freezing", "syncing",
    "dumping",  "sending",  "receiving", "restoring", "deciding",  "waiting",  "taking in",
    "resuming", "filling",  "keeping",   "undoing",   "reporting", "finished", "undecided"};
constexpr std::string_view kEvents[] = {
    "described", "fits",         "copying opened", "started",   "round copied", "settled",
    "frozen",    "frozen whole", "synced",         "dumped",    "sent",         "received",
    "restored",  "failed",       "late",           "committed", "rolled back",  "taken in",
    "resumed",   "carried out",  "reported"};

}  // namespace

std::string_view role_name(MigrationRole role) { return kRoles[static_cast<size_t>(role)]; }
std::string_view phase_name(Phase phase) { return kPhases[static_cast<size_t>(phase)]; }
std::string_view event_name(Event event) { return kEvents[static_cast<size_t>(event)]; }

const Step& step_of(MigrationRole role, Phase from, Event on) {
  const auto* found = std::find_if(kSteps.begin(), kSteps.end(), [&](const Step& step) {
    const bool fits = step.from == from || (step.from == Phase::kUndecided && is_undecided(from));
    return step.role == role && fits && step.on == on;
  });
  DVS_CHECK(found != kSteps.end(), "{} {} {}", role_name(role), phase_name(from), event_name(on));
  return *found;
}

}  // namespace dvs
