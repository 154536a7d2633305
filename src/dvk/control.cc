#include "dvk/control.h"

#include <unistd.h>

#include "dvk/rendezvous.h"

namespace dvs::dvk {
namespace {

constexpr int64_t kNapMs = 2;

uint32_t word(ControlPhase phase) { return static_cast<uint32_t>(phase); }

ControlSlot* claim(const Region& region, int tid) {
  for (ControlSlot& slot : region.header().control) {
    uint32_t free = word(ControlPhase::kFree);
    if (slot.phase.compare_exchange_strong(free, word(ControlPhase::kClaimed))) {
      slot.tid.store(tid);
      return &slot;
    }
  }
  return nullptr;
}

void fill(ControlSlot& slot, const ControlRequest& request) {
  slot.op.store(static_cast<uint32_t>(request.op));
  slot.command.store(request.command);
  slot.pid.store(request.pid);
  slot.endpoint.store(request.endpoint);
  slot.node.store(request.node);
  slot.ticket.fetch_add(1);
  slot.name.store(request.name != nullptr ? request.name : "");
}

// A gate of this process is closed. dvsd closes them, then waits until no request of the process is
// claimed, then freezes it: none is begun from here on.
bool is_stopped(const Region& region) {
  const int pid = getpid();
  for (uint32_t slot = 0; slot < region.slots(); ++slot) {
    const Descriptor& d = region.at(slot);
    if (is_migrating(d) && d.pid.load() == pid) return true;
  }
  return false;
}

bool waits_for_moves(ControlOp op) { return op == ControlOp::kBind || op == ControlOp::kUnbind; }

int ask_once(const Region& region, int tid, const ControlRequest& request, Deadline deadline) {
  ControlSlot* slot = claim(region, tid);
  if (slot == nullptr) return EDVSRSCBUSY;
  if (waits_for_moves(request.op) && is_stopped(region)) {
    slot->phase.store(word(ControlPhase::kFree));
    return kAskAgain;
  }
  fill(*slot, request);
  slot->phase.store(word(ControlPhase::kPosted));
  region.ring_doorbell();
  for (;;) {
    const uint32_t phase = slot->phase.load();
    if (phase == word(ControlPhase::kDone)) break;
    if (deadline.passed()) {
      // Taken back, unless the answer came just now. dvsd's late answer meets another ticket.
      uint32_t posted = word(ControlPhase::kPosted);
      if (slot->phase.compare_exchange_strong(posted, word(ControlPhase::kFree)))
        return EDVSRSCBUSY;
      continue;
    }
    futex_wait(slot->phase, phase, deadline);
  }
  const int result = slot->result.load();
  slot->phase.store(word(ControlPhase::kFree));
  return result;
}

}  // namespace

int control_call(const Region& region, int tid, const ControlRequest& request, Deadline deadline) {
  for (;;) {
    const bool waits = waits_for_moves(request.op) && is_stopped(region);
    const int result = waits ? kAskAgain : ask_once(region, tid, request, deadline);
    if (result != kAskAgain) return result;
    if (deadline.passed()) return EDVSRSCBUSY;
    Atomic<uint32_t> nothing{0};
    futex_wait(nothing, 0, Deadline::earlier(deadline, Deadline::after_ms(kNapMs)));
  }
}

}  // namespace dvs::dvk
