// The steps of all who have a part in a migration, as one table: what each may do next, and on
// what. The code takes every step from here (step_of), the document is compared with it
// (protocol_test), the simulator has to have gone through all of it (tests/sim), and each phase but
// `begun` has a point at which tests let a dvsd die, and cancel (faults.h,
// tests/integration/crash_points_test.cc).
//
// An outcome may come at any moment. When it comes in the middle of work, which cannot be stopped
// half-way, it is carried out at the end of that.
#pragma once

#include <array>
#include <string_view>

namespace dvs {

// The keeper is the file server. A bystander is every other node of the DC: it has a gate.
enum class MigrationRole { kSource, kTarget, kCoordinator, kKeeper, kBystander };

enum class Phase {
  kBegun,
  kChecking,
  kStarting,
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
  // The outcome is known:
  kTakingIn,
  kResuming,
  kFilling,
  kKeeping,
  kUndoing,
  kReporting,
  kFinished,
  kUndecided,  // in the table: any of those before
};

enum class Event {
  kDescribed,      // the source has said what is to be moved
  kFits,           // the target can take it
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
  kLate,       // the time allowed is over
  kCommitted,  // the record says so
  kRolledBack,
  kTakenIn,
  kResumed,
  kCarriedOut,
  kReported,  // by both sides
};

struct Step {
  MigrationRole role;
  Phase from;
  Event on;
  Phase to;
  std::string_view action;
};

inline constexpr std::array<Step, 48> kSteps = {{
    {MigrationRole::kSource, Phase::kBegun, Event::kCopyingOpened, Phase::kCopying,
     "copies a round"},
    {MigrationRole::kSource, Phase::kBegun, Event::kStarted, Phase::kSettling,
     "waits until none of its threads is between the gate and its next wait"},
    {MigrationRole::kSource, Phase::kCopying, Event::kRoundCopied, Phase::kCopying,
     "copies another round, or proposes START"},
    {MigrationRole::kSource, Phase::kCopying, Event::kStarted, Phase::kSettling,
     "waits until none of its threads is between the gate and its next wait"},
    {MigrationRole::kSource, Phase::kSettling, Event::kSettled, Phase::kFreezing,
     "freezes the cgroup"},
    {MigrationRole::kSource, Phase::kFreezing, Event::kFrozen, Phase::kSyncing,
     "copies what has changed since the last round"},
    {MigrationRole::kSource, Phase::kFreezing, Event::kFrozenWhole, Phase::kDumping, "dumps"},
    {MigrationRole::kSource, Phase::kSyncing, Event::kSynced, Phase::kDumping, "dumps"},
    {MigrationRole::kSource, Phase::kDumping, Event::kDumped, Phase::kSending,
     "sends images, capsule, log"},
    {MigrationRole::kSource, Phase::kSending, Event::kSent, Phase::kWaiting,
     "waits for the outcome"},
    {MigrationRole::kSource, Phase::kUndecided, Event::kFailed, Phase::kWaiting,
     "proposes ROLLBACK"},
    {MigrationRole::kSource, Phase::kUndecided, Event::kCommitted, Phase::kKeeping,
     "makes the endpoints remote; ends the frozen copy once nobody is owed its memory"},
    {MigrationRole::kSource, Phase::kKeeping, Event::kCarriedOut, Phase::kFinished, "reports"},
    {MigrationRole::kSource, Phase::kUndecided, Event::kRolledBack, Phase::kUndoing,
     "thaws, opens the gates"},
    {MigrationRole::kSource, Phase::kUndoing, Event::kCarriedOut, Phase::kFinished, "reports"},

    {MigrationRole::kTarget, Phase::kReceiving, Event::kReceived, Phase::kRestoring,
     "restores, holds before the first instruction"},
    {MigrationRole::kTarget, Phase::kRestoring, Event::kRestored, Phase::kDeciding,
     "proposes COMMIT"},
    {MigrationRole::kTarget, Phase::kReceiving, Event::kFailed, Phase::kWaiting,
     "proposes ROLLBACK"},
    {MigrationRole::kTarget, Phase::kRestoring, Event::kFailed, Phase::kWaiting,
     "proposes ROLLBACK"},
    {MigrationRole::kTarget, Phase::kUndecided, Event::kCommitted, Phase::kTakingIn,
     "takes the endpoints in"},
    {MigrationRole::kTarget, Phase::kTakingIn, Event::kTakenIn, Phase::kResuming,
     "lets the process run"},
    {MigrationRole::kTarget, Phase::kResuming, Event::kResumed, Phase::kFilling,
     "fills its memory in, then says that nothing is owed"},
    {MigrationRole::kTarget, Phase::kFilling, Event::kCarriedOut, Phase::kFinished, "reports"},
    {MigrationRole::kTarget, Phase::kUndecided, Event::kRolledBack, Phase::kUndoing,
     "ends what was restored"},
    {MigrationRole::kTarget, Phase::kUndoing, Event::kCarriedOut, Phase::kFinished, "reports"},

    {MigrationRole::kCoordinator, Phase::kBegun, Event::kDescribed, Phase::kChecking,
     "asks the target whether it can take it"},
    {MigrationRole::kCoordinator, Phase::kBegun, Event::kFailed, Phase::kFinished, "refuses"},
    {MigrationRole::kCoordinator, Phase::kChecking, Event::kFits, Phase::kStarting,
     "writes the record"},
    {MigrationRole::kCoordinator, Phase::kChecking, Event::kFailed, Phase::kFinished,
     "refuses, dismisses both sides"},
    {MigrationRole::kCoordinator, Phase::kStarting, Event::kCopyingOpened, Phase::kCopying,
     "waits until it is copied"},
    {MigrationRole::kCoordinator, Phase::kStarting, Event::kStarted, Phase::kWaiting,
     "waits for the outcome"},
    {MigrationRole::kCoordinator, Phase::kStarting, Event::kFailed, Phase::kFinished,
     "refuses, dismisses both sides"},
    {MigrationRole::kCoordinator, Phase::kCopying, Event::kStarted, Phase::kWaiting,
     "waits for the outcome"},
    {MigrationRole::kCoordinator, Phase::kCopying, Event::kLate, Phase::kCopying,
     "proposes ROLLBACK, or tells the source to end copying"},
    {MigrationRole::kCoordinator, Phase::kWaiting, Event::kLate, Phase::kWaiting,
     "proposes ROLLBACK"},
    {MigrationRole::kCoordinator, Phase::kUndecided, Event::kCommitted, Phase::kReporting,
     "waits for what both sides report"},
    {MigrationRole::kCoordinator, Phase::kUndecided, Event::kRolledBack, Phase::kReporting,
     "waits for what both sides report"},
    {MigrationRole::kCoordinator, Phase::kReporting, Event::kReported, Phase::kFinished,
     "completes the record, answers"},
    {MigrationRole::kCoordinator, Phase::kReporting, Event::kLate, Phase::kFinished,
     "completes the record, answers"},

    {MigrationRole::kKeeper, Phase::kBegun, Event::kCopyingOpened, Phase::kReceiving,
     "takes memory in"},
    {MigrationRole::kKeeper, Phase::kUndecided, Event::kCommitted, Phase::kKeeping,
     "gives out what is owed"},
    {MigrationRole::kKeeper, Phase::kUndecided, Event::kRolledBack, Phase::kKeeping,
     "owes nothing"},
    {MigrationRole::kKeeper, Phase::kKeeping, Event::kCarriedOut, Phase::kFinished,
     "removes the memory"},

    {MigrationRole::kBystander, Phase::kBegun, Event::kCopyingOpened, Phase::kCopying,
     "does nothing yet"},
    {MigrationRole::kBystander, Phase::kBegun, Event::kStarted, Phase::kWaiting,
     "closes the gates"},
    {MigrationRole::kBystander, Phase::kCopying, Event::kStarted, Phase::kWaiting,
     "closes the gates"},
    {MigrationRole::kBystander, Phase::kUndecided, Event::kCommitted, Phase::kFinished,
     "opens the gates; what waits goes to the new place"},
    {MigrationRole::kBystander, Phase::kUndecided, Event::kRolledBack, Phase::kFinished,
     "opens the gates"},
}};

// Before its outcome is known.
constexpr bool is_undecided(Phase phase) { return phase < Phase::kTakingIn; }

std::string_view role_name(MigrationRole role);
std::string_view phase_name(Phase phase);  // "copying"
std::string_view event_name(Event event);  // "round copied"

// The step from `from` on `on`. Aborts when there is none: that is a mistake of ours, and to go on
// could make a second copy of a process.
const Step& step_of(MigrationRole role, Phase from, Event on);

}  // namespace dvs
