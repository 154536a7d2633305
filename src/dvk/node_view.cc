#include "dvk/node_view.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>

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

// Takes back whatever the slot's owner has outstanding or waits for. The number and the tag go on,
// so that nobody who looked before can mistake what comes later for it.
void end_operations(Descriptor& d) {
  TxWord tx = load_tx(d);
  while (!swap_tx(d, tx, TxWord{TxPhase::kIdle, 0, tx.number})) tx = load_tx(d);
  RxWord rx;
  RxWord ended;
  do {
    rx = load_rx(d);
    ended.tag = rx.tag + 1;
  } while (!swap_rx(d, rx, ended));
}

void clear_set(const Region& region, SlotSet set) {
  for (uint32_t member = set.find(0); member < region.slots(); member = set.find(0)) {
    set.clear(member);
  }
}

// What an incarnation counts its operations from, the same on all nodes. Not from 0: who looked at
// the slot's last owner's operation must not mistake this one's for it.
uint64_t first_number(uint64_t incarnation) { return (incarnation % 256) << 32; }

// For a new owner of the slot: nothing of the old one is left, nor of it with others.
void reset_operations(const Region& region, uint32_t slot, uint64_t incarnation) {
  Descriptor& d = region.at(slot);
  d.flags.store(0);
  d.inside.store(0);
  d.busy.store(0);
  end_operations(d);
  d.tx.store(TxWord{TxPhase::kIdle, 0, first_number(incarnation)}.pack());
  d.tx_peer.store(NONE);
  d.notify_value.store(0);
  for (auto& touched : d.touching) touched.store(0);
  for (auto* counter : {&d.local_sent, &d.remote_sent, &d.local_copied, &d.remote_copied}) {
    counter->store(0);
  }
  clear_set(region, region.senders(slot));
  clear_set(region, region.notifies(slot));
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    for (SlotSet set : {region.senders(peer), region.notifies(peer)}) {
      if (set.test(slot)) set.clear(slot);
    }
  }
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
    // Its predecessor may have gone without our hearing of it.
    if (load_kind(d) != Kind::kFree) unbind(region, slot);
    reset_operations(region, slot, identity.incarnation);
  }
  set_identity(d, identity);
  d.kind.store(static_cast<uint32_t>(identity.kind));
  announce_bind(region, slot);
}

void bury(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  for (auto& touched : d.touching) touched.store(0);
  d.inside.store(0);
  end_operations(d);
  // It may have died between the two stores of setting a bit somewhere.
  region.outbound().repair();
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (region.notifies(peer).test(slot)) region.notifies(peer).repair();
  }
  release_peers(region, slot);
  region.ring_doorbell();
}

void unbind(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  // Free first: who posts from now on sees it, who posted before is released below.
  d.kind.store(static_cast<uint32_t>(Kind::kFree));
  end_operations(d);
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
    const Descriptor& notifier = region.at(source);
    e.notifications.push_back({static_cast<uint16_t>(source), notifier.incarnation.load(),
                               load_tx(notifier).number, notifier.notify_value.load()});
  }
  return e;
}

// How far an operation has come: of two accounts of the same one, the further is true.
int progress(const TxWord& tx, bool answered) {
  switch (tx.phase) {
    case TxPhase::kIdle:
      return 0;
    case TxPhase::kPosted:
    case TxPhase::kCancel:
      return 1;
    case TxPhase::kTaken:
      return answered ? 3 : 2;
    case TxPhase::kDone:
      return 4;
  }
  return 0;
}

bool is_answered(const RxWord& rx) { return rx.phase == RxPhase::kFull; }

// The owner arrives while it is taking back an operation that its peer has here.
void cancel_in_mirror(Descriptor& d) {
  TxWord tx = load_tx(d);
  while (is_outstanding(tx)) {
    if (swap_tx(d, tx, TxWord{TxPhase::kDone, EDVSTIMEDOUT, tx.number})) break;
    tx = load_tx(d);
  }
  d.rx.store(load_rx(d).with(RxPhase::kIdle).pack());
}

// A process here may take a posted operation as soon as tx says so.
void restore_operations(Descriptor& d, const CapsuleEndpoint& e) {
  d.notify_value.store(e.notify_value);
  // Its peer may be on this node and have got the operation already: then the mirror, not the
  // capsule, knows how far it has come. (Its owner is frozen, so the number cannot differ.)
  const TxWord known = load_tx(d);
  const bool known_here = load_kind(d) != Kind::kFree && d.incarnation.load() == e.incarnation &&
                          known.number == e.tx.number && known.phase != TxPhase::kIdle;
  if (known_here && e.tx.phase == TxPhase::kCancel) return cancel_in_mirror(d);
  if (known_here && is_outstanding(e.tx) &&
      progress(known, is_answered(load_rx(d))) >= progress(e.tx, is_answered(e.rx))) {
    return;
  }
  d.tx.store(TxWord{TxPhase::kIdle, 0, known.number}.pack());
  d.tx_message.store(e.tx_message);
  d.tx_kind.store(e.tx_kind);
  d.tx_peer.store(e.tx_peer);
  d.rx_kind.store(e.rx_kind);
  d.rx_message.store(e.rx_message);
  d.rx.store((e.rx.phase == RxPhase::kWaiting ? e.rx.with(RxPhase::kParked) : e.rx).pack());
  d.tx.store(e.tx.pack());
}

// What is known here of the notifier's last value may be newer, as its number tells.
void restore_value(Descriptor& notifier, const CapsuleNotification& notification) {
  const TxWord known = load_tx(notifier);
  if (load_kind(notifier) != Kind::kRemote || known.number > notification.number) return;
  if (known.number < notification.number) {
    notifier.tx.store(TxWord{TxPhase::kIdle, 0, notification.number}.pack());
  }
  notifier.notify_value.store(notification.value);
}

void restore_notifications(const Region& region, const CapsuleEndpoint& e) {
  for (const auto& notification : e.notifications) {
    Descriptor& notifier = region.at(notification.source);
    if (notifier.incarnation.load() != notification.incarnation) continue;
    restore_value(notifier, notification);
    region.notifies(e.slot).set(notification.source);
  }
}

// Everything but the opening of its gate.
void restore_endpoint(const Region& region, const CapsuleEndpoint& e, uint32_t self,
                      uint32_t epoch) {
  Descriptor& d = region.at(e.slot);
  restore_operations(d, e);
  const Identity identity{e.endpoint,   e.incarnation, epoch, self,
                          Kind::kLocal, e.pid,         e.tid, e.name};
  set_identity(d, identity);
  d.inside.store(e.inside);
  d.busy.store(e.busy);
  d.next_sender.store(e.next_sender);
  d.copy_source.store(e.copy_source);
  d.copy_target.store(e.copy_target);
  d.copy_source_addr.store(e.copy_source_addr);
  d.copy_target_addr.store(e.copy_target_addr);
  d.copy_bytes.store(e.copy_bytes);
  Atomic<uint64_t>* counters[] = {&d.local_sent, &d.remote_sent, &d.local_copied, &d.remote_copied};
  for (int i = 0; i < 4; ++i) counters[i]->store(e.counters[i]);
  restore_notifications(region, e);
  // Differs from what the restored threads and those here saw: they look again.
  d.event.store((std::max(d.event.load(), e.event) & ~1u) + 2);
  futex_wake_all(d.event);
  d.flags.store(e.flags | kMigrating);
  d.kind.store(static_cast<uint32_t>(Kind::kLocal));
}

// The creditor lives here: its own descriptor learns what became of its operation.
void settle_debt(const Region& region, const CapsuleDebt& debt) {
  Descriptor& creditor = region.at(debt.source);
  const TxWord known = load_tx(creditor);
  if (known.number != debt.tx.number) return;
  if (debt.tx.phase == TxPhase::kDone) {
    finish(region, debt.source, debt.tx.number, debt.tx.rc);
    return;
  }
  if (known.phase == TxPhase::kPosted) swap_tx(creditor, known, debt.tx);
  if (debt.answered) deliver_answer(region, debt.source, debt.tx.number, debt.answer);
}

// The creditor is elsewhere: its mirror is what the moved endpoint will look at.
void book_debt(const Region& region, const CapsuleDebt& debt) {
  Descriptor& mirror = region.at(debt.source);
  const TxWord known = load_tx(mirror);
  if (debt.tx.number < known.number ||
      (debt.tx.number == known.number &&
       progress(known, is_answered(load_rx(mirror))) >= progress(debt.tx, debt.answered))) {
    return;
  }
  mirror.tx.store(TxWord{TxPhase::kIdle, 0, known.number}.pack());
  mirror.tx_kind.store(debt.tx_kind);
  mirror.tx_peer.store(debt.tx_peer);
  RxWord rx = load_rx(mirror);
  rx.mode = RxMode::kAnswer;
  rx.filter = static_cast<uint16_t>(region.slot_of(debt.tx_peer));
  rx.filler = rx.filter;
  ++rx.tag;
  rx.phase = debt.tx.phase != TxPhase::kTaken ? RxPhase::kIdle
             : debt.answered                  ? RxPhase::kFull
                                              : RxPhase::kWaiting;
  if (debt.answered) mirror.rx_message.store(debt.answer);
  mirror.rx.store(rx.pack());
  mirror.tx.store(debt.tx.pack());
}

void restore_debt(const Region& region, const CapsuleDebt& debt) {
  const Descriptor& creditor = region.at(debt.source);
  if (creditor.incarnation.load() != debt.incarnation) return;
  const Kind kind = load_kind(creditor);
  if (runs_here(kind)) settle_debt(region, debt);
  if (kind == Kind::kRemote) book_debt(region, debt);
}

// The directory's news of a peer may not have arrived here yet.
void introduce(const Region& region, const CapsulePeer& peer) {
  if (region.at(peer.slot).incarnation.load() >= peer.incarnation) return;
  bind(region, peer.slot,
       {peer.endpoint, peer.incarnation, peer.epoch, peer.node, Kind::kRemote, 0, 0, peer.name});
}

}  // namespace

namespace {

// An operation of `source` that one of the moving endpoints has taken, if there is one. A client of
// this node may be going on meanwhile: then its operation is over, and no debt.
std::optional<CapsuleDebt> extract_debt(const Region& region, const std::vector<uint32_t>& slots,
                                        uint32_t source) {
  const Descriptor& d = region.at(source);
  const TxWord tx = load_tx(d);
  CapsuleDebt debt{source, d.incarnation.load(), tx, d.tx_kind.load(), d.tx_peer.load(), false, {}};
  const bool taken = tx.phase == TxPhase::kTaken || tx.phase == TxPhase::kDone;
  if (contains(slots, source) || load_kind(d) == Kind::kFree || !taken ||
      !contains(slots, region.slot_of(debt.tx_peer)) || !(load_tx(d) == tx)) {
    return std::nullopt;
  }
  if (!runs_here(load_kind(d)) && is_answered(load_rx(d))) {
    debt.answered = true;
    debt.answer = d.rx_message.load();
  }
  return debt;
}

// Those whom the target must know to understand the capsule.
std::vector<CapsulePeer> peers_of(const Region& region, const Capsule& capsule) {
  std::set<uint32_t> slots;
  for (const auto& debt : capsule.debts) slots.insert(debt.source);
  for (const auto& endpoint : capsule.endpoints) {
    for (const auto& notification : endpoint.notifications) slots.insert(notification.source);
  }
  std::vector<CapsulePeer> peers;
  for (uint32_t slot : slots) {
    const Identity identity = identity_of(region, slot);
    if (identity.kind == Kind::kFree) continue;
    peers.push_back({slot, identity.endpoint, identity.incarnation, identity.epoch, identity.node,
                     identity.name});
  }
  return peers;
}

// What stays here of an endpoint that has left: its operation, as long as a process that stays has
// taken or may take it. Any other is asked for from the new place.
void turn_into_mirror(const Region& region, const std::vector<uint32_t>& slots, uint32_t slot) {
  Descriptor& d = region.at(slot);
  const TxWord tx = load_tx(d);
  const RxWord rx = load_rx(d);
  const uint32_t peer = region.slot_of(d.tx_peer.load());
  const bool peer_stays =
      peer < region.slots() && !contains(slots, peer) && runs_here(load_kind(region.at(peer)));
  if (!awaits_answer(d) || !peer_stays) {
    d.rx.store(rx.with(RxPhase::kIdle).pack());
  } else if (rx.phase == RxPhase::kParked) {
    d.rx.store(rx.with(RxPhase::kWaiting).pack());
  }
  if (!peer_stays) {
    d.tx.store(TxWord{TxPhase::kIdle, 0, tx.number}.pack());
  } else if (tx.phase == TxPhase::kCancel) {
    d.tx.store(TxWord{TxPhase::kDone, EDVSTIMEDOUT, tx.number}.pack());
  }
}

void leave(const Region& region, const std::vector<uint32_t>& slots, uint32_t slot, uint32_t node,
           uint32_t epoch) {
  Descriptor& d = region.at(slot);
  d.kind.store(static_cast<uint32_t>(Kind::kRemote));
  d.node.store(node);
  d.epoch.store(epoch);
  d.pid.store(0);
  d.tid.store(0);
  d.inside.store(0);
  d.busy.store(0);
  turn_into_mirror(region, slots, slot);
  clear_set(region, region.notifies(slot));
  d.flags.store(0);
  event_signal(d.event);
}

}  // namespace

Capsule extract(const Region& region, const std::vector<uint32_t>& slots) {
  Capsule capsule;
  for (uint32_t slot : slots) capsule.endpoints.push_back(extract_endpoint(region, slot));
  for (uint32_t source = 0; source < region.slots(); ++source) {
    if (auto debt = extract_debt(region, slots, source)) capsule.debts.push_back(*debt);
  }
  capsule.peers = peers_of(region, capsule);
  return capsule;
}

void commit_away(const Region& region, const std::vector<uint32_t>& slots, uint32_t node,
                 uint32_t epoch) {
  for (uint32_t slot : slots) {
    const Descriptor& d = region.at(slot);
    const bool done = load_kind(d) == Kind::kRemote && d.epoch.load() >= epoch && !is_migrating(d);
    if (!done) leave(region, slots, slot, node, epoch);
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

// Debts first: as soon as an endpoint counts as local, a client here that gives up decides by
// itself what became of its request. The gates last, when all endpoints are here.
void commit_here(const Region& region, const Capsule& capsule, uint32_t self, uint32_t epoch) {
  auto is_open = [&](const CapsuleEndpoint& e) {
    const Descriptor& d = region.at(e.slot);
    return load_kind(d) == Kind::kLocal && d.incarnation.load() == e.incarnation &&
           d.epoch.load() >= epoch && !is_migrating(d);
  };
  if (std::all_of(capsule.endpoints.begin(), capsule.endpoints.end(), is_open)) return;
  for (const auto& peer : capsule.peers) introduce(region, peer);
  for (const auto& debt : capsule.debts) restore_debt(region, debt);
  for (const auto& endpoint : capsule.endpoints) {
    if (!is_open(endpoint)) restore_endpoint(region, endpoint, self, epoch);
  }
  for (const auto& endpoint : capsule.endpoints) open_gate(region, endpoint.slot);
  event_signal(region.header().bind_event);
}

}  // namespace dvs::dvk
