// The process that calls libdvk: its DC's region, and which endpoint the calling thread has.
#pragma once

#include "dvk/caller.h"

namespace dvs::dvk {

// The region of this process's DC, mapped by the first call; null when it is in none.
const Region* my_region();

int my_tid();
Thread my_thread();

// The slot bound to the calling thread, else to its process's main thread; slots() when none is.
uint32_t my_slot(const Region& region);
// The slot bound to a thread of this node; slots() when none is.
uint32_t slot_of_thread(const Region& region, int tid);
// Bound to a process of this node.
bool belongs_here(const Descriptor& d);

// OK, EDVSDVSINIT (in no DC), EDVSBADDCID (in another).
int check_dc(int dcid);
// As above, and EDVSBADCALL when the caller is bound and may not make the call. Who has no endpoint
// has no permission record.
int check_call(int call, int dcid);

// Slot of an endpoint in this DC, or EDVSENDPOINT.
int find_slot(int endpoint, uint32_t& slot);

// Whether a call receives: a signal's handler must not while its thread does.
enum class Uses { kSends, kReceives };

inline Deadline deadline_of(long timeout_ms) {
  return timeout_ms == TIMEOUT_NOWAIT ? Deadline::at_ns(0) : Deadline::after_ms(timeout_ms);
}

// Runs `work` with the caller's endpoint. The time-out counts from here, also at the gate; who gets
// through late still tries what needs no wait. REQUIRES of `work`: int (Caller&, Deadline).
template <typename Work>
int with_caller(int call, Uses uses, long timeout_ms, Work work) {
  const Region* region = my_region();
  if (region == nullptr) return EDVSDVSINIT;
  const Deadline deadline = deadline_of(timeout_ms);
  const uint32_t slot = my_slot(*region);
  if (slot == region->slots()) return EDVSNOTBIND;
  Caller caller(*region, slot, my_thread(), deadline);
  if (caller.status() != OK) return caller.status();
  if (!may_call(region->at(slot), call)) return EDVSBADCALL;
  if (caller.nested() && uses == Uses::kReceives) return EDVSBUSY;
  return work(caller, deadline);
}

}  // namespace dvs::dvk
