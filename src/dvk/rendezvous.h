// The single steps of the rendezvous protocol of dvk/layout.h, used by the calls of an application
// (dvk/caller.cc) and by dvsd on behalf of peers on other nodes (proxy/remote_ops.cc). Each is one
// compare-and-swap with what must be written around it; each may be repeated.
#pragma once

#include "dvk/permissions.h"

namespace dvs::dvk {

inline TxWord load_tx(const Descriptor& d) { return TxWord::unpack(d.tx.load()); }
inline RxWord load_rx(const Descriptor& d) { return RxWord::unpack(d.rx.load()); }
inline bool swap_tx(Descriptor& d, TxWord from, TxWord to) {
  uint64_t expected = from.pack();
  return d.tx.compare_exchange_strong(expected, to.pack());
}
inline bool swap_rx(Descriptor& d, RxWord from, RxWord to) {
  uint64_t expected = from.pack();
  return d.rx.compare_exchange_strong(expected, to.pack());
}
inline Kind load_kind(const Descriptor& d) { return static_cast<Kind>(d.kind.load()); }
inline OpKind load_tx_kind(const Descriptor& d) { return static_cast<OpKind>(d.tx_kind.load()); }
// In the hands of the peer, or on the way there.
inline bool is_outstanding(const TxWord& tx) {
  return tx.phase == TxPhase::kPosted || tx.phase == TxPhase::kTaken;
}
inline bool is_migrating(const Descriptor& d) { return (d.flags.load() & kMigrating) != 0; }
// Nobody (any more) can be talked to there.
inline bool is_gone(Kind kind) { return kind == Kind::kFree || kind == Kind::kEnded; }
// The process itself is on this node (as the primary, or as a replica).
inline bool runs_here(Kind kind) { return kind == Kind::kLocal || kind == Kind::kReplica; }
// Its operations are driven from this node.
inline bool acts_here(Kind kind) { return runs_here(kind) || kind == Kind::kEnded; }
// Operations addressed to such an endpoint go to another node.
inline bool is_elsewhere(Kind kind) { return kind == Kind::kRemote || kind == Kind::kBackup; }
// What became of an operation for the process in `slot` is not known here, also when it has gone
// since (the slot still names its last node).
inline bool is_decided_elsewhere(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  const Kind kind = load_kind(d);
  const bool was_elsewhere =
      d.incarnation.load() != 0 && d.node.load() != region.header().local_node;
  return kind == Kind::kFree ? was_elsewhere : is_elsewhere(kind);
}
// A replica here, while the first of them is on another node.
inline bool is_standby(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  return load_kind(d) == Kind::kReplica && d.node.load() != region.header().local_node;
}

// What only a client that waits for it takes.
inline bool is_answer(OpKind kind) { return kind == OpKind::kReply || kind == OpKind::kRelay; }

// A party of a vcopy other than the requester must be waiting, so that its memory is at rest. This
// says that somebody copies, and then looks; who ends its wait looks for that afterwards
// (Caller::await_copies): so no copy goes on when a call has returned. REQUIRES: the copier has
// named the party in its `touching`.
inline bool claim_memory(Descriptor& party) {
  party.touched.store(1);
  const RxPhase phase = load_rx(party).phase;
  return phase == RxPhase::kWaiting || phase == RxPhase::kParked || phase == RxPhase::kFilling;
}

// Push: hands `m` from slot `source` to the process (or mirror) with the endpoint `target` if it
// waits for exactly that, and no notification of this source is still to be taken. For a sendrec,
// marks the source's operation `number` as taken before the target can see the message. False: it
// does not wait; nothing happened.
bool try_push(const Region& region, uint32_t source, int target, OpKind kind, const message& m,
              uint64_t number);

// Gives the answer `m` (of kind kReply or kRelay) to the process in slot `target` for its request
// `number`, on behalf of a peer elsewhere: also to one that is parked. For dvsd. False: it does not
// wait for that; nothing happened.
bool deliver_answer(const Region& region, uint32_t target, uint64_t number, OpKind kind,
                    const message& m);

// Announces a posted operation to its receiver in this region.
void announce(const Region& region, uint32_t source, uint32_t target);

// Pull: takes the operation posted by slot `source` for slot `target`, whose owner calls and
// receives so. kNotify: one of the source's is in the target's notify set now, and is to be taken
// before what it posted later. False: nothing (more) to take there.
struct Taken {
  OpKind kind = OpKind::kNone;
  message m;
};
bool try_pull(const Region& region, uint32_t target, uint32_t source, RxMode mode, Taken& taken);

// Ends the outstanding operation `number` of a slot with a result, if it is still outstanding,
// and wakes its owner (or tells dvsd, for a mirror).
bool finish(const Region& region, uint32_t slot, uint64_t number, int rc);

// Records the notification `number`, posted by slot `source` for slot `target`, whose owner need
// not look for it. For dvsd. What a death of dvsd in the middle leaves (kTaken) is completed by
// calling it again; then, and only then, the notification may be seen twice. False: it is not
// there.
bool record_notification(const Region& region, uint32_t source, uint32_t target, uint64_t number);

// Ends the receive from ANY that a process of this node waits in, or a later one. OK: it waited in
// one; EDVSPROCRUN: it did not; EDVSRMTPROC, EDVSMIGRATE: nothing was done.
int wake_up(const Region& region, uint32_t slot);

// Ends the wait of the process in `slot`, which has gone or waits no more, whatever it has come to.
// A filler that is just writing finds that out (kAbandoned).
void end_wait(const Region& region, uint32_t slot);

// Ends everything that waits for the process in `slot`, which has gone: posted operations with
// EDVSDSTDIED, taken requests with EDVSSRCDIED. Undoes a push that the dead process began, and
// wakes those whom it may have died before waking.
void release_peers(const Region& region, uint32_t slot);

}  // namespace dvs::dvk
