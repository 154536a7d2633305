#include "dvk/control.h"

namespace dvs::dvk {
namespace {

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

}  // namespace

int control_call(const Region& region, int tid, const ControlRequest& request, Deadline deadline) {
  ControlSlot* slot = claim(region, tid);
  if (slot == nullptr) return EDVSRSCBUSY;
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

}  // namespace dvs::dvk
