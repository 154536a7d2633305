#include "dvk/caller.h"

#include <sched.h>

#include <ctime>

namespace dvs::dvk {
namespace {

// How long a timed-out remote operation waits to learn from the peer's node whether it was
// taken after all.
constexpr int64_t kSettleMs = 500;
constexpr int64_t kNapMs = 20;
// How many naps a call waits at its own gate beyond its deadline, so that being moved does not make
// it fail. Naps, not time: a process that is frozen meanwhile has had one.
constexpr int kNapsAtGate = 50;

}  // namespace

// (The incarnation, and then the tid, are looked at in this order: a later owner of the slot writes
// its own in the other.)
Caller::Caller(const Region& region, uint32_t slot, Thread self, Deadline deadline)
    : region_(region),
      slot_(slot),
      me_(region.at(slot)),
      tid_(self.tid),
      incarnation_(me_.incarnation.load()),
      mark_(tid_ | static_cast<uint32_t>(incarnation_ % 256) << kTidBits) {
  if (const bool owner = is_owner(self); !owner || !claim_endpoint()) {
    status_ = owner && still_bound() ? EDVSBUSY : EDVSNOTBIND;
    claimed_ = false;
    return;
  }
  was_inside_ = nested_ && me_.inside.load() == tid_;
  // (A handler that came while its thread was about to wait must not leave it outside.)
  if (!enter(was_inside_ ? Deadline::never() : deadline)) {
    status_ = over(deadline);
  } else if (!still_bound()) {
    status_ = EDVSNOTBIND;
  }
}

Caller::~Caller() {
  if (!claimed_) return;
  if (!was_inside_) leave();
  uint32_t mine = nested_ ? mark_ | kNested : mark_;
  me_.busy.compare_exchange_strong(mine, nested_ ? mark_ | kResting : 0);
}

bool Caller::is_owner(Thread self) const {
  const auto owner = static_cast<uint32_t>(me_.tid.load());
  return owner != 0 && (owner == self.tid || owner == self.main);
}

// One call at a time; in a receive's wait, also one of a signal's handler.
bool Caller::claim_endpoint() {
  for (;;) {
    uint32_t found = 0;
    if (me_.busy.compare_exchange_strong(found, mark_)) return true;
    if (found == (mark_ | kResting)) {
      nested_ = me_.busy.compare_exchange_strong(found, mark_ | kNested);
      return nested_;
    }
    const bool of_this_owner = ((found ^ mark_) >> kTidBits & 0xff) == 0;
    if (of_this_owner) return false;
    if (take_over(me_.busy, found, mark_)) return true;
    if (!still_bound()) return false;
  }
}

// From a thread that does not know yet that it has lost the endpoint, or has been killed before it
// did. What is found there is this endpoint's next owner's only if this thread is the one that has
// lost it. False: look again.
bool Caller::take_over(Atomic<uint32_t>& word, uint32_t found, uint32_t mine) {
  return still_bound() && word.compare_exchange_strong(found, mine);
}

// By compare-and-swap with the thread's id: the slot may have been given to another process, if
// another one unbound this endpoint in the middle of the call.
void Caller::leave() {
  uint32_t mine = tid_;
  me_.inside.compare_exchange_strong(mine, 0);
}

// The gate: closed while the endpoint migrates, and for a backup until it becomes the primary.
// False: the deadline passed there, and nothing but a long wait can be expected. Who is not bound
// any more comes through at once, but does not enter.
bool Caller::enter(Deadline deadline) {
  for (int naps = 0;;) {
    const uint32_t prepared = event_prepare(me_.event);
    uint32_t found = 0;
    const bool entered = me_.inside.compare_exchange_strong(found, tid_) || found == tid_ ||
                         take_over(me_.inside, found, tid_);
    const bool backup = load_kind(me_) == Kind::kBackup && me_.incarnation.load() == incarnation_;
    const bool bound = still_bound();
    if (bound && !is_migrating(me_) && entered) return true;
    if (bound && !entered) continue;
    leave();
    if (!bound && !backup) return true;
    const bool late = deadline.passed();
    if (late && (backup || naps == kNapsAtGate)) return false;
    const bool changed =
        event_sleep(me_.event, prepared, late ? Deadline::after_ms(kNapMs) : deadline);
    if (late && !changed) ++naps;
  }
}

// A change that comes soon is awaited inside: leaving costs as much as a message.
Caller::Woken Caller::sleep_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  if (event_await(event, prepared, near())) return Woken::kLookAgain;
  return park_on(event, prepared, deadline);
}

Near Caller::near() {
  const auto here = static_cast<uint32_t>(sched_getcpu());
  if (me_.cpu.load(kUnordered) != here) {
    me_.cpu.store(here, kUnordered);
  }
  if (partner_ >= region_.slots()) return Near::kAsleep;
  const Descriptor& partner = region_.at(partner_);
  if (is_elsewhere(load_kind(partner))) return Near::kHere;  // dvsd is, or the network
  const bool sleeps = (partner.event.load(kUnordered) & 1) != 0;
  if (sleeps || !runs_here(load_kind(partner))) return Near::kAsleep;
  return partner.cpu.load(kUnordered) == here ? Near::kHere : Near::kElsewhere;
}

Caller::Woken Caller::park_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  leave();
  const bool changed = event_sleep(event, prepared, deadline);
  enter(Deadline::never());  // what is outstanding cannot be taken back outside
  return changed || !deadline.passed() ? Woken::kLookAgain : Woken::kOver;
}

// In a receive, nothing is outstanding: a signal's handler may use the endpoint to send meanwhile.
Caller::Woken Caller::rest_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  if (event_await(event, prepared, near())) return Woken::kLookAgain;
  uint32_t mine = mark_;
  me_.busy.compare_exchange_strong(mine, mark_ | kResting);
  const Woken woken = park_on(event, prepared, deadline);
  uint32_t resting = mark_ | kResting;
  me_.busy.compare_exchange_strong(resting, mark_);
  return woken;
}

Caller::Woken Caller::nap_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  sleep_on(event, prepared, Deadline::earlier(deadline, Deadline::after_ms(kNapMs)));
  return deadline.passed() ? Woken::kOver : Woken::kLookAgain;
}

bool Caller::still_bound() const {
  return runs_here(load_kind(me_)) && me_.incarnation.load() == incarnation_;
}

int Caller::check_peer(int endpoint, uint32_t& slot) const {
  slot = region_.slot_of(endpoint);
  if (slot >= region_.slots()) return EDVSENDPOINT;
  if (slot == slot_) return EDVSBADDEST;
  const Descriptor& peer = region_.at(slot);
  if (is_gone(load_kind(peer))) return EDVSDSTDIED;
  if (region_.names(endpoint, slot)) return OK;
  return is_gone(load_kind(peer)) ? EDVSDSTDIED : EDVSENDPOINT;
}

int Caller::check_destination(int endpoint, uint32_t& slot) const {
  if (endpoint == HARDWARE) return EDVSBADDEST;
  if (int rc = check_peer(endpoint, slot); rc != OK) return rc;
  if (!may_send(me_, slot)) return EDVSTRAPDENIED;
  const bool far = is_elsewhere(load_kind(region_.at(slot)));
  return far && is_standby(region_, slot_) ? EDVSREPLPROC : OK;
}

// ---- sending ----------------------------------------------------------------------------------

int Caller::send(int dst, message& m, Deadline deadline) {
  uint32_t peer = 0;
  if (int rc = check_destination(dst, peer); rc != OK) return rc;
  const Descriptor& receiver = region_.at(peer);
  m.m_source = me_.endpoint.load();
  // To a client whose request was taken, it is the answer: that is never posted, since the client
  // looks at no senders.
  if (awaits_me(receiver)) {
    if (int rc = answer(dst, peer, OpKind::kReply, m, deadline); rc != EDVSPROCSTS) return rc;
  }
  const TxWord theirs = load_tx(receiver);
  if (theirs.phase == TxPhase::kPosted && load_tx_kind(receiver) == OpKind::kSendRec &&
      region_.slot_of(receiver.tx_peer.load()) == slot_) {
    return EDVSLOCKED;
  }
  return transact(OpKind::kSend, dst, peer, m, deadline);
}

int Caller::sendrec(int dst, message& m, Deadline deadline) {
  uint32_t peer = 0;
  if (int rc = check_destination(dst, peer); rc != OK) return rc;
  if (deadline.passed()) return over(deadline);
  for (;;) {
    OpKind kind = OpKind::kNone;
    if (int rc = ask(dst, peer, m, deadline, kind); rc != OK || kind != OpKind::kRelay) return rc;
    // Handed on: whom it was given to is asked instead, within the same deadline.
    dst = m.m_source;
    if (int rc = check_peer(dst, peer); rc != OK) return rc == EDVSDSTDIED ? EDVSSRCDIED : rc;
  }
}

int Caller::ask(int dst, uint32_t peer, message& m, Deadline deadline, OpKind& answer_kind) {
  m.m_source = me_.endpoint.load();
  partner_ = peer;
  const uint64_t number = load_tx(me_).number + 1;
  if (!open_rx(RxMode::kAnswer, peer)) return EDVSSHUTDOWN;
  prepare(OpKind::kSendRec, dst, m);
  if (try_push(region_, slot_, dst, OpKind::kSendRec, m, number)) {
    me_.local_sent.fetch_add(1, kUnordered);
  } else {
    post(number, dst);
  }
  return await_answer(number, peer, m, deadline, answer_kind);
}

int Caller::transact(OpKind kind, int dst, uint32_t peer, const message& m, Deadline deadline) {
  partner_ = peer;
  const uint64_t number = load_tx(me_).number + 1;
  prepare(kind, dst, m);
  if (kind == OpKind::kSend && try_push(region_, slot_, dst, kind, m, number)) {
    me_.local_sent.fetch_add(1, kUnordered);
    return OK;
  }
  if (deadline.passed()) return over(deadline);
  post(number, dst);
  return await_done(number, peer, deadline);
}

void Caller::prepare(OpKind kind, int dst, const message& m) {
  me_.tx_message.store(m);
  me_.tx_kind.store(static_cast<uint32_t>(kind));
  me_.tx_peer.store(dst);
}

// Posts the prepared operation and makes it known to whoever carries it on. The order matters: it
// is posted BEFORE the peer's place is read, and dvsd changes the place BEFORE it looks for posted
// operations, so one of the two sees the other.
void Caller::post(uint64_t number, int dst) {
  me_.tx.store(TxWord{TxPhase::kPosted, 0, number}.pack());
  const uint32_t peer = region_.slot_of(dst);
  const Kind kind = load_kind(region_.at(peer));
  if (is_gone(kind) || !region_.names(dst, peer)) {
    finish(region_, slot_, number, EDVSDSTDIED);
  } else if (is_elsewhere(kind)) {
    me_.remote_sent.fetch_add(1, kUnordered);
    region_.ring(slot_);
  } else {
    me_.local_sent.fetch_add(1, kUnordered);
    announce(region_, slot_, peer);
  }
}

bool Caller::is_done(uint64_t number, int& rc) const {
  const TxWord tx = load_tx(me_);
  if (tx.number != number || tx.phase != TxPhase::kDone) return false;
  rc = tx.rc;
  return true;
}

// The operation has a result, as is_done() said: the slot is free for the next one. (It is not read
// again: the endpoint may have been taken away meanwhile, and its operation with it.)
int Caller::settle(uint64_t number, int rc) {
  swap_tx(me_, TxWord{TxPhase::kDone, rc, number}, TxWord{TxPhase::kIdle, 0, number});
  return rc;
}

int Caller::await_done(uint64_t number, uint32_t peer, Deadline deadline) {
  for (;;) {
    const uint32_t prepared = event_prepare(me_.event);
    int rc = OK;
    if (is_done(number, rc)) return settle(number, rc);
    if (!still_bound()) return EDVSSHUTDOWN;
    if (sleep_on(me_.event, prepared, deadline) == Woken::kOver) return cancel(number, peer);
  }
}

int Caller::await_answer(uint64_t number, uint32_t peer, message& m, Deadline deadline,
                         OpKind& kind) {
  for (;;) {
    const uint32_t prepared = event_prepare(me_.event);
    const RxWord rx = load_rx(me_);
    int rc = OK;
    if (rx.phase == RxPhase::kFull) {
      if (!take_rx(rx, m, kind)) return EDVSSHUTDOWN;
      await_copies();
      for (TxWord tx = load_tx(me_); tx.number == number; tx = load_tx(me_)) {
        if (swap_tx(me_, tx, TxWord{TxPhase::kIdle, 0, number})) break;
      }
      return OK;
    }
    if (is_done(number, rc) && close_rx()) return await_copies(), settle(number, rc);
    if (!still_bound()) return await_copiers(), EDVSSHUTDOWN;
    if (sleep_on(me_.event, prepared, deadline) != Woken::kOver) continue;
    if (close_rx()) return await_copies(), cancel(number, peer);
    sched_yield();  // an answer is being written
  }
}

// Takes back an operation whose deadline has passed. Within this region the compare-and-swap
// decides. If the peer is elsewhere, its node is asked (dvsd carries the question): the result is
// what really happened, as long as that node answers within kSettleMs. The peer may arrive here
// meanwhile: what it had taken elsewhere is known in this descriptor before it counts as here.
int Caller::cancel(uint64_t number, uint32_t peer) {
  TxWord tx = load_tx(me_);
  const TxWord cancelled{TxPhase::kCancel, 0, number};
  while (is_outstanding(tx) && !swap_tx(me_, tx, cancelled)) tx = load_tx(me_);
  const bool carried = load_tx_kind(me_) == OpKind::kVcopy;  // by dvsd, wherever the peer is
  const Deadline limit = Deadline::after_ms(kSettleMs);
  region_.ring(slot_);
  for (bool over = false;;) {
    const uint32_t prepared = event_prepare(me_.event);
    int rc = OK;
    if (is_done(number, rc)) return settle(number, rc);
    if (!still_bound()) return EDVSSHUTDOWN;
    const bool decided_here = !carried && !is_decided_elsewhere(region_, peer);
    if (decided_here || over) {
      if (swap_tx(me_, cancelled, TxWord{TxPhase::kIdle, 0, number})) return EDVSTIMEDOUT;
      continue;
    }
    over = sleep_on(me_.event, prepared, limit) == Woken::kOver;
  }
}

int Caller::reply(int dst, message& m, Deadline deadline) {
  uint32_t peer = 0;
  if (int rc = check_destination(dst, peer); rc != OK) return rc;
  m.m_source = me_.endpoint.load();
  return answer(dst, peer, OpKind::kReply, m, deadline);
}

// The client is told to ask again, elsewhere: so what it asks there is its own operation, with all
// that this means for its deadline, deaths and migrations.
int Caller::relay(int dst, const message& m, Deadline deadline) {
  uint32_t client = 0;
  uint32_t peer = 0;
  if (int rc = check_peer(m.m_source, client); rc != OK) return rc;
  if (int rc = check_destination(dst, peer); rc != OK) return rc;
  if (peer == client) return EDVSBADDEST;
  message redirect = m;
  redirect.m_source = region_.at(peer).endpoint.load();
  return answer(m.m_source, client, OpKind::kRelay, redirect, deadline);
}

// Whether this process has taken the client's request and not answered it.
bool Caller::awaits_me(const Descriptor& client) const {
  return load_tx(client).phase == TxPhase::kTaken && load_tx_kind(client) == OpKind::kSendRec &&
         region_.slot_of(client.tx_peer.load()) == slot_;
}

int Caller::answer(int dst, uint32_t peer, OpKind kind, const message& m, Deadline deadline) {
  Descriptor& client = region_.at(peer);
  for (;;) {
    const uint32_t prepared = event_prepare(client.event);
    if (try_push(region_, slot_, dst, kind, m, 0)) {
      me_.local_sent.fetch_add(1, kUnordered);
      me_.partner.store(peer + 1, kUnordered);
      return OK;
    }
    if (!region_.names(dst, peer)) return EDVSDSTDIED;
    if (!awaits_me(client)) return EDVSPROCSTS;
    if (!may_receive(client, slot_)) return EDVSTRAPDENIED;
    const RxPhase phase = load_rx(client).phase;
    if (phase == RxPhase::kWaiting) continue;  // its gate has opened just now
    if (phase != RxPhase::kParked && !is_migrating(client)) return EDVSPROCSTS;
    // The client is being migrated: its answer waits until it is known where it runs.
    if (nap_on(client.event, prepared, deadline) == Woken::kOver) return over(deadline);
    if (!still_bound()) return EDVSSHUTDOWN;
  }
}

int Caller::notify(int source_number, int dst, long value, Deadline deadline) {
  if (source_number != SELF && region_.slot_of(source_number) != slot_) return EDVSPERM;
  uint32_t peer = 0;
  if (int rc = check_destination(dst, peer); rc != OK) return rc;
  me_.notify_value.store(value);
  message m = notification_from(slot_);
  if (touch(peer, peer)) {
    if (!region_.names(dst, peer)) return untouch(), EDVSDSTDIED;
    if (!may_receive(region_.at(peer), slot_)) return untouch(), EDVSTRAPDENIED;
    // It has a number like any other operation: of two values, that of the higher one is the later.
    me_.tx.store(TxWord{TxPhase::kIdle, 0, load_tx(me_).number + 1}.pack());
    // One that waits has it at once, so that the next one does not merge with it.
    const bool taken = try_push(region_, slot_, dst, OpKind::kNotify, m, 0);
    if (!taken) region_.notifies(peer).set(slot_);
    untouch();
    if (!taken) event_signal(region_.at(peer).event);
    me_.local_sent.fetch_add(1, kUnordered);
    return OK;
  }
  return transact(OpKind::kNotify, dst, peer, m, deadline);
}

// ---- receiving --------------------------------------------------------------------------------

// Not before a filler is out that was left behind when another process had the endpoint.
bool Caller::open_rx(RxMode mode, uint32_t filter) {
  RxWord closed = load_rx(me_);
  while (closed.phase == RxPhase::kAbandoned) {
    sched_yield();
    closed = load_rx(me_);
  }
  if (!still_bound()) return false;
  RxWord rx = closed;
  rx.phase = RxPhase::kWaiting;
  rx.mode = mode;
  rx.filter = static_cast<uint16_t>(filter);
  rx.filler = 0;
  ++rx.tag;
  return swap_rx(me_, closed, rx);
}

bool Caller::close_rx() {
  const RxWord rx = load_rx(me_);
  if (rx.phase == RxPhase::kIdle) return true;
  return rx.phase == RxPhase::kWaiting && swap_rx(me_, rx, rx.with(RxPhase::kIdle));
}

// Takes the pushed message. False: the endpoint was unbound meanwhile, what is in `m` is nothing.
bool Caller::take_rx(const RxWord& full, message& m, OpKind& kind) {
  const message pushed = me_.rx_message.load();
  kind = static_cast<OpKind>(me_.rx_kind.load(kPublished));
  if (!swap_rx(me_, full, full.with(RxPhase::kIdle))) return false;
  m = pushed;
  return true;
}

int Caller::receive(int src, message& m, Deadline deadline, RxMode mode) {
  uint32_t filter = kAnySlot;
  if (src != ANY) {
    if (int rc = check_peer(src, filter); rc != OK) return rc == EDVSDSTDIED ? EDVSSRCDIED : rc;
  }
  partner_ = filter == kAnySlot ? me_.partner.load(kUnordered) - 1 : filter;
  for (;;) {
    if (look(mode, filter, m)) return OK;
    if (filter == kAnySlot && (me_.flags.fetch_and(~kWokenUp) & kWokenUp) != 0) return EDVSWOKENUP;
    if (filter != kAnySlot && is_gone(load_kind(region_.at(filter)))) return EDVSSRCDIED;
    const uint32_t prepared = event_prepare(me_.event);
    if (!open_rx(mode, filter)) return EDVSSHUTDOWN;  // who unbinds it later signals it
    // Who posted before rx was open does not know that we wait: look once more before sleeping.
    Woken woken = deadline.passed() ? Woken::kOver : Woken::kLookAgain;
    if (woken != Woken::kOver && !something_for(mode, filter)) {
      woken = rest_on(me_.event, prepared, deadline);
    }
    if (!still_bound()) return await_copiers(), EDVSSHUTDOWN;
    const int taken = close_rx_or_take(m);
    await_copies();
    if (taken != EDVSNOMSG) return taken;
    if (woken == Woken::kOver) {
      if (look(mode, filter, m)) return OK;
      return over(deadline);
    }
  }
}

// OK: a message had been pushed; it is in `m`. EDVSNOMSG: none had. A filler that is still writing
// needs nanoseconds, unless it lost its processor; if it dies, dvsd reopens the wait.
int Caller::close_rx_or_take(message& m) {
  OpKind kind = OpKind::kNone;
  while (!close_rx()) {
    const RxWord rx = load_rx(me_);
    if (rx.phase == RxPhase::kFull) return take_rx(rx, m, kind) ? OK : EDVSSHUTDOWN;
    sched_yield();
  }
  return EDVSNOMSG;
}

// Whether there is a reason not to sleep: something look() would find, or a stale bit to clear, or
// a wake-up, or nobody to wait for. Asked when rx is open: who comes later sees that and signals.
bool Caller::something_for(RxMode mode, uint32_t filter) const {
  const SlotSet senders = region_.senders(slot_);
  const SlotSet notifies = region_.notifies(slot_);
  if (filter != kAnySlot) {
    return senders.test(filter) || (mode == RxMode::kAny && notifies.test(filter)) ||
           is_gone(load_kind(region_.at(filter)));
  }
  return senders.find(0) < region_.slots() || (me_.flags.load() & kWokenUp) != 0 ||
         (mode == RxMode::kAny && notifies.find(0) < region_.slots());
}

bool Caller::look(RxMode mode, uint32_t filter, message& m) {
  if (mode == RxMode::kAny && look_at_notifications(filter, m)) return true;
  if (look_at_senders(mode, filter, m)) return true;
  // A posted notification becomes a bit when it is pulled, and one may have been given meanwhile.
  return mode == RxMode::kAny && look_at_notifications(filter, m);
}

bool Caller::look_at_notifications(uint32_t filter, message& m) {
  SlotSet set = region_.notifies(slot_);
  const uint32_t source = filter == kAnySlot ? set.find(0) : filter;
  if (source >= region_.slots() || !set.test(source)) return false;
  set.clear(source);
  m = notification_from(source);
  return true;
}

message Caller::notification_from(uint32_t source) const {
  const Descriptor& sender = region_.at(source);
  message m{};
  m.m_source = region_.number_of(source) == HARDWARE ? HARDWARE : sender.endpoint.load();
  m.m_type = NOTIFY_FROM(region_.number_of(source));
  m.m9_l1 = sender.notify_value.load();
  m.m9_t1 = wall_time();
  return m;
}

// Senders in turn: the search goes on behind the one taken last, so nobody is passed over twice.
bool Caller::look_at_senders(RxMode mode, uint32_t filter, message& m) {
  SlotSet set = region_.senders(slot_);
  uint32_t source = filter == kAnySlot ? set.find(me_.next_sender.load()) : filter;
  while (source < region_.slots() && set.test(source)) {
    Taken taken;
    const bool pulled = try_pull(region_, slot_, source, mode, taken);
    if (pulled && taken.kind != OpKind::kNotify) {
      me_.next_sender.store(source + 1);
      m = taken.m;
      return true;
    }
    // (A notification, to be taken first, is found by whoever takes any.)
    if (filter != kAnySlot || (pulled && mode == RxMode::kAny)) return false;
    source = set.find(source + 1);
  }
  return false;
}

}  // namespace dvs::dvk
