#include "dvk/node_view.h"

#include <algorithm>
#include <cstring>

namespace dvs::dvk {
namespace {

bool contains(const std::vector<uint32_t>& slots, uint32_t slot) {
  return std::find(slots.begin(), slots.end(), slot) != slots.end();
}

void announce_bind(const Region& region, uint32_t slot) {
  event_signal(region.at(slot).event);
  event_signal(region.header().bind_event);
}

void set_name(Descriptor& d, const std::string& name) {
  std::memset(d.name, 0, sizeof d.name);
  std::strncpy(d.name, name.c_str(), sizeof d.name - 1);
}

void set_identity(Descriptor& d, const Identity& identity) {
  d.endpoint.store(identity.endpoint);
  d.incarnation.store(identity.incarnation);
  d.epoch.store(identity.epoch);
  d.node.store(identity.node);
  d.pid.store(identity.pid);
  d.tid.store(identity.tid);
  set_name(d, identity.name);
}

void reset_operations(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  d.flags.store(0);
  d.inside.store(0);
  d.busy.store(0);
  d.rx.store(RxWord{}.pack());
  d.tx.store(TxWord{}.pack());
  d.tx_peer.store(NONE);
  for (auto& touched : d.touching) touched.store(0);
  for (auto* counter : {&d.local_sent, &d.remote_sent, &d.local_copied, &d.remote_copied}) {
    counter->store(0);
  }
  for (SlotSet set : {region.senders(slot), region.notifies(slot)}) {
    for (uint32_t member = set.find(0); member < region.slots(); member = set.find(0)) {
      set.clear(member);
    }
  }
}

bool is_outstanding(const TxWord& tx) {
  return tx.phase == TxPhase::kPosted || tx.phase == TxPhase::kTaken;
}

bool awaits_answer(const Descriptor& d) {
  return is_outstanding(load_tx(d)) && load_tx_kind(d) == OpKind::kSendRec;
}

}  // namespace

Identity identity_of(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  Identity identity;
  identity.endpoint = d.endpoint.load();
  identity.incarnation = d.incarnation.load();
  identity.epoch = d.epoch.load();
  identity.node = d.node.load();
  identity.kind = load_kind(d);
  identity.pid = d.pid.load();
  identity.tid = d.tid.load();
  identity.name.assign(d.name, strnlen(d.name, sizeof d.name));
  return identity;
}

void bind(const Region& region, uint32_t slot, const Identity& identity) {
  Descriptor& d = region.at(slot);
  const bool same = load_kind(d) != Kind::kFree && d.incarnation.load() == identity.incarnation;
  if (!same) {
    d.kind.store(static_cast<uint32_t>(Kind::kFree));
    reset_operations(region, slot);
  }
  set_identity(d, identity);
  d.kind.store(static_cast<uint32_t>(identity.kind));
  announce_bind(region, slot);
}

void bury(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  for (auto& touched : d.touching) touched.store(0);
  d.inside.store(0);
  const TxWord tx = load_tx(d);
  d.tx.store(TxWord{TxPhase::kIdle, 0, tx.number}.pack());
  d.rx.store(load_rx(d).with(RxPhase::kIdle).pack());
  release_peers(region, slot);
  region.senders(slot).repair();
}

void unbind(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  // Free first: who posts from now on sees it, who posted before is released below.
  d.kind.store(static_cast<uint32_t>(Kind::kFree));
  release_peers(region, slot);
  d.flags.store(0);
  d.busy.store(0);
  d.pid.store(0);
  d.tid.store(0);
  // Specific receivers look again and find nobody to wait for.
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    const RxWord rx = load_rx(region.at(peer));
    if (rx.phase == RxPhase::kWaiting && rx.filter == slot) event_signal(region.at(peer).event);
  }
  announce_bind(region, slot);
}

void close_gate(const Region& region, uint32_t slot) { region.at(slot).flags.fetch_or(kMigrating); }

namespace {

// True when nobody can push into this descriptor (any more).
bool park(Descriptor& d) {
  const RxWord rx = load_rx(d);
  if (rx.phase == RxPhase::kWaiting) return swap_rx(d, rx, rx.with(RxPhase::kParked));
  return rx.phase != RxPhase::kFilling;
}

bool is_touched(const Region& region, const std::vector<uint32_t>& slots) {
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    const Descriptor& d = region.at(peer);
    for (const auto& touched : d.touching) {
      const uint32_t slot = touched.load();
      if (slot != 0 && contains(slots, slot - 1)) return true;
    }
  }
  return false;
}

}  // namespace

bool settle(const Region& region, const std::vector<uint32_t>& slots) {
  for (uint32_t slot : slots) {
    Descriptor& d = region.at(slot);
    if (d.inside.load() != 0 || !park(d)) return false;
  }
  return !is_touched(region, slots);
}

void open_gate(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  const RxWord rx = load_rx(d);
  if (rx.phase == RxPhase::kParked) swap_rx(d, rx, rx.with(RxPhase::kWaiting));
  d.flags.fetch_and(~kMigrating);
  event_signal(d.event);
}

namespace {

CapsuleEndpoint extract_endpoint(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  CapsuleEndpoint e;
  const Identity identity = identity_of(region, slot);
  e.slot = slot;
  e.endpoint = identity.endpoint;
  e.incarnation = identity.incarnation;
  e.pid = identity.pid;
  e.tid = identity.tid;
  e.name = identity.name;
  e.flags = d.flags.load() & ~kMigrating;
  e.event = d.event.load();
  e.inside = d.inside.load();
  e.busy = d.busy.load();
  e.rx = load_rx(d);
  if (e.rx.phase == RxPhase::kParked) e.rx.phase = RxPhase::kWaiting;
  e.rx_kind = d.rx_kind.load();
  e.rx_message = d.rx_message.load();
  e.next_sender = d.next_sender.load();
  e.tx = load_tx(d);
  e.tx_kind = d.tx_kind.load();
  e.tx_peer = d.tx_peer.load();
  e.notify_value = d.notify_value.load();
  e.tx_message = d.tx_message.load();
  e.copy_source = d.copy_source.load();
  e.copy_target = d.copy_target.load();
  e.copy_source_addr = d.copy_source_addr.load();
  e.copy_target_addr = d.copy_target_addr.load();
  e.copy_bytes = d.copy_bytes.load();
  const Atomic<uint64_t>* counters[] = {&d.local_sent, &d.remote_sent, &d.local_copied,
                                             &d.remote_copied};
  for (int i = 0; i < 4; ++i) e.counters[i] = counters[i]->load();
  SlotSet pending = region.notifies(slot);
  for (uint32_t source = 0; source < region.slots(); ++source) {
    if (!pending.test(source)) continue;
    e.notifications.push_back({static_cast<uint16_t>(source), region.at(source).notify_value.load()});
  }
  return e;
}

void restore_endpoint(const Region& region, const CapsuleEndpoint& e, uint32_t self,
                      uint32_t epoch) {
  Descriptor& d = region.at(e.slot);
  const TxWord known = load_tx(d);
  // Its peer is on this node and has got the operation already: then the mirror, not the
  // capsule, knows how far it has come. (Its owner is frozen, so the number cannot differ.)
  const bool further_here = d.incarnation.load() == e.incarnation && load_kind(d) != Kind::kFree &&
                            known.number == e.tx.number && is_outstanding(e.tx) &&
                            known.phase != TxPhase::kIdle;
  const Identity identity{e.endpoint, e.incarnation, epoch, self, Kind::kLocal, e.pid, e.tid, e.name};
  set_identity(d, identity);
  d.inside.store(e.inside);
  d.busy.store(e.busy);
  d.next_sender.store(e.next_sender);
  d.notify_value.store(e.notify_value);
  d.copy_source.store(e.copy_source);
  d.copy_target.store(e.copy_target);
  d.copy_source_addr.store(e.copy_source_addr);
  d.copy_target_addr.store(e.copy_target_addr);
  d.copy_bytes.store(e.copy_bytes);
  Atomic<uint64_t>* counters[] = {&d.local_sent, &d.remote_sent, &d.local_copied,
                                       &d.remote_copied};
  for (int i = 0; i < 4; ++i) counters[i]->store(e.counters[i]);
  if (!further_here) {
    d.tx_message.store(e.tx_message);
    d.tx_kind.store(e.tx_kind);
    d.tx_peer.store(e.tx_peer);
    d.rx_kind.store(e.rx_kind);
    d.rx_message.store(e.rx_message);
    d.rx.store(e.rx.pack());
    d.tx.store(e.tx.pack());
  }
  for (const auto& notification : e.notifications) {
    Descriptor& source = region.at(notification.source);
    if (!runs_here(load_kind(source))) source.notify_value.store(notification.value);
    region.notifies(e.slot).set(notification.source);
  }
  d.event.store((std::max(d.event.load(), e.event) & ~1u) + 2);
  d.flags.store(e.flags);
  d.kind.store(static_cast<uint32_t>(Kind::kLocal));
}

// Books a debt at the target: in the mirror of its creditor, or, if the creditor lives here, in
// its own descriptor.
void restore_debt(const Region& region, const CapsuleDebt& debt) {
  Descriptor& creditor = region.at(debt.source);
  if (creditor.incarnation.load() != debt.incarnation) return;
  const TxWord known = load_tx(creditor);
  if (runs_here(load_kind(creditor))) {
    if (known.number != debt.tx.number || known.phase != TxPhase::kPosted) return;
    if (debt.tx.phase == TxPhase::kDone) {
      finish(region, debt.source, debt.tx.number, debt.tx.rc);
      return;
    }
    swap_tx(creditor, known, debt.tx);
    if (debt.answered) {
      try_push(region, region.slot_of(debt.tx_peer), debt.source, OpKind::kReply, debt.answer, 0);
    }
    return;
  }
  const bool newer = debt.tx.number > known.number ||
                     (debt.tx.number == known.number && known.phase == TxPhase::kIdle);
  if (!newer) return;
  creditor.tx_kind.store(debt.tx_kind);
  creditor.tx_peer.store(debt.tx_peer);
  RxWord rx = load_rx(creditor);
  rx.mode = RxMode::kAnswer;
  rx.filter = static_cast<uint16_t>(region.slot_of(debt.tx_peer));
  rx.filler = rx.filter;
  ++rx.tag;
  rx.phase = debt.tx.phase != TxPhase::kTaken ? RxPhase::kIdle
             : debt.answered                  ? RxPhase::kFull
                                              : RxPhase::kWaiting;
  if (debt.answered) creditor.rx_message.store(debt.answer);
  creditor.rx.store(rx.pack());
  creditor.tx.store(debt.tx.pack());
}

}  // namespace

Capsule extract(const Region& region, const std::vector<uint32_t>& slots) {
  Capsule capsule;
  for (uint32_t slot : slots) capsule.endpoints.push_back(extract_endpoint(region, slot));
  for (uint32_t source = 0; source < region.slots(); ++source) {
    const Descriptor& d = region.at(source);
    const TxWord tx = load_tx(d);
    if (contains(slots, source) || load_kind(d) == Kind::kFree) continue;
    if (tx.phase != TxPhase::kTaken && tx.phase != TxPhase::kDone) continue;
    if (!contains(slots, region.slot_of(d.tx_peer.load()))) continue;
    CapsuleDebt debt{source, d.incarnation.load(), tx, d.tx_kind.load(), d.tx_peer.load(), false, {}};
    if (!runs_here(load_kind(d)) && load_rx(d).phase == RxPhase::kFull) {
      debt.answered = true;
      debt.answer = d.rx_message.load();
    }
    capsule.debts.push_back(debt);
  }
  return capsule;
}

void commit_away(const Region& region, const std::vector<uint32_t>& slots, uint32_t node,
                 uint32_t epoch) {
  for (uint32_t slot : slots) {
    Descriptor& d = region.at(slot);
    d.kind.store(static_cast<uint32_t>(Kind::kRemote));
    d.node.store(node);
    d.epoch.store(epoch);
    d.pid.store(0);
    d.tid.store(0);
    d.inside.store(0);
    d.busy.store(0);
    // The mirror keeps an operation that a process here has taken or may take, and its answer.
    const RxWord rx = load_rx(d);
    if (!awaits_answer(d)) {
      d.rx.store(rx.with(RxPhase::kIdle).pack());
    } else if (rx.phase == RxPhase::kParked) {
      d.rx.store(rx.with(RxPhase::kWaiting).pack());
    }
    SlotSet pending = region.notifies(slot);
    for (uint32_t source = pending.find(0); source < region.slots(); source = pending.find(0)) {
      pending.clear(source);
    }
    d.flags.store(0);
    event_signal(d.event);
  }
  // Parked requests of other nodes: forgotten here, their own nodes send them to the new place.
  for (uint32_t source = 0; source < region.slots(); ++source) {
    Descriptor& d = region.at(source);
    const TxWord tx = load_tx(d);
    if (load_kind(d) != Kind::kRemote || tx.phase != TxPhase::kPosted) continue;
    if (contains(slots, source) || !contains(slots, region.slot_of(d.tx_peer.load()))) continue;
    TxWord dropped = tx;
    dropped.phase = TxPhase::kIdle;
    if (swap_tx(d, tx, dropped)) d.rx.store(load_rx(d).with(RxPhase::kIdle).pack());
  }
}

void commit_here(const Region& region, const Capsule& capsule, uint32_t self, uint32_t epoch) {
  for (const auto& endpoint : capsule.endpoints) restore_endpoint(region, endpoint, self, epoch);
  for (const auto& debt : capsule.debts) restore_debt(region, debt);
  for (const auto& endpoint : capsule.endpoints) event_signal(region.at(endpoint.slot).event);
  event_signal(region.header().bind_event);
}

}  // namespace dvs::dvk
