#include "dvk/rendezvous.h"

namespace dvs::dvk {
namespace {

// Whether the receiver's wait admits this message. An answer is only taken by the client that waits
// for it: one whose request this source has taken.
bool admits(const Region& region, const RxWord& rx, const Descriptor& receiver, uint32_t source,
            OpKind kind) {
  if (rx.phase != RxPhase::kWaiting) return false;
  if (rx.filter != kAnySlot && rx.filter != source) return false;
  if (rx.mode == RxMode::kAnswer) {
    if (kind == OpKind::kSendRec) return false;
    return load_tx(receiver).phase == TxPhase::kTaken &&
           region.slot_of(receiver.tx_peer.load()) == source;
  }
  return kind != OpKind::kReply;
}

bool is_mirror(const Descriptor& d) { return load_kind(d) == Kind::kRemote; }

// Wakes the owner, or dvsd when the owner is on another node.
void tell_owner(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  if (is_mirror(d)) {
    region.ring(slot);
  } else {
    event_signal(d.event);
  }
}

}  // namespace

bool try_push(const Region& region, uint32_t source, uint32_t target, OpKind kind, const message& m,
              uint64_t number) {
  Descriptor& receiver = region.at(target);
  RxWord rx = load_rx(receiver);
  do {
    if (!admits(region, rx, receiver, source, kind)) return false;
    RxWord filling = rx.with(RxPhase::kFilling);
    filling.filler = static_cast<uint16_t>(source);
    if (swap_rx(receiver, rx, filling)) {
      rx = filling;
      break;
    }
    rx = load_rx(receiver);
  } while (true);
  if (kind == OpKind::kSendRec) {
    region.at(source).tx.store(TxWord{TxPhase::kTaken, 0, number}.pack());
  }
  receiver.rx_kind.store(static_cast<uint32_t>(kind), std::memory_order_relaxed);
  receiver.rx_message.store(m);
  receiver.rx.store(rx.with(RxPhase::kFull).pack());
  tell_owner(region, target);
  return true;
}

void announce(const Region& region, uint32_t source, uint32_t target) {
  region.senders(target).set(source);
  Descriptor& receiver = region.at(target);
  const RxPhase phase = load_rx(receiver).phase;
  if (phase == RxPhase::kWaiting || phase == RxPhase::kParked) event_signal(receiver.event);
}

bool try_pull(const Region& region, uint32_t target, uint32_t source, Taken& taken) {
  region.senders(target).clear(source);
  Descriptor& sender = region.at(source);
  const TxWord posted = load_tx(sender);
  if (posted.phase != TxPhase::kPosted || region.slot_of(sender.tx_peer.load()) != target) {
    return false;
  }
  taken.kind = load_tx_kind(sender);
  taken.m = sender.tx_message.load();
  if (taken.kind == OpKind::kNotify) region.notifies(target).set(source);
  TxWord after = posted;
  after.phase = taken.kind == OpKind::kSendRec ? TxPhase::kTaken : TxPhase::kDone;
  if (!swap_tx(sender, posted, after)) return false;
  // A sendrec's owner has nothing to do before the answer; at home it sleeps on.
  if (after.phase == TxPhase::kDone) tell_owner(region, source);
  return true;
}

bool finish(const Region& region, uint32_t slot, uint64_t number, int rc) {
  Descriptor& d = region.at(slot);
  TxWord tx = load_tx(d);
  while (tx.number == number && (tx.phase == TxPhase::kPosted || tx.phase == TxPhase::kTaken ||
                                 tx.phase == TxPhase::kCancel)) {
    if (swap_tx(d, tx, TxWord{TxPhase::kDone, rc, number})) {
      tell_owner(region, slot);
      return true;
    }
    tx = load_tx(d);
  }
  return false;
}

void release_peers(const Region& region, uint32_t slot) {
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (peer == slot) continue;
    Descriptor& d = region.at(peer);
    const RxWord rx = load_rx(d);
    if (rx.phase == RxPhase::kFilling && rx.filler == slot) {
      if (swap_rx(d, rx, rx.with(RxPhase::kWaiting))) event_signal(d.event);
    }
    const TxWord tx = load_tx(d);
    if (region.slot_of(d.tx_peer.load()) != slot) continue;
    if (tx.phase == TxPhase::kPosted) finish(region, peer, tx.number, EDVSDSTDIED);
    if (tx.phase == TxPhase::kTaken) finish(region, peer, tx.number, EDVSSRCDIED);
  }
}

}  // namespace dvs::dvk
