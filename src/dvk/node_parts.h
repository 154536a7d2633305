// What the parts of dvsd's view of a region share (node_view.cc, depart.cc, arrive.cc).
#pragma once

#include <algorithm>

#include "dvk/node_view.h"

namespace dvs::dvk {

inline bool contains(const std::vector<uint32_t>& slots, uint32_t slot) {
  return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

// A request under way.
inline bool awaits_answer(const Descriptor& d) {
  return is_outstanding(load_tx(d)) && load_tx_kind(d) == OpKind::kSendRec;
}

inline bool is_answered(const RxWord& rx) { return rx.phase == RxPhase::kFull; }

// Everything but the kind.
void set_identity(Descriptor& d, const Identity& identity);
void clear_set(const Region& region, SlotSet set);

}  // namespace dvs::dvk
