#include "proxy/remote_ops.h"

namespace dvs {

using dvk::Descriptor;
using dvk::Kind;
using dvk::OpKind;
using dvk::RxMode;
using dvk::RxPhase;
using dvk::RxWord;
using dvk::TxPhase;
using dvk::TxWord;
using wire::Operation;
using wire::OperationType;

namespace {

bool is_outstanding(TxPhase phase) { return phase == TxPhase::kPosted || phase == TxPhase::kTaken; }

}  // namespace

// ---- the requester's side -----------------------------------------------------------------------

void RemoteOps::on_doorbell() {
  dvk::SlotSet outbound = region_.outbound();
  // Bounded: processes may ring faster than we answer; the next doorbell is already due then.
  for (uint32_t i = 0; i < region_.slots(); ++i) {
    const uint32_t slot = outbound.find(0);
    if (slot >= region_.slots()) return;
    outbound.clear(slot);
    if (dvk::load_kind(region_.at(slot)) == Kind::kRemote) {
      report(slot);
    } else {
      // It may have become local since it was rung for.
      dvk::event_signal(region_.at(slot).event);
      drive(slot);
    }
  }
  region_.ring_doorbell();
}

void RemoteOps::drive_all() {
  region_.outbound().repair();
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const Kind kind = dvk::load_kind(region_.at(slot));
    if (kind == Kind::kRemote) report(slot);
    if (dvk::runs_here(kind)) drive(slot);
  }
}

void RemoteOps::on_link_up(NodeId node) {
  for (auto& [slot, copy] : copies_) copy.waiting = false;
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    Descriptor& d = region_.at(slot);
    if (!dvk::runs_here(dvk::load_kind(d))) continue;
    const uint32_t peer = region_.slot_of(d.tx_peer.load());
    const bool carried = dvk::load_tx_kind(d) == OpKind::kVcopy;
    if (peer < region_.slots() && (carried || region_.at(peer).node.load() == node)) drive(slot);
  }
}

void RemoteOps::on_place_changed(uint32_t slot) {
  for (uint32_t source = 0; source < region_.slots(); ++source) {
    Descriptor& d = region_.at(source);
    if (!dvk::runs_here(dvk::load_kind(d))) continue;
    const bool concerned = source == slot || region_.slot_of(d.tx_peer.load()) == slot ||
                           dvk::load_tx_kind(d) == OpKind::kVcopy;
    if (auto copy = copies_.find(source); copy != copies_.end()) copy->second.waiting = false;
    if (concerned) drive(source);
  }
  if (dvk::load_kind(region_.at(slot)) == Kind::kRemote) report(slot);
  if (!dvk::runs_here(dvk::load_kind(region_.at(slot)))) copies_.erase(slot);
}

void RemoteOps::drive(uint32_t slot) {
  Descriptor& d = region_.at(slot);
  if (!dvk::runs_here(dvk::load_kind(d)) || dvk::is_migrating(d)) return;
  const TxWord tx = dvk::load_tx(d);
  if (tx.phase == TxPhase::kCancel) drive_cancel(slot, tx);
  if (!is_outstanding(tx.phase)) return;
  if (dvk::load_tx_kind(d) == OpKind::kVcopy) {
    drive_copy(slot, tx);
  } else {
    drive_posted(slot, tx);
  }
}

Operation RemoteOps::operation_of(uint32_t slot, OperationType type) const {
  const Descriptor& d = region_.at(slot);
  Operation operation;
  operation.type = type;
  operation.dcid = region_.header().dcid;
  operation.slot = slot;
  operation.incarnation = d.incarnation.load();
  operation.number = dvk::load_tx(d).number;
  return operation;
}

void RemoteOps::drive_posted(uint32_t slot, const TxWord& tx) {
  Descriptor& d = region_.at(slot);
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  if (peer >= region_.slots()) return;
  const Descriptor& receiver = region_.at(peer);
  const Kind kind = dvk::load_kind(receiver);
  if (kind == Kind::kFree) {
    dvk::finish(region_, slot, tx.number,
                tx.phase == TxPhase::kPosted ? EDVSDSTDIED : EDVSSRCDIED);
  } else if (dvk::runs_here(kind)) {
    if (tx.phase == TxPhase::kPosted) dvk::announce(region_, slot, peer);
  } else if (!dvk::is_migrating(receiver) && receiver.incarnation.load() != 0) {
    // (Parked otherwise: on_place_changed() will come.)
    Operation request = operation_of(slot, OperationType::kRequest);
    request.kind = static_cast<uint8_t>(dvk::load_tx_kind(d));
    request.peer = d.tx_peer.load();
    request.epoch = receiver.epoch.load();
    request.value = d.notify_value.load();
    request.m = d.tx_message.load();
    env_.send(static_cast<NodeId>(receiver.node.load()), request);
  }
}

void RemoteOps::drive_cancel(uint32_t slot, const TxWord& tx) {
  Descriptor& d = region_.at(slot);
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  const bool carried = dvk::load_tx_kind(d) == OpKind::kVcopy;
  copies_.erase(slot);
  if (!carried && peer < region_.slots() && dvk::is_elsewhere(dvk::load_kind(region_.at(peer)))) {
    const auto node = static_cast<NodeId>(region_.at(peer).node.load());
    if (env_.send(node, operation_of(slot, OperationType::kCancel))) return;
  }
  dvk::finish(region_, slot, tx.number, EDVSTIMEDOUT);
}

bool RemoteOps::is_mine(const Operation& operation) const {
  const Descriptor& d = region_.at(operation.slot);
  return dvk::runs_here(dvk::load_kind(d)) && d.incarnation.load() == operation.incarnation &&
         dvk::load_tx(d).number == operation.number && !dvk::is_migrating(d);
}

void RemoteOps::on_ack(const Operation& operation) {
  if (is_mine(operation)) dvk::finish(region_, operation.slot, operation.number, operation.rc);
}

void RemoteOps::on_answer(const Operation& operation) {
  if (!is_mine(operation)) return;
  Descriptor& d = region_.at(operation.slot);
  TxWord tx = dvk::load_tx(d);
  if (tx.phase == TxPhase::kCancel) {
    dvk::finish(region_, operation.slot, operation.number, EDVSTIMEDOUT);
    return;
  }
  if (tx.phase == TxPhase::kPosted) {
    TxWord taken = tx;
    taken.phase = TxPhase::kTaken;
    dvk::swap_tx(d, tx, taken);
  }
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  if (peer < region_.slots()) {
    dvk::try_push(region_, peer, operation.slot, OpKind::kReply, operation.m, 0);
  }
}

void RemoteOps::on_moved(const Operation& operation) {
  if (!is_mine(operation)) return;
  const uint32_t peer = region_.slot_of(region_.at(operation.slot).tx_peer.load());
  if (peer >= region_.slots()) return;
  // Known already: at once. Else the directory's news will come and drive it.
  if (region_.at(peer).epoch.load() >= operation.epoch) env_.drive_later(operation.slot);
}

// ---- the peer's side ------------------------------------------------------------------------------

void RemoteOps::answer(NodeId to, const Operation& request, OperationType type, int rc,
                       uint32_t epoch) {
  Operation operation;
  operation.type = type;
  operation.dcid = request.dcid;
  operation.slot = request.slot;
  operation.incarnation = request.incarnation;
  operation.number = request.number;
  operation.offset = request.offset;
  operation.rc = rc;
  operation.epoch = epoch;
  env_.send(to, operation);
}

// Sends home what has become of a remote process's operation, if there is news.
void RemoteOps::report(uint32_t slot) {
  const Descriptor& d = region_.at(slot);
  const TxWord tx = dvk::load_tx(d);
  Operation operation = operation_of(slot, OperationType::kAck);
  if (tx.phase == TxPhase::kDone) {
    operation.rc = tx.rc;
  } else if (tx.phase == TxPhase::kTaken && dvk::load_rx(d).phase == RxPhase::kFull) {
    operation.type = OperationType::kAnswer;
    operation.m = d.rx_message.load();
  } else {
    return;
  }
  env_.send(static_cast<NodeId>(d.node.load()), operation);
}

void RemoteOps::on_operation(NodeId from, const Operation& operation) {
  if (operation.slot >= region_.slots()) return;
  switch (operation.type) {
    case OperationType::kRequest: return on_request(from, operation);
    case OperationType::kAck: return on_ack(operation);
    case OperationType::kAnswer: return on_answer(operation);
    case OperationType::kMoved: return on_moved(operation);
    case OperationType::kRetry: return on_retry(operation);
    case OperationType::kCancel: return on_cancel(from, operation);
    case OperationType::kCopyRead: return on_copy_read(from, operation);
    case OperationType::kCopyWrite: return on_copy_write(from, operation);
    case OperationType::kCopyData:
    case OperationType::kCopyAck: return on_copy_result(operation);
  }
}

// Whether the peer named by a request is (or, as the sender knows already, is about to be) on
// this node; if not, says so.
bool RemoteOps::placed_here(NodeId from, const Operation& operation, uint32_t peer) {
  const Descriptor& receiver = region_.at(peer);
  const uint32_t epoch = receiver.epoch.load();
  const Kind kind = dvk::load_kind(receiver);
  if (kind == Kind::kFree || !region_.names(operation.peer, peer)) {
    answer(from, operation, OperationType::kAck, EDVSDSTDIED);
    return false;
  }
  const bool here = dvk::runs_here(kind) && operation.epoch == epoch;
  const bool about_to_be = operation.epoch > epoch && dvk::is_migrating(receiver);
  if (here || about_to_be) return true;
  if (operation.epoch > epoch) {
    answer(from, operation, OperationType::kRetry);
  } else {
    answer(from, operation, OperationType::kMoved, 0, epoch);
  }
  return false;
}

// Books a request in its owner's mirror. False: it is there already.
bool RemoteOps::book(const Operation& operation) {
  Descriptor& mirror = region_.at(operation.slot);
  const TxWord known = dvk::load_tx(mirror);
  if (operation.number < known.number) return false;
  if (operation.number == known.number && known.phase != TxPhase::kIdle) {
    report(operation.slot);
    return false;
  }
  mirror.tx_message.store(operation.m);
  mirror.tx_kind.store(operation.kind);
  mirror.tx_peer.store(operation.peer);
  mirror.notify_value.store(operation.value);
  RxWord rx = dvk::load_rx(mirror);
  rx.phase = RxPhase::kIdle;
  if (static_cast<OpKind>(operation.kind) == OpKind::kSendRec) {
    rx.phase = RxPhase::kWaiting;
    rx.mode = RxMode::kAnswer;
    rx.filter = static_cast<uint16_t>(region_.slot_of(operation.peer));
    ++rx.tag;
  }
  mirror.rx.store(rx.pack());
  mirror.tx.store(TxWord{TxPhase::kPosted, 0, operation.number}.pack());
  return true;
}

// Gives a booked request to its receiver: at once if it waits, else it stays queued.
void RemoteOps::hand_over(const Operation& operation, uint32_t peer) {
  Descriptor& receiver = region_.at(peer);
  const auto kind = static_cast<OpKind>(operation.kind);
  const bool open = dvk::runs_here(dvk::load_kind(receiver)) && !dvk::is_migrating(receiver);
  bool delivered = false;
  if (open && kind == OpKind::kNotify) {
    region_.notifies(peer).set(operation.slot);
    dvk::event_signal(receiver.event);
    delivered = true;
  } else if (open) {
    delivered = dvk::try_push(region_, operation.slot, peer, kind, operation.m, operation.number);
  }
  if (!delivered) {
    dvk::announce(region_, operation.slot, peer);
  } else if (kind != OpKind::kSendRec) {
    region_.at(operation.slot).tx.store(TxWord{TxPhase::kDone, OK, operation.number}.pack());
    report(operation.slot);
  }
}

void RemoteOps::on_request(NodeId from, const Operation& operation) {
  const Descriptor& mirror = region_.at(operation.slot);
  const uint32_t peer = region_.slot_of(operation.peer);
  const auto kind = static_cast<OpKind>(operation.kind);
  const bool known_kind =
      kind == OpKind::kSend || kind == OpKind::kSendRec || kind == OpKind::kNotify;
  if (peer >= region_.slots() || peer == operation.slot || !known_kind) {
    answer(from, operation, OperationType::kAck, EDVSENDPOINT);
    return;
  }
  const uint64_t incarnation = mirror.incarnation.load();
  const Kind mirror_kind = dvk::load_kind(mirror);
  if (mirror_kind != Kind::kFree && operation.incarnation < incarnation) {
    answer(from, operation, OperationType::kAck, EDVSNOTBIND);
  } else if (mirror_kind != Kind::kRemote || operation.incarnation != incarnation) {
    // The directory's news about the requester has not arrived here yet.
    answer(from, operation, OperationType::kRetry);
  } else if (placed_here(from, operation, peer) && book(operation)) {
    hand_over(operation, peer);
  }
}

void RemoteOps::on_cancel(NodeId from, const Operation& operation) {
  Descriptor& mirror = region_.at(operation.slot);
  if (dvk::load_kind(mirror) != Kind::kRemote ||
      mirror.incarnation.load() != operation.incarnation) {
    answer(from, operation, OperationType::kAck, EDVSTIMEDOUT);
    return;
  }
  TxWord tx = dvk::load_tx(mirror);
  if (operation.number < tx.number) return;
  const TxWord cancelled{TxPhase::kDone, EDVSTIMEDOUT, operation.number};
  if (operation.number > tx.number || tx.phase == TxPhase::kIdle) {
    mirror.tx.store(cancelled.pack());  // it never came, and must not come late
  } else if (tx.phase == TxPhase::kTaken) {
    const RxWord rx = dvk::load_rx(mirror);
    if (rx.phase == RxPhase::kWaiting && dvk::swap_rx(mirror, rx, rx.with(RxPhase::kIdle))) {
      dvk::swap_tx(mirror, tx, cancelled);
    }
  } else if (tx.phase == TxPhase::kPosted && !dvk::swap_tx(mirror, tx, cancelled)) {
    on_cancel(from, operation);  // just taken: decide again
    return;
  }
  report(operation.slot);
}

}  // namespace dvs
