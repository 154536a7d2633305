// The source's side of a migration: what goes with the endpoints, and what stays.
#include <optional>
#include <set>

#include "dvk/node_parts.h"

namespace dvs::dvk {
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
  // Elsewhere it has to do with another replica, which knows nothing of what this one has taken.
  const uint32_t peer = region.slot_of(d.tx_peer.load());
  if (e.tx.phase == TxPhase::kTaken && peer < region.slots() && is_standby(region, peer)) {
    e.tx = TxWord{TxPhase::kDone, EDVSSRCDIED, e.tx.number};
    e.rx.phase = RxPhase::kWaiting;
  }
  e.tx_kind = d.tx_kind.load();
  e.tx_peer = d.tx_peer.load();
  e.notify_value = d.notify_value.load();
  e.tx_message = d.tx_message.load();
  e.permissions = permissions_of(d);
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

// An operation of `source` that one of the moving endpoints has taken, if there is one. A client of
// this node may be going on meanwhile: then its operation is over, and no debt.
std::optional<CapsuleDebt> extract_debt(const Region& region, const std::vector<uint32_t>& slots,
                                        uint32_t source) {
  const Descriptor& d = region.at(source);
  const TxWord tx = load_tx(d);
  CapsuleDebt debt;
  debt.source = source;
  debt.incarnation = d.incarnation.load();
  debt.tx = tx;
  debt.tx_kind = d.tx_kind.load();
  debt.tx_peer = d.tx_peer.load();
  debt.notify_value = d.notify_value.load();
  const bool taken = tx.phase == TxPhase::kTaken || tx.phase == TxPhase::kDone;
  if (contains(slots, source) || load_kind(d) == Kind::kFree || !taken ||
      !contains(slots, region.slot_of(debt.tx_peer)) || !(load_tx(d) == tx)) {
    return std::nullopt;
  }
  if (!runs_here(load_kind(d)) && is_answered(load_rx(d))) {
    debt.answered = true;
    debt.answer_kind = d.rx_kind.load();
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
  const bool peer_stays = peer < region.slots() && !contains(slots, peer) &&
                          runs_here(load_kind(region.at(peer))) && !is_standby(region, peer);
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
    if (!is_elsewhere(load_kind(d)) || tx.phase != TxPhase::kPosted) continue;
    if (contains(slots, source) || !contains(slots, region.slot_of(d.tx_peer.load()))) continue;
    TxWord dropped = tx;
    dropped.phase = TxPhase::kIdle;
    if (swap_tx(d, tx, dropped)) d.rx.store(load_rx(d).with(RxPhase::kIdle).pack());
  }
}

}  // namespace dvs::dvk
