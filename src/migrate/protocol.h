// The steps of a migration's participants, as one table: what each may do next, and on what. The
// code takes every step from here (next_phase), the document is compared with it (protocol_test),
// and the simulator has to have gone through all of it (tests/sim).
//
// An outcome may come at any moment. When it comes in the middle of work, which cannot be stopped
// half-way, it is carried out at the end of that.
#pragma once

#include <array>
#include <string_view>

namespace dvs {

enum class Side { kSource, kTarget };

enum class Phase {
  kBegun,
  kCopying,
  kSettling,
  kFreezing,
  kSyncing,
  kDumping,
  kSending,
  kReceiving,
  kRestoring,
  kDeciding,
  kWaiting,
  kFinished,
  kAny,  // in the table: each but kFinished
};

enum class Event {
  kCopyingOpened,  // the record says `copying`
  kStarted,        // ... `active`
  kRoundCopied,
  kSettled,
  kFrozen,       // its memory is the mover's
  kFrozenWhole,  // ... the engine's
  kSynced,
  kDumped,
  kSent,
  kReceived,
  kRestored,
  kFailed,
  kCommitted,  // the record says so
  kRolledBack,
};

struct Step {
  Side side;
  Phase from;
  Event on;
  Phase to;
  std::string_view action;
};

inline constexpr std::array<Step, 19> kSteps = {{
    {Side::kSource, Phase::kBegun, Event::kCopyingOpened, Phase::kCopying, "copies a round"},
    {Side::kSource, Phase::kBegun, Event::kStarted, Phase::kSettling,
     "waits until none of its threads is between the gate and its next wait"},
    {Side::kSource, Phase::kCopying, Event::kRoundCopied, Phase::kCopying,
     "copies another round, or proposes START"},
    {Side::kSource, Phase::kCopying, Event::kStarted, Phase::kSettling,
     "waits until none of its threads is between the gate and its next wait"},
    {Side::kSource, Phase::kSettling, Event::kSettled, Phase::kFreezing, "freezes the cgroup"},
    {Side::kSource, Phase::kFreezing, Event::kFrozen, Phase::kSyncing,
     "copies what has changed since the last round"},
    {Side::kSource, Phase::kFreezing, Event::kFrozenWhole, Phase::kDumping, "dumps"},
    {Side::kSource, Phase::kSyncing, Event::kSynced, Phase::kDumping, "dumps"},
    {Side::kSource, Phase::kDumping, Event::kDumped, Phase::kSending, "sends images, capsule, log"},
    {Side::kSource, Phase::kSending, Event::kSent, Phase::kWaiting, "waits for the outcome"},
    {Side::kSource, Phase::kAny, Event::kFailed, Phase::kWaiting, "proposes ROLLBACK"},
    {Side::kSource, Phase::kAny, Event::kCommitted, Phase::kFinished,
     "makes the endpoints remote; ends the frozen copy once nobody is owed its memory"},
    {Side::kSource, Phase::kAny, Event::kRolledBack, Phase::kFinished, "thaws, opens the gates"},
    {Side::kTarget, Phase::kReceiving, Event::kReceived, Phase::kRestoring,
     "restores, holds before the first instruction"},
    {Side::kTarget, Phase::kRestoring, Event::kRestored, Phase::kDeciding, "proposes COMMIT"},
    {Side::kTarget, Phase::kReceiving, Event::kFailed, Phase::kWaiting, "proposes ROLLBACK"},
    {Side::kTarget, Phase::kRestoring, Event::kFailed, Phase::kWaiting, "proposes ROLLBACK"},
    {Side::kTarget, Phase::kAny, Event::kCommitted, Phase::kFinished,
     "takes the endpoints in, lets the process run"},
    {Side::kTarget, Phase::kAny, Event::kRolledBack, Phase::kFinished, "ends what was restored"},
}};

std::string_view side_name(Side side);
std::string_view phase_name(Phase phase);  // "copying"
std::string_view event_name(Event event);  // "round copied"

// The step from `from` on `on`. Aborts when there is none: that is a mistake of ours, and to go on
// could make a second copy of a process.
const Step& step_of(Side side, Phase from, Event on);

}  // namespace dvs
