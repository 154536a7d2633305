#include "torture/harness.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <thread>
#include <utility>

namespace dvs::torture {

using dvk::Descriptor;
using dvk::Kind;
using dvk::RxPhase;
using dvk::TxPhase;

namespace {

constexpr int64_t kOverdueNs = 300 * kMs;
constexpr uint32_t kElsewhere = 1;  // a node

}  // namespace

Harness::Harness(const Options& options, dvk::Region region, Ledger& ledger)
    : options_(options),
      region_(std::move(region)),
      ledger_(ledger),
      ops_(region_, 0, alone_),
      dice_(options.seed) {
  alone_.region = &region_;
  for (int actor = 0; actor < kActors; ++actor) {
    processes_[kCast[actor].process].actors.push_back(actor);
  }
}

Harness::~Harness() {
  for (Process& process : processes_) {
    if (process.pid == 0) continue;
    ::kill(process.pid, SIGKILL);
    ::waitpid(process.pid, nullptr, 0);
  }
}

// ---- lives --------------------------------------------------------------------------------------

void Harness::start(Process& process) {
  process.lives.clear();
  process.thread_gone = false;
  for (int actor : process.actors) {
    const uint32_t life = ++lives_;
    process.lives.push_back(life);
    const int number = kCast[actor].number;
    const bool user = region_.is_user(slot(actor));
    // A server's endpoint is its number; a user's has a generation.
    const int endpoint = user ? _ENDPOINT(1 + static_cast<int>(life % 10'000), number) : number;
    ledger_.open_life(life, endpoint);
    ledger_.actors[actor].tid.store(0);
  }
  process.pid = ::fork();
  if (process.pid == 0) child(process);
  if (process.pid < 0) return ledger_.complain("cannot fork");
  process.state = State::kStarting;
}

void Harness::child(const Process& process) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // for vcopy, where Yama is strict
  const auto live = [&](size_t i) {
    Worker worker(ledger_, process.actors[i], process.lives[i], i > 0);
    ledger_.actors[process.actors[i]].tid.store(dvk_gettid());
    worker.live();
  };
  std::thread other;
  if (process.actors.size() > 1) other = std::thread(live, 1);
  if (process.actors.size() > 1 && process.lives[0] % 2 == 1) {
    // The kernel prefers the first thread; this time the other gets all signals.
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_BLOCK, &alarm, nullptr);
  }
  Worker::start_timer();
  live(0);
  if (other.joinable()) other.join();
  ::_exit(0);
}

void Harness::bind_if_ready(Process& process) {
  for (int actor : process.actors) {
    if (ledger_.actors[actor].tid.load() == 0) return;
  }
  for (size_t i = 0; i < process.actors.size(); ++i) {
    const int actor = process.actors[i];
    const pid_t tid = ledger_.actors[actor].tid.load();
    if (!bind_actor(actor, process.lives[i], process.pid, tid)) return;
  }
  process.state = State::kBound;
}

// False: somebody is still at work with the actor's last life.
bool Harness::bind_actor(int actor, uint32_t life, pid_t pid, pid_t tid) {
  if (ledger_.actors[actor].life.load() == life) return true;
  dvk::Identity identity;
  identity.endpoint = ledger_.life(life).endpoint.load();
  identity.incarnation = life;
  identity.epoch = 1;
  identity.pid = pid;
  identity.tid = tid;
  identity.name = "torture";
  // A user endpoint, too, makes every call: from its first one, since a backup makes none.
  identity.kind = Kind::kBackup;
  if (!dvk::bind(region_, slot(actor), identity)) return false;
  dvk::set_permissions(region_.at(slot(actor)), dvk::Permissions{});
  identity.kind = Kind::kLocal;
  if (!dvk::bind(region_, slot(actor), identity)) return false;
  ops_.on_place_changed(slot(actor));
  ledger_.actors[actor].endpoint.store(identity.endpoint);
  ledger_.actors[actor].life.store(life);
  return true;
}

// Whether this process is between two stores that belong together: it fills another's wait, or
// copies, or is about to tell another of something.
bool Harness::is_at_the_edge(const Process& process) const {
  const uint32_t mine = slot(process.actors[0]);
  if (region_.at(mine).touching[0].load() != 0) return true;
  for (int peer = 0; peer < kActors; ++peer) {
    const dvk::RxWord rx = dvk::load_rx(region_.at(slot(peer)));
    if (rx.phase == RxPhase::kFilling && rx.filler == mine) return true;
  }
  return false;
}

// Such moments last for nanoseconds. So some are sought, instruction by instruction.
void Harness::lead_to_the_edge(const Process& process) {
  if (::ptrace(PTRACE_SEIZE, process.pid, nullptr, nullptr) != 0) return;
  ::ptrace(PTRACE_INTERRUPT, process.pid, nullptr, nullptr);
  const int64_t end = now_ns() + 80 * kMs;
  uint32_t further = dice_.below(30);  // instructions, once it is there
  while (now_ns() < end) {
    int status = 0;
    const pid_t stopped = ::waitpid(process.pid, &status, WNOHANG | __WALL);
    if (stopped < 0 || (stopped > 0 && !WIFSTOPPED(status))) return;
    if (stopped == 0) {
      answer_doorbell();
      ::sched_yield();
      continue;
    }
    if (is_at_the_edge(process) && further-- == 0) {
      ++aimed_;
      return;
    }
    const bool signal = WSTOPSIG(status) == SIGALRM;
    ::ptrace(PTRACE_SINGLESTEP, process.pid, nullptr, signal ? SIGALRM : 0);
  }
}

void Harness::kill_one(Process& process) {
  ::kill(process.pid, SIGKILL);
  ::waitpid(process.pid, nullptr, 0);
  ++kills_;
  count_remains(process);
  ended(process, true);
}

// As dvsd: at once what the dead one was doing; when the directory knows, its endpoint.
void Harness::ended(Process& process, bool violent) {
  const bool bound = process.state != State::kStarting;
  for (size_t i = 0; i < actors_left(process); ++i) {
    Actor& actor = ledger_.actors[process.actors[i]];
    actor.life.store(kNobody);
    for (int depth : {0, 1}) actor.limit_ns[depth].store(0);
    // (A thread that ended by itself has said so.)
    End none = End::kNone;
    ledger_.life(process.lives[i])
        .end.compare_exchange_strong(none, violent ? End::kViolent : End::kOrderly);
  }
  process.pid = 0;
  std::vector<int> owned = std::move(process.leaving);
  process.leaving.clear();
  for (size_t i = 0; i < actors_left(process) && bound && process.state != State::kLeaving; ++i) {
    owned.push_back(process.actors[i]);
  }
  for (const int actor : owned) dvk::bury(region_, slot(actor));
  if (dice_.percent(30)) {
    answer_doorbell();
    ::usleep(dice_.below(300));
  }
  for (const int actor : owned) unbind_dead(actor);
  process.state = State::kDown;
  process.again_ns = dice_.percent(70) ? 0 : now_ns() + dice_.below(3'000) * 1'000;
}

void Harness::unbind_dead(int actor) {
  dvk::unbind(region_, slot(actor));
  ops_.on_place_changed(slot(actor));
  expect_idle(actor, "after its death", false);
}

// The second thread of a process may have ended, as dvsd sees by its pidfd.
void Harness::notice_thread(Process& process) {
  if (process.state != State::kBound || process.actors.size() < 2 || process.thread_gone) return;
  const int actor = process.actors[1];
  const pid_t tid = ledger_.actors[actor].tid.load();
  if (::syscall(SYS_tgkill, process.pid, tid, 0) == 0) return;
  // All of it may be about to go, in good order.
  siginfo_t whole{};
  const int flags = WEXITED | WNOHANG | WNOWAIT;
  if (::waitid(P_PID, static_cast<id_t>(process.pid), &whole, flags) == 0 && whole.si_pid != 0)
    return;
  process.thread_gone = true;
  Actor& dead = ledger_.actors[actor];
  dead.life.store(kNobody);
  for (int depth : {0, 1}) dead.limit_ns[depth].store(0);
  ledger_.life(process.lives[1]).end.store(End::kViolent);
  dvk::bury(region_, slot(actor));
  unbind_dead(actor);
}

void Harness::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    for (Process& process : processes_) {
      if (process.pid != pid) continue;
      if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        ledger_.complain("a worker ended with status " + std::to_string(status));
      }
      ++exits_;
      ended(process, process.state == State::kLeaving || process.thread_gone);
    }
  }
}

// ---- what else dvsd does ------------------------------------------------------------------------

// Whether each of its threads knows that it is bound: who does not yet would wait for it for ever.
bool Harness::has_begun(const Process& process) const {
  for (size_t i = 0; i < actors_left(process); ++i) {
    if (ledger_.actors[process.actors[i]].began.load() != process.lives[i]) return false;
  }
  return true;
}

// Unbinds somebody who is alive.
void Harness::take_away(Process& process) {
  for (size_t i = 0; i < actors_left(process); ++i) {
    const int actor = process.actors[i];
    // The first thread first: the other one would fall back on its endpoint.
    ledger_.life(process.lives[i]).end.store(End::kViolent);
    ledger_.actors[actor].life.store(kNobody);
    process.leaving.push_back(actor);
  }
  process.state = State::kLeaving;
  see_off(process);
  ++taken_away_;
}

// Until each of its threads has left its last call.
void Harness::see_off(Process& process) {
  std::erase_if(process.leaving, [&](int actor) {
    const bool left = dvk::unbind(region_, slot(actor));
    ops_.on_place_changed(slot(actor));
    return left;
  });
}

// A migration that is rolled back.
void Harness::shake_gate(const Process& process) {
  const std::vector<uint32_t> slots = slots_of(process);
  for (uint32_t each : slots) dvk::close_gate(region_, each);
  const int64_t end = now_ns() + dice_.below(2'000) * 1'000;
  while (now_ns() < end && !dvk::settle(region_, slots)) ::sched_yield();
  if (dice_.percent(50)) ::usleep(dice_.below(500));
  open_gates(slots);
  ++gates_;
}

std::vector<uint32_t> Harness::slots_of(const Process& process) const {
  std::vector<uint32_t> slots;
  for (size_t i = 0; i < actors_left(process); ++i) slots.push_back(slot(process.actors[i]));
  return slots;
}

void Harness::open_gates(const std::vector<uint32_t>& slots) {
  for (uint32_t each : slots) {
    dvk::open_gate(region_, each);
    ops_.on_place_changed(each);
  }
}

// START and the freeze, as the mover does it. False: it did not come to rest, or has ended.
bool Harness::freeze(const Process& process, const std::vector<uint32_t>& slots) {
  for (uint32_t each : slots) dvk::close_gate(region_, each);
  const int64_t end = now_ns() + 5 * kMs;
  while (!dvk::settle(region_, slots)) {
    answer_doorbell();
    if (now_ns() > end) return false;
    ::sched_yield();
  }
  ::kill(process.pid, SIGSTOP);
  siginfo_t stopped{};
  const int flags = WSTOPPED | WEXITED | WNOWAIT;
  return ::waitid(P_PID, static_cast<id_t>(process.pid), &stopped, flags) == 0 &&
         stopped.si_code == CLD_STOPPED;
}

// To a node that nothing is heard of meanwhile, and home again. The region is the same, so what
// others do to its mirrors in between must fit what it brings along.
void Harness::move_away_and_back(Process& process) {
  const std::vector<uint32_t> slots = slots_of(process);
  if (!freeze(process, slots)) {
    ::kill(process.pid, SIGCONT);
    return open_gates(slots);
  }
  const dvk::Capsule capsule = dvk::extract(region_, slots);
  const uint32_t epoch = region_.at(slots[0]).epoch.load();
  dvk::commit_away(region_, slots, kElsewhere, epoch + 1);
  for (uint32_t each : slots) ops_.on_place_changed(each);
  const int64_t end = now_ns() + dice_.below(3'000) * 1'000;
  Process& other = any_process();
  if (dice_.percent(30) && &other != &process && other.pid != 0) kill_one(other);
  do {
    answer_doorbell();
    ::sched_yield();
  } while (now_ns() < end);
  if (!dvk::commit_here(region_, capsule, 0, epoch + 2)) {
    ledger_.complain("who comes back finds another in its place");
  }
  for (uint32_t each : slots) ops_.on_place_changed(each);
  ::kill(process.pid, SIGCONT);
  ++moves_;
}

namespace {

template <typename Transfer, typename Bytes>
int transfer_memory(Transfer transfer, int pid, uint64_t address, Bytes* mine, size_t bytes) {
  iovec local{const_cast<char*>(mine), bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  const ssize_t n = transfer(pid, &local, 1UL, &remote, 1UL, 0UL);
  if (n == static_cast<ssize_t>(bytes)) return OK;
  return n < 0 && errno == ESRCH ? EDVSDSTDIED : EDVSFAULT;
}

}  // namespace

int Harness::Alone::read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) {
  return transfer_memory(process_vm_readv, region->at(slot).pid.load(), address, to, bytes);
}

int Harness::Alone::write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) {
  return transfer_memory(process_vm_writev, region->at(slot).pid.load(), address, from, bytes);
}

void Harness::answer_doorbell() {
  const uint32_t rung = dvk::event_prepare(region_.header().doorbell);
  if (std::exchange(doorbell_, rung) != rung) ops_.on_doorbell();
}

void Harness::look_after() {
  answer_doorbell();
  reap();
  for (Process& process : processes_) {
    if (process.state == State::kStarting) bind_if_ready(process);
    see_off(process);
    notice_thread(process);
    // Who has lost a thread cannot say good-bye as it should.
    if (process.thread_gone && process.pid != 0 && ledger_.phase.load() != Phase::kRun) {
      kill_one(process);
    }
    const bool due = process.state == State::kDown && now_ns() >= process.again_ns;
    if (due && ledger_.phase.load() <= Phase::kDrain) start(process);
  }
  if (now_ns() >= next_watch_ns_) watch();
}

// Who may hang is left to watch().
bool Harness::is_overdue(const Process& process) const {
  const int64_t now = now_ns();
  for (int actor : process.actors) {
    for (const auto& limit : ledger_.actors[actor].limit_ns) {
      const int64_t when = limit.load();
      if (when != 0 && now > when + kOverdueNs) return true;
    }
  }
  return false;
}

// Somebody in the middle of a call, if there is.
Harness::Process& Harness::active_process() {
  for (int tries = 0; tries < 1000; ++tries) {
    Process& process = any_process();
    const Descriptor& d = region_.at(slot(process.actors[0]));
    if (process.state == State::kBound && d.inside.load() != 0) return process;
  }
  return any_process();
}

void Harness::disturb() {
  const bool aim = dice_.percent(2);
  Process& process = aim ? active_process() : any_process();
  if (process.pid == 0 || is_overdue(process)) return;
  const bool bound = process.state == State::kBound;
  const uint32_t roll = dice_.below(100);
  if (aim && bound) lead_to_the_edge(process);  // and it is traced from here on
  if (aim || roll >= 30) return kill_one(process);
  if (!bound) return;
  if (roll < 4) {
    if (has_begun(process)) take_away(process);
  } else if (roll < 10) {
    shake_gate(process);
  } else {
    move_away_and_back(process);
  }
}

// ---- the end ------------------------------------------------------------------------------------

// Until every actor's life has given this sign.
bool Harness::await(Phase phase, std::atomic<uint32_t> Actor::*sign, const char* what) {
  ledger_.phase.store(phase);
  const int64_t end = now_ns() + kSlackNs;
  for (bool all = false; !all && !failed();) {
    look_after();
    all = true;
    for (const Actor& actor : ledger_.actors) {
      const bool there = actor.life.load() != kNobody && (actor.*sign).load() == actor.life.load();
      if (!there && phase == Phase::kDrain) dvk_wakeup(0, actor.endpoint.load());
      all &= there;
    }
    if (!all && now_ns() > end) {
      for (int each = 0; each < kActors; ++each) show(each);
      ledger_.complain(what);
    }
    ::usleep(200);
  }
  return !failed();
}

// Everybody lives on until nothing is under way, hears everybody once more, and goes.
bool Harness::finish() {
  if (!await(Phase::kDrain, &Actor::quiet, "somebody does not come to an end")) return false;
  if (!await(Phase::kExchange, &Actor::heard, "somebody did not hear everybody")) return false;
  ledger_.phase.store(Phase::kExit);
  const int64_t end = now_ns() + kSlackNs;
  for (Process& process : processes_) {
    int status = 0;
    pid_t gone = 0;
    while ((gone = ::waitpid(process.pid, &status, WNOHANG)) == 0 && now_ns() < end) ::usleep(100);
    if (gone == 0) {
      ledger_.complain("somebody does not go");
      return false;
    }
    if (status != 0) ledger_.complain("a worker ended with status " + std::to_string(status));
    process.pid = 0;
    for (size_t i = 0; i < process.actors.size(); ++i) {
      ledger_.life(process.lives[i]).end.store(End::kOrderly);
    }
  }
  answer_doorbell();
  for (int actor = 0; actor < kActors; ++actor) expect_idle(actor, "at the end", true);
  if (region_.outbound().find(0) != region_.slots()) ledger_.complain("a doorbell is left");
  const uint32_t first = lives_ > kLives / 2 ? lives_ - kLives / 2 + 1 : 1;
  for (uint32_t life = first; life <= lives_; ++life) ledger_.judge(life);
  const uint64_t violent = kills_ + taken_away_ + ledger_.totals.threads_ended.load();
  if (ledger_.totals.unsettled.load() > violent) ledger_.complain("more lost than there were dead");
  return !failed();
}

void Harness::print_totals(double seconds) const {
  const Totals& t = ledger_.totals;
  const auto n = [](const std::atomic<uint64_t>& count) {
    return static_cast<unsigned long long>(count.load());
  };
  const auto u = [](uint64_t count) { return static_cast<unsigned long long>(count); };
  std::printf(
      "%llu kills (%llu between two stores), %llu ends by themselves, %llu unbound alive, %llu "
      "gates, %llu moves away and back, %llu threads ended alone in %.1f s\n",
      u(kills_), u(aimed_), u(exits_), u(taken_away_), u(gates_), u(moves_),
      n(ledger_.totals.threads_ended), seconds);
  std::printf(
      "%llu calls: %llu messages taken, %llu sent, %llu refused or timed out, "
      "%llu answered requests, %llu replies, %llu notifications (%llu received), "
      "%llu copies, %llu wake-ups, %llu binds and unbinds awaited\n",
      n(t.calls), n(t.received), n(t.sent), n(t.failed), n(t.requests), n(t.replies), n(t.notified),
      n(t.notices), n(t.copies), n(t.wakeups), n(t.binds_awaited));
  std::printf("%llu signals: %llu calls in handlers went through, %llu met a busy endpoint\n",
              n(t.signals), n(t.done_in_handler), n(t.busy_in_handler));
  std::printf(
      "killed while in a call %llu, waiting %llu, message just come %llu, being filled %llu, "
      "filling another %llu, posted %llu, taken %llu, done %llu, touching %llu; "
      "%llu messages died with their receiver\n",
      u(remains_.in_call), u(remains_.waiting), u(remains_.full), u(remains_.filling),
      u(remains_.filled_by_dead), u(remains_.posted), u(remains_.taken), u(remains_.done),
      u(remains_.touching), n(t.lost));
}

bool Harness::run() {
  const int64_t begin = now_ns();
  ledger_.began_ns = begin;
  int64_t next_event = begin;
  int64_t next_progress = begin + 5'000 * kMs;
  while (kills_ < options_.kills && !failed()) {
    const int64_t now = now_ns();
    if (options_.seconds != 0 && now > begin + options_.seconds * 1'000 * kMs) break;
    look_after();
    if (now >= next_event) {
      disturb();
      next_event = now_ns() + dice_.below(1'200) * 1'000;
    } else {
      ::usleep(50);
    }
    if (options_.progress && now >= next_progress) {
      std::printf("%llu kills\n", static_cast<unsigned long long>(kills_));
      std::fflush(stdout);
      next_progress = now + 5'000 * kMs;
    }
  }
  const bool good = !failed() && finish();
  print_totals(static_cast<double>(now_ns() - begin) / 1e9);
  if (!good) std::printf("FAILED (%d times): %s\n", ledger_.errors.load(), ledger_.error);
  return good;
}

}  // namespace dvs::torture
