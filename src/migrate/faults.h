// Fault points: numbered places where a test can make a migration fail, or a node. Armed one by one
// at run time (`POST /v1/faults`, only when dvsd was started with --faults); an armed point fires
// once.
//
// There is one for each step of each role at which a crash leaves something else behind.
// tests/integration/crash_points_test.cc goes through this table: a point that is added here is
// tested.
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
  kTargetDiesRolledBack,
  kCoordinatorDiesChecked,
  kCoordinatorDiesStarted,
  kCoordinatorDiesDecided,
  kBystanderDiesStarted,
  kBystanderDiesDecided,
  kKeeperDiesKeeping,
  kKeeperDiesSealed,
};

// What happens at a point: something fails there, or the role's dvsd dies (as by SIGKILL).
enum class FaultKind { kFails, kDies };

struct FaultPoint {
  Fault fault;
  std::string_view name;
  std::string_view role;
  FaultKind kind;
  std::string_view when;
};

constexpr std::array<FaultPoint, 30> kFaultPoints = {{
    {Fault::kPreflight, "preflight", "target", FaultKind::kFails, "the preflight refuses"},
    {Fault::kDump, "dump", "source", FaultKind::kFails, "the engine's dump fails"},
    {Fault::kTransfer, "transfer", "source", FaultKind::kFails,
     "the link breaks when half of the images are sent"},
    {Fault::kRestore, "restore", "target", FaultKind::kFails, "the engine's restore fails"},
    {Fault::kSourceDiesCopying, "source-dies-copying", "source", FaultKind::kDies,
     "a round of copying is over, the process runs"},
    {Fault::kSourceDiesStarted, "source-dies-started", "source", FaultKind::kDies,
     "START is known, nothing is stopped yet"},
    {Fault::kSourceDiesFrozen, "source-dies-frozen", "source", FaultKind::kDies,
     "the process is frozen"},
    {Fault::kSourceDiesSynced, "source-dies-synced", "source", FaultKind::kDies,
     "the rest of the memory is sent"},
    {Fault::kSourceDiesDumped, "source-dies-dumped", "source", FaultKind::kDies,
     "the images are written"},
    {Fault::kSourceDiesSent, "source-dies-sent", "source", FaultKind::kDies, "the images are sent"},
    {Fault::kSourceDiesCommitted, "source-dies-committed", "source", FaultKind::kDies,
     "COMMIT is known, the frozen copy is still there"},
    {Fault::kSourceDiesRolledBack, "source-dies-rolled-back", "source", FaultKind::kDies,
     "ROLLBACK is known, the process is still frozen"},
    {Fault::kSourceDiesKeeping, "source-dies-keeping", "source", FaultKind::kDies,
     "COMMIT is carried out, but for the memory that is owed"},
    {Fault::kTargetDiesExpecting, "target-dies-expecting", "target", FaultKind::kDies,
     "the record is known, nothing has come"},
    {Fault::kTargetDiesReceiving, "target-dies-receiving", "target", FaultKind::kDies,
     "the first of the images has come"},
    {Fault::kTargetDiesReceived, "target-dies-received", "target", FaultKind::kDies,
     "everything has come that the restore needs"},
    {Fault::kTargetDiesRestored, "target-dies-restored", "target", FaultKind::kDies,
     "the process is restored, and held"},
    {Fault::kTargetDiesProposed, "target-dies-proposed", "target", FaultKind::kDies,
     "COMMIT is written"},
    {Fault::kTargetDiesCommitted, "target-dies-committed", "target", FaultKind::kDies,
     "COMMIT is known, the process is still held"},
    {Fault::kTargetDiesTakenIn, "target-dies-taken-in", "target", FaultKind::kDies,
     "the endpoints are bound here, the process is still held"},
    {Fault::kTargetDiesResumed, "target-dies-resumed", "target", FaultKind::kDies,
     "the process runs"},
    {Fault::kTargetDiesFilling, "target-dies-filling", "target", FaultKind::kDies,
     "the process runs, and its memory is being filled in"},
    {Fault::kTargetDiesRolledBack, "target-dies-rolled-back", "target", FaultKind::kDies,
     "ROLLBACK is known, what was restored is still there"},
    {Fault::kCoordinatorDiesChecked, "coordinator-dies-checked", "coordinator", FaultKind::kDies,
     "both sides have prepared, nothing is written"},
    {Fault::kCoordinatorDiesStarted, "coordinator-dies-started", "coordinator", FaultKind::kDies,
     "the record is written"},
    {Fault::kCoordinatorDiesDecided, "coordinator-dies-decided", "coordinator", FaultKind::kDies,
     "the outcome is known"},
    {Fault::kBystanderDiesStarted, "bystander-dies-started", "bystander", FaultKind::kDies,
     "the gates of the endpoints are closed"},
    {Fault::kBystanderDiesDecided, "bystander-dies-decided", "bystander", FaultKind::kDies,
     "the outcome is known, the gates are still closed"},
    {Fault::kKeeperDiesKeeping, "keeper-dies-keeping", "keeper", FaultKind::kDies,
     "the first of the memory has come to the file server"},
    {Fault::kKeeperDiesSealed, "keeper-dies-sealed", "keeper", FaultKind::kDies,
     "the file server has everything, and has not said so"},
}};

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
