// COMMIT on the target: a capsule becomes part of this node's region.
#include "dvk/node_parts.h"

namespace dvs::dvk {
namespace {

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

// The owner arrives while it is taking back an operation that its peer has here.
void cancel_in_mirror(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  TxWord tx = load_tx(d);
  while (is_outstanding(tx)) {
    if (swap_tx(d, tx, TxWord{TxPhase::kDone, EDVSTIMEDOUT, tx.number})) break;
    tx = load_tx(d);
  }
  end_wait(region, slot);
}

// A process here may take a posted operation as soon as tx says so.
void restore_operations(const Region& region, const CapsuleEndpoint& e) {
  Descriptor& d = region.at(e.slot);
  d.notify_value.store(e.notify_value);
  // Its peer may be on this node and have got the operation already: then the mirror, not the
  // capsule, knows how far it has come. (Its owner is frozen, so the number cannot differ.)
  const TxWord known = load_tx(d);
  const bool known_here = load_kind(d) != Kind::kFree && d.incarnation.load() == e.incarnation &&
                          known.number == e.tx.number && known.phase != TxPhase::kIdle;
  if (known_here && e.tx.phase == TxPhase::kCancel) return cancel_in_mirror(region, e.slot);
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
  if (!is_elsewhere(load_kind(notifier)) || known.number > notification.number) return;
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
  restore_operations(region, e);
  const Identity identity{e.endpoint,   e.incarnation, epoch, self,
                          Kind::kLocal, e.pid,         e.tid, e.name};
  set_identity(d, identity);
  d.inside.store(e.inside);
  d.busy.store(e.busy);
  d.next_sender.store(e.next_sender);
  set_permissions(d, e.permissions);
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
  const auto kind = static_cast<OpKind>(debt.answer_kind);
  if (debt.answered && is_answer(kind)) {
    deliver_answer(region, debt.source, debt.tx.number, kind, debt.answer);
  }
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
  mirror.notify_value.store(debt.notify_value);
  RxWord rx = load_rx(mirror);
  rx.mode = RxMode::kAnswer;
  rx.filter = static_cast<uint16_t>(region.slot_of(debt.tx_peer));
  rx.filler = rx.filter;
  ++rx.tag;
  rx.phase = debt.tx.phase != TxPhase::kTaken ? RxPhase::kIdle
             : debt.answered                  ? RxPhase::kFull
                                              : RxPhase::kWaiting;
  if (debt.answered) {
    mirror.rx_kind.store(debt.answer_kind);
    mirror.rx_message.store(debt.answer);
  }
  mirror.rx.store(rx.pack());
  mirror.tx.store(debt.tx.pack());
}

void restore_debt(const Region& region, const CapsuleDebt& debt) {
  const Descriptor& creditor = region.at(debt.source);
  if (creditor.incarnation.load() != debt.incarnation) return;
  const Kind kind = load_kind(creditor);
  if (runs_here(kind)) settle_debt(region, debt);
  if (is_elsewhere(kind)) book_debt(region, debt);
}

// Its own operation is in a capsule already, perhaps, as it was before: what it is told here it
// would never know, should it leave, and the next node of the debtor would know of no debt. So its
// outcome comes first; that depends on nobody's arrival.
bool is_about_to_leave(const Region& region, const CapsuleDebt& debt) {
  const Descriptor& creditor = region.at(debt.source);
  return creditor.incarnation.load() == debt.incarnation && runs_here(load_kind(creditor)) &&
         is_migrating(creditor) && load_tx(creditor).number == debt.tx.number;
}

// The directory's news of a peer may not have arrived here yet.
bool introduce(const Region& region, const CapsulePeer& peer) {
  if (region.at(peer.slot).incarnation.load() >= peer.incarnation) return true;
  return bind(
      region, peer.slot,
      {peer.endpoint, peer.incarnation, peer.epoch, peer.node, Kind::kRemote, 0, 0, peer.name});
}

bool introduce_all(const Region& region, const Capsule& capsule, uint32_t self, uint32_t epoch) {
  bool all = true;
  for (const auto& peer : capsule.peers) all &= introduce(region, peer);
  for (const auto& e : capsule.endpoints) {
    all &= introduce(region, {e.slot, e.endpoint, e.incarnation, epoch, self, e.name});
  }
  return all;
}

}  // namespace

// Debts first: as soon as an endpoint counts as local, a client here that gives up decides by
// itself what became of its request. The gates last, when all endpoints are here.
bool commit_here(const Region& region, const Capsule& capsule, uint32_t self, uint32_t epoch) {
  auto is_open = [&](const CapsuleEndpoint& e) {
    const Descriptor& d = region.at(e.slot);
    return load_kind(d) == Kind::kLocal && d.incarnation.load() == e.incarnation &&
           d.epoch.load() >= epoch && !is_migrating(d);
  };
  if (std::all_of(capsule.endpoints.begin(), capsule.endpoints.end(), is_open)) return true;
  const auto& debts = capsule.debts;
  if (std::any_of(debts.begin(), debts.end(),
                  [&](const auto& debt) { return is_about_to_leave(region, debt); })) {
    return false;
  }
  if (!introduce_all(region, capsule, self, epoch)) return false;
  for (const auto& debt : capsule.debts) restore_debt(region, debt);
  for (const auto& endpoint : capsule.endpoints) {
    if (!is_open(endpoint)) restore_endpoint(region, endpoint, self, epoch);
  }
  for (const auto& endpoint : capsule.endpoints) open_gate(region, endpoint.slot);
  event_signal(region.header().bind_event);
  return true;
}

}  // namespace dvs::dvk
