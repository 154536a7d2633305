#include "dvk/rendezvous.h"

namespace dvs::dvk {
namespace {

// Whether the receiver's wait admits this message. An answer is only taken by the client that waits
// for it: one whose request this source has taken.
bool admits(const Region& region, const RxWord& rx, const Descriptor& receiver, uint32_t source,
            OpKind kind) {
  if (rx.phase != RxPhase::kWaiting || !may_receive(receiver, source)) return false;
  if (rx.filter != kAnySlot && rx.filter != source) return false;
  if (kind == OpKind::kNotify) return rx.mode == RxMode::kAny;
  if (rx.mode == RxMode::kAnswer) {
    if (kind == OpKind::kSendRec) return false;
    return load_tx(receiver).phase == TxPhase::kTaken &&
           region.slot_of(receiver.tx_peer.load()) == source;
  }
  return !is_answer(kind);
}

// A notification that this source gave before, and that is still to be taken, comes first.
bool comes_second(const Region& region, uint32_t target, uint32_t source, RxMode mode) {
  return mode == RxMode::kAny && region.notifies(target).test(source);
}

// Wakes the owner, or dvsd when the owner is on another node or has ended.
void tell_owner(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  if (is_elsewhere(load_kind(d)) || load_kind(d) == Kind::kEnded) {
    region.ring(slot);
  } else {
    event_signal(d.event);
  }
}

}  // namespace

namespace {

// The message is written by who claimed the wait. False: the wait has been ended by force meanwhile
// (the receiver is gone); the message counts as not delivered.
bool fill(const Region& region, uint32_t target, const RxWord& filling, OpKind kind,
          const message& m) {
  Descriptor& receiver = region.at(target);
  receiver.rx_kind.store(static_cast<uint32_t>(kind), kContents);
  receiver.rx_message.store(m);
  if (swap_rx(receiver, filling, filling.with(RxPhase::kFull))) {
    tell_owner(region, target);
    return true;
  }
  const RxWord ended = load_rx(receiver);
  if (ended.phase == RxPhase::kAbandoned && ended.filler == filling.filler) {
    swap_rx(receiver, ended, ended.with(RxPhase::kIdle));
  }
  return false;
}

RxWord claimed_by(const RxWord& rx, uint32_t filler) {
  RxWord filling = rx.with(RxPhase::kFilling);
  filling.filler = static_cast<uint16_t>(filler);
  return filling;
}

}  // namespace

bool try_push(const Region& region, uint32_t source, int endpoint, OpKind kind, const message& m,
              uint64_t number) {
  const uint32_t target = region.slot_of(endpoint);
  Descriptor& receiver = region.at(target);
  RxWord rx;
  do {
    rx = load_rx(receiver);
    if (!admits(region, rx, receiver, source, kind) || !region.names(endpoint, target) ||
        comes_second(region, target, source, rx.mode)) {
      return false;
    }
  } while (!swap_rx(receiver, rx, claimed_by(rx, source)));
  if (kind == OpKind::kSendRec) {
    region.at(source).tx.store(TxWord{TxPhase::kTaken, 0, number}.pack());
  }
  return fill(region, target, claimed_by(rx, source), kind, m);
}

bool deliver_answer(const Region& region, uint32_t target, uint64_t number, OpKind kind,
                    const message& m) {
  Descriptor& client = region.at(target);
  RxWord rx;
  do {
    // The number is looked at within one wait, or the swap fails.
    rx = load_rx(client);
    const bool waits = rx.phase == RxPhase::kWaiting || rx.phase == RxPhase::kParked;
    const TxWord tx = load_tx(client);
    if (!waits || rx.mode != RxMode::kAnswer || tx.number != number || !is_outstanding(tx)) {
      return false;
    }
    // A process never fills its own wait: if dvsd dies now, its successor sees that it was dvsd.
  } while (!swap_rx(client, rx, claimed_by(rx, target)));
  return fill(region, target, claimed_by(rx, target), kind, m);
}

void announce(const Region& region, uint32_t source, uint32_t target) {
  region.senders(target).set(source);
  Descriptor& receiver = region.at(target);
  const RxPhase phase = load_rx(receiver).phase;
  if (phase == RxPhase::kWaiting || phase == RxPhase::kParked) event_signal(receiver.event);
}

namespace {

bool is_message(OpKind kind) {
  return kind == OpKind::kSend || kind == OpKind::kSendRec || kind == OpKind::kNotify;
}

}  // namespace

bool try_pull(const Region& region, uint32_t target, uint32_t source, RxMode mode, Taken& taken) {
  region.senders(target).clear(source);
  Descriptor& sender = region.at(source);
  const TxWord posted = load_tx(sender);
  if (posted.phase != TxPhase::kPosted || load_kind(sender) == Kind::kFree ||
      region.slot_of(sender.tx_peer.load()) != target) {
    return false;
  }
  taken.kind = load_tx_kind(sender);
  if (!is_message(taken.kind)) return false;
  if (!region.names(sender.tx_peer.load(), target)) {  // it meant the slot's last owner
    finish(region, source, posted.number, EDVSDSTDIED);
    return false;
  }
  if (!may_receive(region.at(target), source)) {
    finish(region, source, posted.number, EDVSTRAPDENIED);
    return false;
  }
  if (comes_second(region, target, source, mode)) {
    region.senders(target).set(source);
    taken.kind = OpKind::kNotify;
    return true;
  }
  taken.m = sender.tx_message.load();
  TxWord after = posted;
  after.phase = taken.kind == OpKind::kSendRec ? TxPhase::kTaken : TxPhase::kDone;
  if (!swap_tx(sender, posted, after)) return false;
  if (taken.kind == OpKind::kNotify) region.notifies(target).set(source);
  // A sendrec's owner has nothing to do before the answer; at home it sleeps on.
  if (after.phase == TxPhase::kDone) tell_owner(region, source);
  return true;
}

bool record_notification(const Region& region, uint32_t source, uint32_t target, uint64_t number) {
  Descriptor& sender = region.at(source);
  TxWord tx = load_tx(sender);
  if (load_tx_kind(sender) != OpKind::kNotify || region.slot_of(sender.tx_peer.load()) != target ||
      tx.number != number || !(load_tx(sender) == tx)) {  // a later operation may just be written
    return false;
  }
  if (!may_receive(region.at(target), source)) {
    return finish(region, source, tx.number, EDVSTRAPDENIED);
  }
  if (tx.phase == TxPhase::kPosted) {
    const TxWord posted = tx;
    tx.phase = TxPhase::kTaken;
    if (!swap_tx(sender, posted, tx)) return false;
  }
  if (tx.phase != TxPhase::kTaken) return false;
  region.notifies(target).set(source);
  event_signal(region.at(target).event);
  return finish(region, source, tx.number, OK);
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

// In one step with the look at the gate: what is marked before that closes moves along. (A whole
// migration may have passed since the kind was looked at.)
int wake_up(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  if (is_elsewhere(load_kind(d))) return EDVSRMTPROC;
  const RxWord rx = load_rx(d);
  uint32_t flags = d.flags.load();
  do {
    if ((flags & kMigrating) != 0) return EDVSMIGRATE;
  } while (!d.flags.compare_exchange_strong(flags, flags | kWokenUp));
  event_signal(d.event);
  if (is_elsewhere(load_kind(d))) return d.flags.fetch_and(~kWokenUp), EDVSRMTPROC;
  return rx.phase == RxPhase::kWaiting && rx.filter == kAnySlot ? OK : EDVSPROCRUN;
}

void end_wait(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  for (;;) {
    const RxWord rx = load_rx(d);
    if (rx.phase == RxPhase::kAbandoned) return;
    RxWord ended;
    ended.tag = rx.tag + 1;
    // (Its own slot stands for dvsd, which does not come here while it fills.)
    if (rx.phase == RxPhase::kFilling && rx.filler != slot) {
      ended.phase = RxPhase::kAbandoned;
      ended.filler = rx.filler;
    }
    if (swap_rx(d, rx, ended)) return;
  }
}

void release_peers(const Region& region, uint32_t slot) {
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (peer == slot) continue;
    Descriptor& d = region.at(peer);
    const RxWord rx = load_rx(d);
    if (rx.filler == slot && rx.phase == RxPhase::kFilling) {
      if (swap_rx(d, rx, rx.with(RxPhase::kWaiting))) tell_owner(region, peer);
    }
    if (rx.filler == slot && rx.phase == RxPhase::kAbandoned) {
      swap_rx(d, rx, rx.with(RxPhase::kIdle));
    }
    if (rx.filler == slot && rx.phase == RxPhase::kFull) tell_owner(region, peer);
    if (region.notifies(peer).test(slot)) tell_owner(region, peer);
    TxWord tx = load_tx(d);  // first: what finish() ends is then at most an older one
    if (region.slot_of(d.tx_peer.load()) != slot) continue;
    if (tx.phase == TxPhase::kPosted) {
      // One that lives, and was unbound, may just be taking it.
      const TxWord posted = tx;
      tx = TxWord{TxPhase::kDone, EDVSDSTDIED, tx.number};
      if (!swap_tx(d, posted, tx)) tx = load_tx(d);
    }
    // An answer that is there counts, also in a mirror, whose owner has not heard of it yet.
    const bool answered = rx.filler == slot && rx.phase == RxPhase::kFull;
    if (tx.phase == TxPhase::kTaken && !answered) finish(region, peer, tx.number, EDVSSRCDIED);
    if (tx.phase == TxPhase::kDone) tell_owner(region, peer);
  }
}

}  // namespace dvs::dvk
