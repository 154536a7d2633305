// Fault points: numbered places where a test can make a migration fail, or a node. Armed one by one
// at run time (`POST /v1/faults`, only when dvsd was started with --faults); an armed point fires
// once.
//
// There is one for each phase of each role (but `begun`: nothing has been done yet), and each step
// at which a crash leaves something else behind. tests/integration/crash_points_test.cc goes
// through this table: a point that is added here is tested.
#pragma once

#include <array>
#include <string_view>

#include "base/result.h"
#include "migrate/protocol.h"

namespace dvs {

enum class Fault : int {
  kPreflight = 1,
  kDump,
  kTransfer,
  kRestore,
  kSourceDiesCopying,
  kSourceDiesStarted,
  kSourceDiesFrozen,
  kSourceDiesSynced,
  kSourceDiesDumped,
  kSourceDiesSending,
  kSourceDiesSent,
  kSourceDiesCommitted,
  kSourceDiesRolledBack,
  kSourceDiesKeeping,
  kTargetDiesExpecting,
  kTargetDiesReceiving,
  kTargetDiesReceived,
  kTargetDiesRestored,
  kTargetDiesProposed,
  kTargetDiesCommitted,
  kTargetDiesTakenIn,
  kTargetDiesResumed,
  kTargetDiesFilling,
  kTargetDiesFailed,
  kTargetDiesRolledBack,
  kCoordinatorDiesChecking,
  kCoordinatorDiesChecked,
  kCoordinatorDiesCopying,
  kCoordinatorDiesStarted,
  kCoordinatorDiesDecided,
  kBystanderDiesCopying,
  kBystanderDiesStarted,
  kBystanderDiesDecided,
  kKeeperDiesKeeping,
  kKeeperDiesSealed,
  kKeeperDiesCommitted,
};

// What happens at a point: something fails there, or the role's dvsd dies (as by SIGKILL).
enum class FaultKind { kFails, kDies };

struct FaultPoint {
  Fault fault;
  std::string_view name;
  MigrationRole role;
  Phase phase;  // in which the role is then
  FaultKind kind;
  std::string_view when;
};

constexpr std::array<FaultPoint, 36> kFaultPoints = {{
    {Fault::kPreflight, "preflight", MigrationRole::kTarget, Phase::kBegun, FaultKind::kFails,
     "the preflight refuses"},
    {Fault::kDump, "dump", MigrationRole::kSource, Phase::kDumping, FaultKind::kFails,
     "the engine's dump fails"},
    {Fault::kTransfer, "transfer", MigrationRole::kSource, Phase::kSending, FaultKind::kFails,
     "the link breaks when half of the images are sent"},
    {Fault::kRestore, "restore", MigrationRole::kTarget, Phase::kRestoring, FaultKind::kFails,
     "the engine's restore fails"},
    {Fault::kSourceDiesCopying, "source-dies-copying", MigrationRole::kSource, Phase::kCopying,
     FaultKind::kDies, "a round of copying is over, the process runs"},
    {Fault::kSourceDiesStarted, "source-dies-started", MigrationRole::kSource, Phase::kSettling,
     FaultKind::kDies, "START is known, nothing is stopped yet"},
    {Fault::kSourceDiesFrozen, "source-dies-frozen", MigrationRole::kSource, Phase::kFreezing,
     FaultKind::kDies, "the process is frozen"},
    {Fault::kSourceDiesSynced, "source-dies-synced", MigrationRole::kSource, Phase::kSyncing,
     FaultKind::kDies, "the rest of the memory is sent"},
    {Fault::kSourceDiesDumped, "source-dies-dumped", MigrationRole::kSource, Phase::kDumping,
     FaultKind::kDies, "the images are written"},
    {Fault::kSourceDiesSending, "source-dies-sending", MigrationRole::kSource, Phase::kSending,
     FaultKind::kDies, "half of the images are sent"},
    {Fault::kSourceDiesSent, "source-dies-sent", MigrationRole::kSource, Phase::kWaiting,
     FaultKind::kDies, "the images are sent"},
    {Fault::kSourceDiesCommitted, "source-dies-committed", MigrationRole::kSource, Phase::kKeeping,
     FaultKind::kDies, "COMMIT is known, the frozen copy is still there"},
    {Fault::kSourceDiesRolledBack, "source-dies-rolled-back", MigrationRole::kSource,
     Phase::kUndoing, FaultKind::kDies, "ROLLBACK is known, the process is still frozen"},
    {Fault::kSourceDiesKeeping, "source-dies-keeping", MigrationRole::kSource, Phase::kKeeping,
     FaultKind::kDies, "COMMIT is carried out, but for the memory that is owed"},
    {Fault::kTargetDiesExpecting, "target-dies-expecting", MigrationRole::kTarget,
     Phase::kReceiving, FaultKind::kDies, "the record is known, nothing has come"},
    {Fault::kTargetDiesReceiving, "target-dies-receiving", MigrationRole::kTarget,
     Phase::kReceiving, FaultKind::kDies, "the first of the images has come"},
    {Fault::kTargetDiesReceived, "target-dies-received", MigrationRole::kTarget, Phase::kRestoring,
     FaultKind::kDies, "everything has come that the restore needs"},
    {Fault::kTargetDiesRestored, "target-dies-restored", MigrationRole::kTarget, Phase::kRestoring,
     FaultKind::kDies, "the process is restored, and held"},
    {Fault::kTargetDiesProposed, "target-dies-proposed", MigrationRole::kTarget, Phase::kDeciding,
     FaultKind::kDies, "COMMIT is written"},
    {Fault::kTargetDiesCommitted, "target-dies-committed", MigrationRole::kTarget, Phase::kTakingIn,
     FaultKind::kDies, "COMMIT is known, the process is still held"},
    {Fault::kTargetDiesTakenIn, "target-dies-taken-in", MigrationRole::kTarget, Phase::kResuming,
     FaultKind::kDies, "the endpoints are bound here, the process is still held"},
    {Fault::kTargetDiesResumed, "target-dies-resumed", MigrationRole::kTarget, Phase::kFilling,
     FaultKind::kDies, "the process runs"},
    {Fault::kTargetDiesFilling, "target-dies-filling", MigrationRole::kTarget, Phase::kFilling,
     FaultKind::kDies, "the process runs, and its memory is being filled in"},
    {Fault::kTargetDiesFailed, "target-dies-failed", MigrationRole::kTarget, Phase::kWaiting,
     FaultKind::kDies, "it has failed, ROLLBACK is not proposed yet"},
    {Fault::kTargetDiesRolledBack, "target-dies-rolled-back", MigrationRole::kTarget,
     Phase::kUndoing, FaultKind::kDies, "ROLLBACK is known, what was restored is still there"},
    {Fault::kCoordinatorDiesChecking, "coordinator-dies-checking", MigrationRole::kCoordinator,
     Phase::kChecking, FaultKind::kDies, "the source has prepared"},
    {Fault::kCoordinatorDiesChecked, "coordinator-dies-checked", MigrationRole::kCoordinator,
     Phase::kStarting, FaultKind::kDies, "both sides have prepared, nothing is written"},
    {Fault::kCoordinatorDiesCopying, "coordinator-dies-copying", MigrationRole::kCoordinator,
     Phase::kCopying, FaultKind::kDies, "the record is written, the memory is being copied"},
    {Fault::kCoordinatorDiesStarted, "coordinator-dies-started", MigrationRole::kCoordinator,
     Phase::kWaiting, FaultKind::kDies, "START is written"},
    {Fault::kCoordinatorDiesDecided, "coordinator-dies-decided", MigrationRole::kCoordinator,
     Phase::kReporting, FaultKind::kDies, "the outcome is known"},
    {Fault::kBystanderDiesCopying, "bystander-dies-copying", MigrationRole::kBystander,
     Phase::kCopying, FaultKind::kDies, "the record is known, the gates are open"},
    {Fault::kBystanderDiesStarted, "bystander-dies-started", MigrationRole::kBystander,
     Phase::kWaiting, FaultKind::kDies, "the gates of the endpoints are closed"},
    {Fault::kBystanderDiesDecided, "bystander-dies-decided", MigrationRole::kBystander,
     Phase::kWaiting, FaultKind::kDies, "the outcome is known, the gates are still closed"},
    {Fault::kKeeperDiesKeeping, "keeper-dies-keeping", MigrationRole::kKeeper, Phase::kReceiving,
     FaultKind::kDies, "the first of the memory has come to the file server"},
    {Fault::kKeeperDiesSealed, "keeper-dies-sealed", MigrationRole::kKeeper, Phase::kReceiving,
     FaultKind::kDies, "the file server has everything, and has not said so"},
    {Fault::kKeeperDiesCommitted, "keeper-dies-committed", MigrationRole::kKeeper, Phase::kKeeping,
     FaultKind::kDies, "COMMIT is known, the memory is still there"},
}};

// A point that is come by only if the target fails, say at `restore`.
constexpr bool wants_failure(const FaultPoint& point) {
  const bool target_fails = point.role == MigrationRole::kTarget && point.phase == Phase::kWaiting;
  return target_fails || point.phase == Phase::kUndoing;
}

class Faults {
 public:
  explicit Faults(bool enabled) : enabled_(enabled) {}
  virtual ~Faults() = default;

  // kDenied when not enabled, kInvalid for an unknown name. `stop`: where it would die, this
  // process stops instead (as by SIGSTOP): so that a test can take the whole node away at that
  // moment, or let it go on later.
  Status arm(std::string_view name, bool stop = false);
  // Whether the point fires now (and is disarmed by that).
  virtual bool fires(Fault fault);
  // Ends (or stops) this process as SIGKILL (SIGSTOP) would, if the point fires.
  virtual void die_at(Fault fault);
  // A participant takes this step now; for a simulator to know.
  virtual void on_step(const Step& step) { static_cast<void>(step); }

 private:
  const bool enabled_;
  std::array<int, kFaultPoints.size() + 1> armed_{};
  bool stop_ = false;  // as the last one that was armed
};

}  // namespace dvs
