// What an application's thread does with its endpoint: the calls of dvk.h on one descriptor.
#pragma once

#include "dvk/region.h"
#include "dvk/rendezvous.h"

namespace dvs::dvk {

// Who calls: its thread id, and that of its process's main thread, whose endpoint its threads
// share.
struct Thread {
  uint32_t tid = 0;
  uint32_t main = 0;
};

// One call in progress. Constructing it claims the endpoint for the calling thread and passes the
// migration gate; the destructor leaves. Between the gate and a wait the thread is "inside": a
// migration of its process waits until it is not (microseconds), so that nothing half done is
// ever frozen.
class Caller {
 public:
  // `slot`: where an endpoint of `self` was found. `deadline`: the call's; a gate that is closed
  // for longer than a migration takes is waited for until then.
  Caller(const Region& region, uint32_t slot, Thread self, Deadline deadline = Deadline::never());
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  // OK, or why no call can be made: EDVSBUSY, EDVSNOTBIND (also when it was just unbound),
  // EDVSAGAIN and EDVSTIMEDOUT (the gate).
  int status() const { return status_; }
  // A signal's handler, while its thread waits in a receive: it must not receive (the wait is the
  // other call's).
  bool nested() const { return nested_; }

  int send(int dst, message& m, Deadline deadline);
  int sendrec(int dst, message& m, Deadline deadline);
  int receive(int src, message& m, Deadline deadline, RxMode mode);
  int reply(int dst, message& m, Deadline deadline);
  int relay(int dst, const message& m, Deadline deadline);
  int notify(int source_number, int dst, long value, Deadline deadline);
  int vcopy(int src, const void* from, int dst, void* to, size_t bytes, Deadline deadline);

 private:
  struct Party;

  bool is_owner(Thread self) const;
  bool claim_endpoint();
  bool take_over(Atomic<uint32_t>& word, uint32_t found, uint32_t mine);
  bool enter(Deadline deadline);
  void leave();
  // Waits a little inside, then sleeps outside and comes back through the gate. Looks again in any
  // case; kOver at the deadline.
  enum class Woken { kLookAgain, kOver };
  Woken sleep_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline);
  Near near();
  Woken park_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline);
  Woken rest_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline);
  // The same on a peer's event: not for long at a time. If this process is moved meanwhile, the
  // peer's count at the target has nothing to do with what was prepared.
  Woken nap_on(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline);
  bool still_bound() const;

  // EDVSAGAIN for a call that was not to wait.
  static int over(Deadline deadline) { return deadline.when_ns() == 0 ? EDVSAGAIN : EDVSTIMEDOUT; }
  int check_peer(int endpoint, uint32_t& slot) const;
  int check_destination(int endpoint, uint32_t& slot) const;
  int ask(int dst, uint32_t peer, message& m, Deadline deadline, OpKind& answer_kind);
  int transact(OpKind kind, int dst, uint32_t peer, const message& m, Deadline deadline);
  void prepare(OpKind kind, int dst, const message& m);
  void post(uint64_t number, int dst);
  int await_done(uint64_t number, uint32_t peer, Deadline deadline);
  int await_answer(uint64_t number, uint32_t peer, message& m, Deadline deadline, OpKind& kind);
  bool awaits_me(const Descriptor& client) const;
  int answer(int dst, uint32_t peer, OpKind kind, const message& m, Deadline deadline);
  int cancel(uint64_t number, uint32_t peer);
  int settle(uint64_t number, int rc);
  bool is_done(uint64_t number, int& rc) const;

  bool open_rx(RxMode mode, uint32_t filter);  // false: it is unbound
  bool close_rx();                             // false: a message is coming or has come
  int close_rx_or_take(message& m);
  bool something_for(RxMode mode, uint32_t filter) const;
  bool take_rx(const RxWord& full, message& m, OpKind& kind);
  bool look(RxMode mode, uint32_t filter, message& m);
  bool look_at_notifications(uint32_t filter, message& m);
  message notification_from(uint32_t source) const;
  bool look_at_senders(RxMode mode, uint32_t filter, message& m);

  void await_copies();
  void await_copiers();
  bool touch(uint32_t first, uint32_t second);
  void untouch();
  int claim(const Party& source, const Party& target) const;
  int party_of(int endpoint, Party& party) const;
  int copy_here(const Party& source, const Party& target, size_t bytes);
  int vcopy_elsewhere(const Party& source, const Party& target, size_t bytes, Deadline deadline);

  const Region& region_;
  const uint32_t slot_;
  Descriptor& me_;
  const uint32_t tid_;
  const uint64_t incarnation_;
  const uint32_t mark_;          // of this thread in `busy`
  uint32_t partner_ = kAnySlot;  // who is expected to end the wait
  int status_ = OK;
  bool claimed_ = true;
  bool nested_ = false;
  bool was_inside_ = false;
};

}  // namespace dvs::dvk
