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

constexpr int kLowestResult = -2047;  // that a TxWord can hold

}  // namespace

// ---- the requester's side -----------------------------------------------------------------------

void RemoteOps::on_doorbell() {
  dvk::SlotSet outbound = region_.outbound();
  // Bounded: processes may ring faster than we answer; the next doorbell is already due then.
  for (uint32_t i = 0; i < region_.slots(); ++i) {
    const uint32_t slot = outbound.find(0);
    if (slot >= region_.slots()) return;
    outbound.clear(slot);
    if (dvk::is_elsewhere(dvk::load_kind(region_.at(slot)))) {
      report(slot);
    } else {
      // It may have become local since it was rung for: then its owner has been waited for.
      if (!is_carried(slot)) dvk::event_signal(region_.at(slot).event);
      drive(slot);
    }
  }
  region_.ring_doorbell();
}

// Its owner waits for what we do.
bool RemoteOps::is_carried(uint32_t slot) const {
  const Descriptor& d = region_.at(slot);
  const TxWord tx = dvk::load_tx(d);
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  return tx.phase == TxPhase::kPosted && peer < region_.slots() &&
         dvk::is_elsewhere(dvk::load_kind(region_.at(peer)));
}

void RemoteOps::drive_all() {
  region_.outbound().repair();
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const Kind kind = dvk::load_kind(region_.at(slot));
    if (kind != Kind::kFree) repair(slot);
    if (dvk::is_elsewhere(kind)) report(slot);
    if (dvk::acts_here(kind)) drive(slot);
  }
}

// Completes what a dvsd that was killed had begun.
void RemoteOps::repair(uint32_t slot) {
  Descriptor& d = region_.at(slot);
  dvk::event_signal(d.event);  // it may have been killed between a change and the wake-up
  const RxWord rx = dvk::load_rx(d);
  if (rx.phase == RxPhase::kFilling && rx.filler == slot) {
    // The answer it was delivering comes again. The gate may have been closed meanwhile.
    dvk::swap_rx(d, rx, rx.with(RxPhase::kWaiting));
  }
  const TxWord tx = dvk::load_tx(d);
  const bool carries = dvk::is_outstanding(tx) && dvk::load_tx_kind(d) == OpKind::kVcopy;
  if (carries || dvk::is_elsewhere(dvk::load_kind(d))) {
    for (auto& touched : d.touching) touched.store(0);  // it was copying a window
  }
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  if (peer >= region_.slots() || !dvk::is_outstanding(tx) || !(dvk::load_tx(d) == tx)) return;
  if (tx.phase == TxPhase::kTaken) dvk::record_notification(region_, slot, peer, tx.number);
  if (dvk::is_elsewhere(dvk::load_kind(d))) hand_over(slot);
}

void RemoteOps::on_link_up(NodeId node) {
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    Descriptor& d = region_.at(slot);
    if (!dvk::acts_here(dvk::load_kind(d))) continue;
    stop_waiting(slot, [&](const Window& window) { return window.node == node; });
    const uint32_t peer = region_.slot_of(d.tx_peer.load());
    const bool carried = dvk::load_tx_kind(d) == OpKind::kVcopy;
    if (peer < region_.slots() && (carried || region_.at(peer).node.load() == node)) drive(slot);
  }
}

void RemoteOps::on_place_changed(uint32_t slot) {
  if (!dvk::runs_here(dvk::load_kind(region_.at(slot)))) copies_.erase(slot);
  for (uint32_t source = 0; source < region_.slots(); ++source) {
    const Descriptor& d = region_.at(source);
    const bool to_it = region_.slot_of(d.tx_peer.load()) == slot;
    if (to_it && dvk::is_elsewhere(dvk::load_kind(d))) {
      hand_over(source);
      report(source);  // what it brought along
    }
    if (!dvk::acts_here(dvk::load_kind(d))) continue;
    // (The answer was not believed while the requester itself was migrating.)
    stop_waiting(source,
                 [&](const Window& window) { return window.party == slot || source == slot; });
    if (source == slot || to_it || dvk::load_tx_kind(d) == OpKind::kVcopy) drive(source);
  }
  if (dvk::is_elsewhere(dvk::load_kind(region_.at(slot)))) report(slot);
}

void RemoteOps::drive(uint32_t slot) {
  const Descriptor& d = region_.at(slot);
  if (!dvk::acts_here(dvk::load_kind(d)) || dvk::is_migrating(d)) return;
  const TxWord tx = dvk::load_tx(d);
  if (!dvk::is_outstanding(tx) && tx.phase != TxPhase::kCancel) return;
  Operation operation = operation_of(slot, OperationType::kRequest, tx.number);
  operation.kind = static_cast<uint8_t>(dvk::load_tx_kind(d));
  operation.peer = d.tx_peer.load();
  operation.value = d.notify_value.load();
  operation.m = d.tx_message.load();
  if (!still_outstanding(slot, tx.number)) return;  // then this may be half of the next one
  const bool is_copy = operation.kind == static_cast<uint8_t>(OpKind::kVcopy);
  if (is_copy) {
    tx.phase == TxPhase::kCancel ? cancel_copy(slot, tx.number) : drive_copy(slot, tx.number);
  } else {
    tx.phase == TxPhase::kCancel ? drive_cancel(operation) : drive_posted(operation, tx);
  }
}

// Its owner writes the next operation only when this one is over.
bool RemoteOps::still_outstanding(uint32_t slot, uint64_t number) const {
  const TxWord tx = dvk::load_tx(region_.at(slot));
  return tx.number == number && (dvk::is_outstanding(tx) || tx.phase == TxPhase::kCancel);
}

Operation RemoteOps::operation_of(uint32_t slot, OperationType type, uint64_t number) const {
  Operation operation;
  operation.type = type;
  operation.dcid = region_.header().dcid;
  operation.slot = slot;
  operation.incarnation = region_.at(slot).incarnation.load();
  operation.number = number;
  return operation;
}

void RemoteOps::drive_posted(Operation& request, const TxWord& tx) {
  const uint32_t peer = region_.slot_of(request.peer);
  if (peer >= region_.slots()) return;
  const Descriptor& receiver = region_.at(peer);
  const Kind kind = dvk::load_kind(receiver);
  if (dvk::is_standby(region_, request.slot) && dvk::is_elsewhere(kind)) {
    dvk::finish(region_, request.slot, tx.number, EDVSREPLPROC);
  } else if (dvk::is_gone(kind)) {
    if (ask_last_node(request, receiver)) return;
    dvk::finish(region_, request.slot, tx.number,
                tx.phase == TxPhase::kPosted ? EDVSDSTDIED : EDVSSRCDIED);
  } else if (dvk::runs_here(kind)) {
    hand_over(request.slot);
  } else if (!dvk::is_migrating(receiver) && receiver.incarnation.load() != 0) {
    // (Parked otherwise: on_place_changed() will come.)
    send_to_peer(request, receiver);
  }
}

// The news that an endpoint has gone may overtake what its node has to say of an operation, so that
// node is asked. False: there is nobody (any more) to ask; what is not known by now, never will be.
// True also when the link is down: on_link_up() or on_nodes_changed() will come.
bool RemoteOps::ask_last_node(Operation& operation, const Descriptor& receiver) {
  const uint32_t node = receiver.node.load();
  if (receiver.incarnation.load() == 0 || node == self_ || node >= dvk::kRegionNodes) return false;
  if (region_.header().nodes[node].state.load() != dvk::kNodeUp) return false;
  send_to_peer(operation, receiver);
  return true;
}

void RemoteOps::on_nodes_changed() {
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const uint32_t peer = region_.slot_of(region_.at(slot).tx_peer.load());
    if (peer < region_.slots() && dvk::is_gone(dvk::load_kind(region_.at(peer)))) drive(slot);
  }
}

bool RemoteOps::send_to_peer(Operation& operation, const Descriptor& receiver) {
  operation.peer_incarnation = receiver.incarnation.load();
  operation.epoch = receiver.epoch.load();
  return env_.send(static_cast<NodeId>(receiver.node.load()), operation);
}

void RemoteOps::drive_cancel(Operation& cancel) {
  cancel.type = OperationType::kCancel;
  const uint32_t peer = region_.slot_of(cancel.peer);
  if (peer < region_.slots()) {
    const Kind kind = dvk::load_kind(region_.at(peer));
    if (dvk::is_elsewhere(kind) && send_to_peer(cancel, region_.at(peer))) return;
    if (dvk::is_gone(kind) && ask_last_node(cancel, region_.at(peer))) return;
  }
  dvk::finish(region_, cancel.slot, cancel.number, EDVSTIMEDOUT);
}

bool RemoteOps::is_mine(const Operation& operation) const {
  const Descriptor& d = region_.at(operation.slot);
  return dvk::acts_here(dvk::load_kind(d)) && d.incarnation.load() == operation.incarnation &&
         dvk::load_tx(d).number == operation.number && !dvk::is_migrating(d);
}

// Another node's result, which is input.
int RemoteOps::result_from_elsewhere(int rc) {
  return rc <= OK && rc >= kLowestResult ? rc : EDVSINVAL;
}

void RemoteOps::on_ack(const Operation& operation) {
  if (!is_mine(operation)) return;
  dvk::finish(region_, operation.slot, operation.number, result_from_elsewhere(operation.rc));
}

void RemoteOps::on_answer(const Operation& operation) {
  if (!is_mine(operation)) return;
  const Descriptor& d = region_.at(operation.slot);
  if (dvk::load_tx(d).phase == TxPhase::kCancel) {
    dvk::finish(region_, operation.slot, operation.number, EDVSTIMEDOUT);
  } else {
    const auto kind = static_cast<OpKind>(operation.kind);
    if (!dvk::is_answer(kind)) return;
    dvk::deliver_answer(region_, operation.slot, operation.number, kind, operation.m);
  }
}

void RemoteOps::on_moved(const Operation& operation) {
  if (!is_mine(operation)) return;
  const uint32_t peer = region_.slot_of(region_.at(operation.slot).tx_peer.load());
  if (peer >= region_.slots()) return;
  // Known already: at once. Else the directory's news will come and drive it.
  if (region_.at(peer).epoch.load() >= operation.epoch) env_.drive_later(operation.slot);
}

// ---- the peer's side

void RemoteOps::answer(NodeId to, const Operation& request, OperationType type, int rc,
                       uint32_t epoch) {
  Operation operation;
  operation.type = type;
  operation.dcid = request.dcid;
  operation.slot = request.slot;
  operation.incarnation = request.incarnation;
  operation.number = request.number;
  operation.step = request.step;
  operation.offset = request.offset;
  operation.rc = rc;
  operation.epoch = epoch;
  env_.send(to, operation);
}

// Sends home what has become of a remote process's operation, if there is news.
void RemoteOps::report(uint32_t slot) {
  report_to(static_cast<NodeId>(region_.at(slot).node.load()), slot);
}

void RemoteOps::report_to(NodeId node, uint32_t slot) {
  const Descriptor& d = region_.at(slot);
  const TxWord tx = dvk::load_tx(d);
  Operation operation = operation_of(slot, OperationType::kAck, tx.number);
  if (tx.phase == TxPhase::kDone) {
    operation.rc = tx.rc;
  } else if (tx.phase == TxPhase::kTaken && dvk::load_rx(d).phase == RxPhase::kFull) {
    operation.type = OperationType::kAnswer;
    operation.kind = static_cast<uint8_t>(d.rx_kind.load());
    operation.m = d.rx_message.load();
  } else {
    return;
  }
  if (node != self_) env_.send(node, operation);
}

void RemoteOps::on_operation(NodeId from, const Operation& operation) {
  if (operation.slot >= region_.slots()) return;
  switch (operation.type) {
    case OperationType::kRequest:
      return on_request(from, operation);
    case OperationType::kAck:
      return on_ack(operation);
    case OperationType::kAnswer:
      return on_answer(operation);
    case OperationType::kMoved:
      return on_moved(operation);
    case OperationType::kRetry:
      return on_retry(operation);
    case OperationType::kCancel:
      return on_cancel(from, operation);
    case OperationType::kCopyRead:
      return on_copy_read(from, operation);
    case OperationType::kCopyWrite:
      return on_copy_write(from, operation);
    case OperationType::kCopyData:
    case OperationType::kCopyAck:
      return on_copy_result(operation);
  }
}

// Where the peer that a request or a cancellation names is, as far as this node knows. (kHere also
// while it is about to arrive, as its sender knows already.)
RemoteOps::Place RemoteOps::place_of(const Operation& operation, uint32_t peer) const {
  const Descriptor& receiver = region_.at(peer);
  const uint64_t incarnation = receiver.incarnation.load();
  const Kind kind = dvk::load_kind(receiver);
  if (incarnation < operation.peer_incarnation) {
    return env_.is_forgotten(peer, operation.peer_incarnation) ? Place::kDied : Place::kUnknown;
  }
  if (incarnation > operation.peer_incarnation || dvk::is_gone(kind)) return Place::kDied;
  const uint32_t epoch = receiver.epoch.load();
  if (operation.epoch > epoch) {
    return dvk::is_migrating(receiver) ? Place::kHere : Place::kUnknown;
  }
  return operation.epoch == epoch && dvk::runs_here(kind) ? Place::kHere : Place::kLeft;
}

// The mirror knows the result of this very operation: nothing can change that any more, wherever
// the peer is.
bool RemoteOps::is_final(const Operation& operation) const {
  const Descriptor& mirror = region_.at(operation.slot);
  const TxWord tx = dvk::load_tx(mirror);
  if (tx.number != operation.number) return false;
  return tx.phase == TxPhase::kDone ||
         (tx.phase == TxPhase::kTaken && dvk::load_rx(mirror).phase == RxPhase::kFull);
}

// Somebody here is writing the answer to an earlier operation, which its owner has given up.
bool RemoteOps::is_being_answered(const Descriptor& mirror, uint64_t next) {
  const RxPhase rx = dvk::load_rx(mirror).phase;
  return dvk::load_tx(mirror).number != next &&
         (rx == RxPhase::kFilling || rx == RxPhase::kAbandoned);
}

// Books a request in its owner's mirror, unless it is there already.
void RemoteOps::book(const Operation& operation) {
  Descriptor& mirror = region_.at(operation.slot);
  const TxWord known = dvk::load_tx(mirror);
  const bool is_new = operation.number > known.number || known.phase == TxPhase::kIdle;
  if (operation.number < known.number || !is_new) return;
  // Nobody may take the old one while its message is being replaced.
  mirror.tx.store(TxWord{TxPhase::kIdle, 0, known.number}.pack());
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
}

// Makes a posted operation known to its receiver, if that is here. Harmless when repeated. A
// notification is recorded at once: its sender must not wait for the receiver to look.
void RemoteOps::hand_over(uint32_t slot) {
  const Descriptor& d = region_.at(slot);
  const TxWord tx = dvk::load_tx(d);
  const uint32_t peer = region_.slot_of(d.tx_peer.load());
  if (peer >= region_.slots() || tx.phase != TxPhase::kPosted) return;
  const Descriptor& receiver = region_.at(peer);
  const bool open = dvk::runs_here(dvk::load_kind(receiver)) && !dvk::is_migrating(receiver);
  if (open && dvk::load_tx_kind(d) == OpKind::kNotify) {
    dvk::record_notification(region_, slot, peer, tx.number);
  } else {
    dvk::announce(region_, slot, peer);
  }
}

void RemoteOps::on_request(NodeId from, const Operation& operation) {
  const Descriptor& mirror = region_.at(operation.slot);
  const uint32_t peer = region_.slot_of(operation.peer);
  const auto kind = static_cast<OpKind>(operation.kind);
  const bool known_kind =
      kind == OpKind::kSend || kind == OpKind::kSendRec || kind == OpKind::kNotify;
  if (peer >= region_.slots() || peer == operation.slot || !known_kind) {
    return answer(from, operation, OperationType::kAck, EDVSENDPOINT);
  }
  const uint64_t incarnation = mirror.incarnation.load();
  const Kind mirror_kind = dvk::load_kind(mirror);
  if (operation.incarnation < incarnation) {
    return answer(from, operation, OperationType::kAck, EDVSNOTBIND);
  }
  if (mirror_kind == Kind::kReplica && operation.incarnation == incarnation) {
    // What would be its mirror is another replica's descriptor.
    return answer(from, operation, OperationType::kAck, EDVSREPLPROC);
  }
  if (!dvk::is_elsewhere(mirror_kind) || operation.incarnation != incarnation) {
    // The directory's news about the requester has not arrived here yet.
    return answer(from, operation, OperationType::kRetry);
  }
  if (is_final(operation)) return report_to(from, operation.slot);
  if (is_being_answered(mirror, operation.number)) {
    return answer(from, operation, OperationType::kRetry);
  }
  switch (place_of(operation, peer)) {
    case Place::kHere:
      break;
    case Place::kUnknown:
      return answer(from, operation, OperationType::kRetry);
    case Place::kDied:
      return answer(from, operation, OperationType::kAck, EDVSDSTDIED);
    case Place::kLeft:
      return answer(from, operation, OperationType::kMoved, 0, region_.at(peer).epoch.load());
  }
  book(operation);
  hand_over(operation.slot);
}

// Ends an operation in its owner's mirror, if it is not too late. False: a process here has changed
// it just now, look again.
bool RemoteOps::take_back(uint32_t slot, uint64_t number) {
  Descriptor& mirror = region_.at(slot);
  const TxWord tx = dvk::load_tx(mirror);
  const TxWord cancelled{TxPhase::kDone, EDVSTIMEDOUT, number};
  if (number < tx.number || (number == tx.number && tx.phase == TxPhase::kDone)) return true;
  if (number > tx.number || tx.phase != TxPhase::kTaken) {
    return dvk::swap_tx(mirror, tx, cancelled);  // also when it never came: it must not come late
  }
  const RxWord rx = dvk::load_rx(mirror);
  if (rx.phase == RxPhase::kFilling || rx.phase == RxPhase::kFull) return true;  // answered
  if (!dvk::swap_rx(mirror, rx, rx.with(RxPhase::kIdle))) return false;
  return dvk::swap_tx(mirror, tx, cancelled);
}

void RemoteOps::on_cancel(NodeId from, const Operation& operation) {
  const Descriptor& mirror = region_.at(operation.slot);
  const uint32_t peer = region_.slot_of(operation.peer);
  const uint64_t incarnation = mirror.incarnation.load();
  if (peer >= region_.slots() || operation.incarnation < incarnation) {
    return answer(from, operation, OperationType::kAck, EDVSTIMEDOUT);
  }
  if (operation.incarnation > incarnation) return answer(from, operation, OperationType::kRetry);
  if (!dvk::is_elsewhere(dvk::load_kind(mirror))) return;  // its owner is here, and decides here
  if (!is_final(operation)) {
    // What the peer took before it came here is not known before it is here.
    const Place place = place_of(operation, peer);
    const bool arrives = region_.at(peer).epoch.load() < operation.epoch && place != Place::kDied;
    if (place == Place::kUnknown || arrives) {
      return answer(from, operation, OperationType::kRetry);
    }
    while (!take_back(operation.slot, operation.number)) {
    }
  }
  report_to(from, operation.slot);
}

}  // namespace dvs
