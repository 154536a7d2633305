#include "torture/worker.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>

namespace dvs::torture {
namespace {

thread_local Worker* current = nullptr;

// One thread of this process has used up its messages: then all of them end. Otherwise the process
// would live on with an endpoint that nobody serves.
std::atomic<bool> process_ends{false};

constexpr int kDcid = 0;
constexpr long kLastWord = 1L << 40;        // value of a notification of the last phase
constexpr int kValueShift = 48;             // above: who notifies
constexpr int64_t kPatienceNs = 1'000'000;  // a call without limit that must end nevertheless

// Memory that others copy from and to. All workers are forks of one process, so it is at the same
// address in each.
constexpr size_t kWords = 1024;
uint64_t pattern[kActors][kWords];
uint64_t inbox[kActors][kActors][kWords];  // of an actor, by who wrote it

// When a notification began and between whom, for Notified.
constexpr uint64_t kLifeMask = 0x3fff;
uint64_t pack_notified(int64_t began_ns, uint32_t from, uint32_t to) {
  return static_cast<uint64_t>(began_ns) >> 6 << 28 | (from & kLifeMask) << 14 | (to & kLifeMask);
}

}  // namespace

int64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

uint64_t Dice::next() {
  uint64_t x = state_ += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

Worker::Worker(Ledger& ledger, int actor, uint32_t life, bool mortal)
    : ledger_(ledger),
      actor_(actor),
      life_(life),
      role_(kCast[actor].role),
      mortal_(mortal),
      dice_{Dice(ledger.seed * 1'000'003 + life), Dice(ledger.seed * 7'000'003 + life)} {
  for (size_t i = 0; i < kWords; ++i) pattern[actor][i] = uint64_t{life} << 32 | i;
}

// ---- the signal handler -------------------------------------------------------------------------

void Worker::arm(uint32_t microseconds) {
  const itimerval when{{0, 0}, {0, static_cast<suseconds_t>(microseconds)}};
  ::setitimer(ITIMER_REAL, &when, nullptr);
}

void Worker::start_timer() {
  struct sigaction action {};
  action.sa_handler = on_alarm;
  ::sigaction(SIGALRM, &action, nullptr);
  arm(500);
}

void Worker::on_alarm(int) {
  const int kept = errno;
  if (current == nullptr) {
    arm(500);
  } else if (!current->last_words_) {
    current->in_handler();
    arm(100 + current->dice_[kHandler].below(1900));
  }
  errno = kept;
}

void Worker::in_handler() {
  ledger_.totals.signals.fetch_add(1, std::memory_order_relaxed);
  maybe_end_thread();
  small_step(kHandler, dice_[kHandler].below(100));
}

// ---- a life -------------------------------------------------------------------------------------

// As a program that was started to be bound by another.
void Worker::await_birth() {
  const int bound = dvk_wait4bind_T(TIMEOUT_FOREVER);
  const int mine = ledger_.life(life_).endpoint.load();
  // (A second thread finds its process's first one's, when that comes earlier.)
  if (!mortal_ && bound != mine) ledger_.complain("wait4bind says " + std::to_string(bound));
  while (self().life.load() != life_) ::usleep(50);
  endpoint_ = self().endpoint.load();
}

void Worker::live() {
  await_birth();
  current = this;
  self().began.store(life_);
  while (!is_over() && next_[kOwn] < kOwnMessages && ledger_.phase.load() == Phase::kRun) step();
  last_words_ = true;
  if (!over_ && next_[kOwn] >= kOwnMessages) end_process();
  if (!is_over()) drain();
  current = nullptr;
}

bool Worker::is_over() const { return over_ || process_ends.load(); }

void Worker::end_process() {
  process_ends.store(true);
  for (int other = 0; other < kActors; ++other) {
    if (other == actor_ || kCast[other].process != kCast[actor_].process) continue;
    (void)dvk_wakeup(kDcid, ledger_.actors[other].endpoint.load());
  }
}

void Worker::step() {
  const uint32_t roll = dice_[kOwn].below(100);
  switch (role_) {
    case Role::kServer:
      return step_server(roll);
    case Role::kClient:
      return step_client(roll);
    case Role::kWild:
      return step_wild(roll);
  }
}

// Mostly there for others, sometimes for as long as it takes. Waits for nobody else for long.
void Worker::step_server(uint32_t roll) {
  if (roll < 80) {
    receive(roll < 40 ? TIMEOUT_FOREVER : short_time(), roll % 4 == 0);
  } else if (roll < 84) {
    send(kOwn, pick(kOwn, false), short_time());
  } else if (roll < 87) {
    receive_from(pick(kOwn, false), short_time());
  } else {
    small_step(kOwn, dice_[kOwn].below(100));
  }
}

void Worker::step_client(uint32_t roll) {
  const long timeout = dice_[kOwn].percent(70) ? TIMEOUT_FOREVER : short_time();
  if (roll < 60) {
    ask(pick(kOwn, true), timeout);
  } else if (roll < 75) {
    send(kOwn, pick(kOwn, true), timeout);
  } else if (roll < 85) {
    receive(short_time(), roll % 4 == 0);
  } else {
    small_step(kOwn, dice_[kOwn].below(100));
  }
}

void Worker::step_wild(uint32_t roll) {
  if (roll < 25) {
    ask(pick(kOwn, false), short_time());
  } else if (roll < 45) {
    send(kOwn, pick(kOwn, false), short_time());
  } else if (roll < 70) {
    receive(short_time(), roll % 4 == 0);
  } else if (roll < 80) {
    receive_from(pick(kOwn, false), short_time());
  } else {
    small_step(kOwn, dice_[kOwn].below(100));
  }
}

// What waits for nobody.
void Worker::small_step(Depth depth, uint32_t roll) {
  if (roll < 40) {
    notify(depth, pick(depth, false), roll % 2 == 0);
  } else if (roll < 60) {
    send(depth, pick(depth, false), TIMEOUT_NOWAIT);
  } else if (roll < 75) {
    copy(depth);
  } else if (roll < 85) {
    wake(depth);
  } else if (roll < 92) {
    look(depth);
  } else {
    await_bind(depth);
  }
}

// Starts nothing any more, serves until nobody does; then tells everybody so, and hears them all.
void Worker::drain() {
  self().quiet.store(life_);
  while (!is_over() && ledger_.phase.load() == Phase::kDrain) receive(2, false);
  if (is_over()) return;
  for (int other = 0; other < kActors; ++other) {
    if (other == actor_) continue;
    const Actor& actor = ledger_.actors[other];
    notify(kOwn, {other, actor.endpoint.load(), actor.life.load()}, true);
  }
  while (!over_ && ledger_.phase.load() == Phase::kExchange) {
    receive(2, false);
    if (exchange()) self().heard.store(life_);
  }
}

bool Worker::exchange() {
  for (int other = 0; other < kActors; ++other) {
    if (other != actor_ && lives_heard_[other] != ledger_.actors[other].life.load()) return false;
  }
  return true;
}

// ---- calls --------------------------------------------------------------------------------------

// Often by the number that stands for whoever is there.
Worker::Target Worker::pick(Depth depth, bool server) {
  Target target;
  Dice& dice = dice_[depth];
  do {
    target.actor = static_cast<int>(dice.below(kActors));
  } while (target.actor == actor_ || (server && kCast[target.actor].role != Role::kServer));
  const Actor& actor = ledger_.actors[target.actor];
  target.life = actor.life.load();
  target.endpoint = actor.endpoint.load();
  if (target.endpoint == 0 || dice.percent(25)) target.endpoint = kCast[target.actor].number;
  return target;
}

long Worker::short_time() {
  return dice_[kOwn].percent(40) ? TIMEOUT_NOWAIT : static_cast<long>(dice_[kOwn].below(4));
}

// The harness watches that the call does not last longer than it may.
template <typename Call>
int Worker::timed(Depth depth, const char* name, long timeout_ms, bool may_wait, Call call) {
  const int64_t limit = timeout_ms < 0 ? kPatienceNs : timeout_ms * 1'000'000;
  self().call[depth].store(name);
  if (timeout_ms >= 0 || !may_wait) self().limit_ns[depth].store(now_ns() + limit);
  const int rc = call();
  self().limit_ns[depth].store(0);
  ledger_.totals.calls.fetch_add(1, std::memory_order_relaxed);
  if (depth == kHandler) {
    auto& count = rc == EDVSBUSY ? ledger_.totals.busy_in_handler : ledger_.totals.done_in_handler;
    count.fetch_add(1, std::memory_order_relaxed);
  }
  if (rc == EDVSNOTBIND || rc == EDVSSHUTDOWN) {
    // Only when the harness has taken the endpoint away.
    if (self().life.load() == life_) {
      ledger_.complain(std::string(name) + " says " + std::to_string(rc) + " to who is bound");
    }
    over_ = true;
  }
  return rc;
}

void Worker::expect(Depth depth, const char* call, int rc, std::initializer_list<int> fine) {
  if (depth == kHandler && rc == EDVSBUSY) return;
  if (rc == OK || over_ || std::find(fine.begin(), fine.end(), rc) != fine.end()) return;
  ledger_.complain(std::string(call) + " says " + std::to_string(rc));
}

int Worker::submit(Depth depth, Sort sort, const Target& target, uint64_t answers, message& m,
                   const char* name, long timeout_ms, int (*call)(int, message*, long)) {
  const uint32_t end = depth == kOwn ? kOwnMessages : kMessages;
  if (next_[depth] >= end) return EDVSAGAIN;
  const uint32_t number = next_[depth]++;
  Record& record = ledger_.life(life_).records[number];
  record.to.store(target.endpoint);
  record.rc.store(kUnderWay);
  record.sort.store(sort);
  m = make_message(life_, number, sort, endpoint_, answers);
  const int rc =
      timed(depth, name, timeout_ms, false, [&] { return call(target.endpoint, &m, timeout_ms); });
  const bool same = ledger_.actors[target.actor].life.load() == target.life;
  record.to_life.store(same ? target.life : kNobody);
  ledger_.over(record, life_, number, rc);
  return rc;
}

void Worker::send(Depth depth, const Target& target, long timeout_ms) {
  message m;
  const int rc = submit(depth, Sort::kMessage, target, 0, m, "send", timeout_ms, dvk_send_T);
  expect(depth, "send", rc, {EDVSTIMEDOUT, EDVSAGAIN, EDVSDSTDIED, EDVSLOCKED, EDVSENDPOINT});
}

void Worker::ask(const Target& target, long timeout_ms) {
  const uint64_t request = identity_of(life_, next_[kOwn]);
  message m;
  const int rc = submit(kOwn, Sort::kRequest, target, 0, m, "sendrec", timeout_ms, dvk_sendrec_T);
  expect(kOwn, "sendrec", rc, {EDVSTIMEDOUT, EDVSAGAIN, EDVSDSTDIED, EDVSSRCDIED, EDVSENDPOINT});
  if (rc != OK) return;
  ledger_.totals.requests.fetch_add(1, std::memory_order_relaxed);
  took(m);
  Parsed parsed;
  parse(m, parsed);
  if (_ENDPOINT_P(m.m_source) != _ENDPOINT_P(target.endpoint)) {
    ledger_.complain("an answer from somebody else");
  }
  if (parsed.sort == Sort::kRequest || (parsed.answers != 0 && parsed.answers != request)) {
    ledger_.complain("the answer to another request");
  }
}

void Worker::receive(long timeout_ms, bool requests_only) {
  for (int depth : {kOwn, kHandler}) {
    for (int other = 0; other < kActors; ++other) {
      known_notified_[depth][other] = ledger_.notified[depth][other][actor_].last.load();
    }
  }
  message m;
  const char* name = requests_only ? "rcvrqst" : "receive";
  const int rc = timed(kOwn, name, timeout_ms, true, [&] {
    return requests_only ? dvk_rcvrqst_T(&m, timeout_ms) : dvk_receive_T(ANY, &m, timeout_ms);
  });
  expect(kOwn, name, rc, {EDVSTIMEDOUT, EDVSAGAIN, EDVSWOKENUP});
  if ((rc == EDVSTIMEDOUT || rc == EDVSAGAIN) && !requests_only) expect_notified();
  if (rc != OK) return;
  const bool is_notice = (m.m_type & NOTIFY_MESSAGE) != 0;
  if (is_notice && requests_only) ledger_.complain("rcvrqst got a notification");
  if (is_notice) return noticed(m);
  took(m);
  if (m.m_type == static_cast<int>(Sort::kRequest)) answer(m);
}

void Worker::receive_from(const Target& target, long timeout_ms) {
  message m;
  const int rc = timed(kOwn, "receive from one", timeout_ms, false,
                       [&] { return dvk_receive_T(target.endpoint, &m, timeout_ms); });
  expect(kOwn, "receive from one", rc, {EDVSTIMEDOUT, EDVSAGAIN, EDVSSRCDIED, EDVSENDPOINT});
  if (rc != OK) return;
  if (_ENDPOINT_P(m.m_source) != _ENDPOINT_P(target.endpoint)) {
    ledger_.complain("received from somebody else");
  }
  if ((m.m_type & NOTIFY_MESSAGE) != 0) return noticed(m);
  took(m);
  if (m.m_type == static_cast<int>(Sort::kRequest)) answer(m);
}

// In the order in which each thread, and each handler, sent them.
void Worker::took(const message& m) {
  ledger_.arrived(m, endpoint_);
  Parsed parsed;
  const int sender = actor_of(m.m_source);
  if (!parse(m, parsed) || sender < 0) return;
  uint64_t& last = last_taken_[sender][parsed.number < kOwnMessages ? 0 : 1];
  const uint64_t identity = identity_of(parsed.life, parsed.number);
  if (identity <= last) ledger_.complain("a message came after a later one of its sender");
  last = identity;
}

// A server always answers. Often it copies something of the client's first, who waits.
void Worker::answer(const message& request) {
  const int client = actor_of(request.m_source);
  if (client < 0) return;
  if (role_ == Role::kWild && dice_[kOwn].percent(20)) return;
  const Target target{client, request.m_source, static_cast<uint32_t>(request.m1_i1)};
  if (dice_[kOwn].percent(30)) copy_with(target);
  const uint64_t answers = identity_of(target.life, static_cast<uint32_t>(request.m1_i2));
  message m;
  if (dice_[kOwn].percent(80)) {
    const int rc =
        submit(kOwn, Sort::kReply, target, answers, m, "reply", TIMEOUT_FOREVER, dvk_reply_T);
    expect(kOwn, "reply", rc, {EDVSPROCSTS, EDVSDSTDIED, EDVSENDPOINT, EDVSAGAIN});
    ledger_.totals.replies.fetch_add(rc == OK ? 1 : 0, std::memory_order_relaxed);
  } else {
    const int rc =
        submit(kOwn, Sort::kMessage, target, answers, m, "send an answer", 1, dvk_send_T);
    expect(kOwn, "send an answer", rc,
           {EDVSTIMEDOUT, EDVSAGAIN, EDVSDSTDIED, EDVSLOCKED, EDVSENDPOINT});
  }
}

// ---- notifications ------------------------------------------------------------------------------

void Worker::notify(Depth depth, const Target& target, bool with_value) {
  long value = 0;
  if (with_value) {
    value = (actor_ + 1L) << kValueShift | ++notifications_[depth];
    if (ledger_.phase.load() == Phase::kExchange) value |= kLastWord;
  }
  const int64_t began = now_ns() - ledger_.began_ns;
  ledger_.notify_begun[actor_][target.actor].fetch_add(1);
  const int rc = timed(depth, "notify", TIMEOUT_FOREVER, false, [&] {
    return with_value ? dvk_ntfy_value(SELF, target.endpoint, value) : dvk_notify(target.endpoint);
  });
  expect(depth, "notify", rc, {EDVSDSTDIED, EDVSENDPOINT});
  if (rc != OK) return;
  ledger_.totals.notified.fetch_add(1, std::memory_order_relaxed);
  if (target.life == kNobody) return;  // whoever has been bound meanwhile got it
  ledger_.notified[depth][actor_][target.actor].last.store(
      pack_notified(began, life_, target.life));
}

void Worker::noticed(const message& m) {
  const int source = actor_of(m.m_source);
  const int number = (m.m_type & ~NOTIFY_MESSAGE) - NR_TASKS;
  if (source < 0 || number != kCast[source].number) {
    return ledger_.complain("a notification from nobody");
  }
  if (m.m9_l1 != 0 && m.m9_l1 >> kValueShift != source + 1) {
    ledger_.complain("a notification with another's value");
  }
  const uint64_t seen = ledger_.notify_seen[source][actor_].fetch_add(1) + 1;
  if (seen > ledger_.notify_begun[source][actor_].load()) {
    ledger_.complain("more notifications than were sent");
  }
  last_notice_ns_[source] = now_ns();
  if ((m.m9_l1 & kLastWord) != 0) lives_heard_[source] = ledger_.actors[source].life.load();
  ledger_.totals.notices.fetch_add(1, std::memory_order_relaxed);
}

// Nothing was there to receive: then nobody who still lives had notified us before we asked, other
// than what we have received since.
void Worker::expect_notified() {
  for (int depth : {kOwn, kHandler}) {
    for (int source = 0; source < kActors; ++source) {
      const uint64_t known = known_notified_[depth][source];
      const uint32_t alive = ledger_.actors[source].life.load();
      const uint64_t parties = pack_notified(0, alive, life_);
      if (known == 0 || alive == kNobody || (known & ((1u << 28) - 1)) != parties) continue;
      const int64_t last = std::max<int64_t>(last_notice_ns_[source] - ledger_.began_ns, 0);
      if (static_cast<uint64_t>(last) >> 6 < known >> 28) {
        ledger_.complain("a notification of actor " + std::to_string(source) + ", life " +
                         std::to_string(alive) + (depth == kOwn ? "" : ", by its handler,") +
                         " to life " + std::to_string(life_) + " was lost; the last came " +
                         std::to_string(now_ns() - last_notice_ns_[source]) + " ns ago");
      }
    }
  }
}

// ---- the rest -----------------------------------------------------------------------------------

void Worker::copy(Depth depth) {
  if (depth == kHandler) return look(depth);
  if (dice_[kOwn].percent(30)) return copy_third();
  copy_with(pick(kOwn, false));
}

void Worker::copy_with(const Target& target) {
  const size_t words = 1 + dice_[kOwn].below(kWords);
  const size_t bytes = words * sizeof(uint64_t);
  static thread_local uint64_t got[kWords];
  const bool out = dice_[kOwn].percent(50);
  const bool nowhere = dice_[kOwn].percent(5);
  const int rc = timed(kOwn, "vcopy", TIMEOUT_MOLCALL, false, [&] {
    if (out) {
      void* to = nowhere ? nullptr : inbox[target.actor][actor_];
      return dvk_vcopy(SELF, pattern[actor_], target.endpoint, to, bytes);
    }
    const void* from = nowhere ? nullptr : pattern[target.actor];
    return dvk_vcopy(target.endpoint, from, SELF, got, bytes);
  });
  expect(kOwn, "vcopy", rc, {EDVSPROCSTS, EDVSDSTDIED, EDVSFAULT, EDVSENDPOINT});
  if (rc != OK) return;
  ledger_.totals.copies.fetch_add(1, std::memory_order_relaxed);
  if (nowhere) ledger_.complain("vcopy found memory where none is");
  if (out) return;
  const auto life = static_cast<uint32_t>(got[0] >> 32);
  const bool his = actor_of(ledger_.life(life).endpoint.load()) == target.actor;
  if (!his || ledger_.life(life).id.load() != life) ledger_.complain("vcopy copied from another");
  for (size_t i = 0; i < words; ++i) {
    if (got[i] != (uint64_t{life} << 32 | i)) return ledger_.complain("vcopy copied nonsense");
  }
}

void Worker::copy_third() {
  const Target from = pick(kOwn, false);
  const Target to = pick(kOwn, false);
  const int rc = timed(kOwn, "vcopy between others", TIMEOUT_MOLCALL, false, [&] {
    return dvk_vcopy(from.endpoint, pattern[from.actor], to.endpoint, inbox[to.actor][actor_],
                     sizeof pattern[0]);
  });
  expect(kOwn, "vcopy between others", rc,
         {EDVSPROCSTS, EDVSDSTDIED, EDVSFAULT, EDVSENDPOINT, EDVSPERM});
  ledger_.totals.copies.fetch_add(rc == OK ? 1 : 0, std::memory_order_relaxed);
}

void Worker::wake(Depth depth) {
  const Target target = pick(depth, false);
  const int rc =
      timed(depth, "wakeup", 0, false, [&] { return dvk_wakeup(kDcid, target.endpoint); });
  // (Remote: who is just being bound is a backup for a moment.)
  expect(depth, "wakeup", rc, {EDVSDSTDIED, EDVSENDPOINT, EDVSMIGRATE, EDVSPROCRUN, EDVSRMTPROC});
  ledger_.totals.wakeups.fetch_add(rc == OK ? 1 : 0, std::memory_order_relaxed);
}

void Worker::look(Depth depth) {
  const Target target = pick(depth, false);
  proc_usr_t info;
  const int rc = timed(depth, "getprocinfo", 0, false,
                       [&] { return dvk_getprocinfo(kDcid, target.endpoint, &info); });
  expect(depth, "getprocinfo", rc, {});
  if (rc == OK && info.p_nr != kCast[target.actor].number) ledger_.complain("getprocinfo lies");
  const int mine = timed(depth, "getep", 0, false, [] { return dvk_getep(dvk_gettid()); });
  if (!over_ && mine != endpoint_ && self().life.load() == life_)
    ledger_.complain("getep says " + std::to_string(mine));
}

// Others come and go all the time. Does not need the endpoint, so a handler may wait as well.
void Worker::await_bind(Depth depth) {
  const Target target = pick(depth, false);
  const bool bound = dice_[depth].percent(50);
  const long timeout =
      depth == kHandler ? TIMEOUT_NOWAIT : static_cast<long>(dice_[depth].below(6));
  const char* name = bound ? "wait4bind of another" : "wait4unbind";
  self().call[depth].store(name);
  self().limit_ns[depth].store(now_ns() + timeout * 1'000'000);
  const int rc = dvk_wait4bindep_X(bound ? WAIT_BIND : WAIT_UNBIND, target.endpoint, timeout);
  self().limit_ns[depth].store(0);
  ledger_.totals.calls.fetch_add(1, std::memory_order_relaxed);
  const bool over = rc == (timeout == TIMEOUT_NOWAIT ? EDVSAGAIN : EDVSTIMEDOUT);
  const bool there = bound ? !DVK_IS_ERROR(rc) && actor_of(rc) == target.actor : rc == OK;
  if (!over && !there) ledger_.complain(std::string(name) + " says " + std::to_string(rc));
  ledger_.totals.binds_awaited.fetch_add(there ? 1 : 0, std::memory_order_relaxed);
}

// The bare system call: nothing of libdvk's or libc's notices.
void Worker::maybe_end_thread() {
  if (!mortal_ || ledger_.phase.load() != Phase::kRun || !dice_[kHandler].percent(3)) return;
  ledger_.totals.threads_ended.fetch_add(1);
  ledger_.life(life_).end.store(End::kViolent);
  ::syscall(SYS_exit, 0);
}

}  // namespace dvs::torture
