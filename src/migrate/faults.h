// Fault points: numbered places where a test can make a migration fail. Armed one by one at run
// time
// (`POST /v1/faults`, only when dvsd was started with --faults); an armed point fires once.
#pragma once

#include <array>
#include <string_view>

#include "base/result.h"

namespace dvs {

enum class Fault : int {
  kPreflight = 1,                // the target's preflight refuses
  kDump = 2,                     // the engine's dump fails
  kTransfer = 3,                 // the link breaks when half of the images are sent
  kRestore = 4,                  // the engine's restore fails on the target
  kDieBeforeVote = 5,            // the target's dvsd dies with the restored process in its hand
  kDieAfterDecision = 6,         // the target's dvsd dies between the decision and the resume
  kSourceDies = 7,               // the source's dvsd dies when the images are sent
  kSourceDiesAfterDecision = 8,  // the source's dvsd dies before it ends its frozen copy
};

struct FaultName {
  Fault fault;
  std::string_view name;
};
constexpr std::array<FaultName, 8> kFaultNames = {{
    {Fault::kPreflight, "preflight"},
    {Fault::kDump, "dump"},
    {Fault::kTransfer, "transfer"},
    {Fault::kRestore, "restore"},
    {Fault::kDieBeforeVote, "die-before-vote"},
    {Fault::kDieAfterDecision, "die-after-decision"},
    {Fault::kSourceDies, "source-dies"},
    {Fault::kSourceDiesAfterDecision, "source-dies-after-decision"},
}};

class Faults {
 public:
  explicit Faults(bool enabled) : enabled_(enabled) {}

  // kDenied when not enabled, kInvalid for an unknown name.
  Status arm(std::string_view name);
  // Whether the point fires now (and is disarmed by that).
  bool fires(Fault fault);
  // Ends this process as SIGKILL would, if the point fires.
  void die_at(Fault fault);

 private:
  const bool enabled_;
  std::array<int, kFaultNames.size() + 1> armed_{};
};

}  // namespace dvs
