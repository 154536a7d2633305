#include "world.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "base/check.h"
#include "base/file.h"
#include "dvk/node_view.h"
#include "dvsd.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kSecond = 1'000 * kMs;
constexpr int64_t kSettleLimitNs = 120 * kSecond;
constexpr uint64_t kMostSteps = 5'000'000;

World* the_world = nullptr;

}  // namespace

void Tally::add(const Tally& other) {
  seeds += other.seeds;
  requests += other.requests;
  answered += other.answered;
  migrations += other.migrations;
  committed += other.committed;
  rolled_back += other.rolled_back;
  lost_memory += other.lost_memory;
  processes_lost += other.processes_lost;
  for (const auto& [name, number] : other.faults) faults[name] += number;
  for (const auto& [name, number] : other.points) points[name] += number;
  for (const auto& [step, number] : other.steps) steps[step] += number;
  recovery_ns.insert(recovery_ns.end(), other.recovery_ns.begin(), other.recovery_ns.end());
}

std::string dc_name(size_t dc) { return "DC" + std::to_string(dc); }

std::string World::files_of(int pid) { return fmt::format("/dev/shm/dvs-sim-{}", pid); }

World& World::current() { return *the_world; }

World::World(const Options& options)
    : options_(options),
      events_(options.seed),
      store_(events_),
      network_(events_, 3 + static_cast<int>(options.seed % 2)) {
  DVS_CHECK(the_world == nullptr);
  the_world = this;
  store_.ignores_compares = has_bug(Bug::kOutcomeNotCompared);
  store_.on_expired = [this] {
    trace("a lease has expired");
    somebody_was_lost_ = true;
  };
  store_.loses_news = has_bug(Bug::kNewsLost);
  const int nodes = 3 + static_cast<int>(options.seed % 2);
  for (int id = 0; id < nodes; ++id) {
    auto machine = std::make_unique<Machine>();
    machine->id = id;
    machine->name = "n" + std::to_string(id + 1);
    machines_.push_back(std::move(machine));
  }
  const size_t dcs = events_.chance(300) ? 2 : 1;
  servers_.resize(dcs);
  for (size_t dc = 0; dc < dcs; ++dc) {
    ledgers_.emplace_back(static_cast<uint32_t>(dc));
    for (auto& machine : machines_) {
      PartState part;
      part.dc = dc;
      part.dir = fmt::format("{}/{}-{}", files_of(::getpid()), machine->name, dc);
      machine->parts.push_back(std::move(part));
    }
  }
  build();
}

World::~World() {
  for (auto& machine : machines_) machine->dvsd.reset();
  static_cast<void>(remove_tree(files_of(::getpid())));
  the_world = nullptr;
}

void World::fail(const std::string& why) {
  if (options_.trace) say("FAILED: " + why);
  if (failure_.empty()) failure_ = why;
}

void World::say(const std::string& what) const {
  std::fprintf(stderr, "%11.6f %s\n", static_cast<double>(events_.now_ns()) / 1e9, what.c_str());
}

Machine* World::machine_named(const std::string& name) {
  for (auto& machine : machines_) {
    if (machine->name == name) return machine.get();
  }
  return nullptr;
}

SimProcess* World::process_of(size_t dc, uint32_t slot) {
  for (auto& [name, process] : processes_) {
    if (process->dc != dc) continue;
    for (const Thread& thread : process->threads) {
      if (thread.slot == slot) return process.get();
    }
  }
  return nullptr;
}

// ---- machines ----

void World::build() {
  const Keys keys("sim");
  for (const auto& machine : machines_) {
    const auto made = store_.txn(
        {}, {Change::put(keys.member(machine->name), fmt::format("{{\"id\":{}}}", machine->id))});
    DVS_CHECK(made.ok());
    power_on(machine->id);
  }
  for (size_t dc = 0; dc < dcs(); ++dc) build_dc(dc);
  for (const auto& machine : machines_) start_dvsd(machine->id);
}

void World::build_dc(size_t dc) {
  const int servers = 1 + static_cast<int>(events_.random(2));
  std::vector<int>& served = servers_[dc];
  for (int i = 0; i < servers; ++i) {
    std::vector<int> endpoints;
    for (uint64_t n = 1 + events_.random(2); n > 0; --n) {
      served.push_back(static_cast<int>(served.size()) + 1);
      endpoints.push_back(served.back());
    }
    SimProcess& process = add_process(dc, endpoints);
    for (const int each : endpoints) serve(process, each);
  }
  for (uint64_t i = 0; i < 2 + events_.random(3); ++i) {
    const int client = kFirstClient + static_cast<int>(i);
    ask(add_process(dc, {client}), client);
  }
}

void World::power_on(int id) {
  Machine& machine = this->machine(id);
  trace("{} is switched on", machine.name);
  machine.on = true;
  ++machine.boots;
  machine.power = events_.begin_life();
  for (PartState& part : machine.parts) power_on(machine, part);
}

void World::power_on(Machine& machine, PartState& part) {
  static_cast<void>(remove_tree(part.dir));
  DVS_CHECK(make_dirs(part.dir + "/..").ok() && make_dirs(part.dir).ok());
  const std::string path = part.dir + ".region";
  ::unlink(path.c_str());
  dvk::RegionSpec spec;
  spec.slots = 128;
  spec.local_node = static_cast<uint32_t>(machine.id);
  auto created = dvk::Region::create(path, spec);
  DVS_CHECK(created.ok(), "{}", created.error().message());
  part.region = std::move(*created);
  part.region_fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  DVS_CHECK(part.region_fd.valid());
  part.doorbell_seen = 0;
  part.doorbell_scheduled = false;
}

void World::power_off(int id) {
  Machine& machine = this->machine(id);
  if (!machine.on) return;
  trace("{} is switched off", machine.name);
  kill_dvsd(id, "with its machine");
  network_.detach(id, true);
  machine.on = false;
  events_.end_life(machine.power);
  machine.lease = 0;
  for (PartState& part : machine.parts) {
    part.tasks.clear();
    part.held.clear();
    part.kept.clear();
    part.fetched.clear();
    part.unbound.clear();
    part.unbinding.clear();
  }
  for (auto& [name, process] : processes_) {
    const auto copy = process->copies.find(id);
    if (copy == process->copies.end()) {
      // It was being restored here, perhaps, and lost where it came from.
      if (process->copies.empty() && !is_being_restored(*process)) lose(*process);
      continue;
    }
    const bool ran = copy->second == CopyState::kRunning;
    process->copies.erase(copy);
    if (ran || process->running_copies() == 0) process->excused = true;
    if ((process->copies.empty() && !is_being_restored(*process)) || ran) lose(*process);
  }
}

bool World::is_being_restored(const SimProcess& process) const {
  for (const auto& machine : machines_) {
    for (const auto& [id, held] : machine->parts[process.dc].held) {
      if (held->process == &process && held->state == Held::State::kRestoring) return true;
    }
  }
  return false;
}

void World::start_dvsd(int id) {
  Machine& machine = this->machine(id);
  if (!machine.on || machine.dvsd != nullptr) return;
  trace("dvsd of {} starts", machine.name);
  machine.dvsd = std::make_unique<Dvsd>(*this, machine);
  machine.dvsd->start();
}

void World::kill_dvsd(int id, const char* how) {
  Machine& machine = this->machine(id);
  if (machine.dvsd == nullptr) return;
  trace("dvsd of {} dies, {}", machine.name, how);
  machine.dvsd.reset();
  for (PartState& part : machine.parts) part.doorbell_scheduled = false;
  network_.detach(id, false);
}

// ---- processes ----

SimProcess& World::add_process(size_t dc, const std::vector<int>& endpoints) {
  const int node = static_cast<int>(events_.random(machines_.size()));
  const auto others = std::count_if(processes_.begin(), processes_.end(),
                                    [dc](const auto& each) { return each.first.first == dc; });
  auto process = std::make_unique<SimProcess>();
  process->dc = dc;
  process->task = fmt::format("t{}", others + 1);
  process->pid = (node + 1) * 100'000 + ++next_pid_ * 1'000;  // its threads': with their slots
  process->view_node = node;
  process->threads.reserve(endpoints.size() + 2);
  Machine& machine = this->machine(node);
  PartState& part = machine.parts[dc];
  auto view = dvk::Region::open(part.dir + ".region");
  DVS_CHECK(view.ok());
  process->view = std::move(*view);
  process->copies[node] = CopyState::kRunning;
  machine.lease = machine.lease == 0 ? store_.grant(std::chrono::seconds(10)) : machine.lease;
  const Keys keys("sim");
  for (const int endpoint : endpoints) {
    Thread thread;
    thread.slot = part.region.slot_of(endpoint);
    EndpointRecord record;
    record.slot = thread.slot;
    record.node = static_cast<NodeId>(node);
    record.pid = process->pid;
    record.tid = process->pid + static_cast<int>(thread.slot);
    record.task = process->task;
    record.name = process->task;
    const auto bound = store_.txn({}, {Change::put(keys.endpoint(dc_name(dc), thread.slot),
                                                   to_text(to_json(record)), machine.lease)});
    dvk::Identity identity;
    identity.endpoint = endpoint;
    identity.incarnation = static_cast<uint64_t>(bound->revision);
    identity.epoch = 1;
    identity.node = static_cast<uint32_t>(node);
    identity.kind = dvk::Kind::kLocal;
    identity.pid = record.pid;
    identity.tid = record.tid;
    identity.name = record.name;
    DVS_CHECK(dvk::bind(part.region, thread.slot, identity));
    part.tasks[process->task].push_back(thread.slot);
    process->threads.push_back(std::move(thread));
  }
  auto& added = processes_[{dc, process->task}];
  added = std::move(process);
  return *added;
}

int World::call(SimProcess& process, int endpoint, const std::function<int(dvk::Caller&)>& body) {
  const uint32_t slot = process.view.slot_of(endpoint);
  const auto tid = static_cast<uint32_t>(process.pid) + slot;
  dvk::Caller caller(process.view, slot, {tid, tid});
  return caller.status() == OK ? body(caller) : caller.status();
}

void World::serve(SimProcess& process, int endpoint) {
  Ledger& ledger = ledgers_[process.dc];
  for (Thread& thread : process.threads) {
    if (thread.slot != process.view.slot_of(endpoint)) continue;
    thread.fiber = std::make_unique<explore::Fiber>([this, &process, &ledger, endpoint] {
      for (;;) {
        message m{};
        const int rc = call(process, endpoint, [&](dvk::Caller& caller) {
          return caller.receive(ANY, m, dvk::Deadline::never(), dvk::RxMode::kAny);
        });
        if (rc != OK) {
          pause(20 * kMs);  // until it is bound again
          continue;
        }
        trace("{} has request {} of {}", endpoint, m.m1_i1, m.m_source);
        if (const std::string wrong = ledger.taken(endpoint, m); !wrong.empty()) fail(wrong);
        if (events_.chance(500)) pause(events_.between_ns(0, 60 * kMs));
        message answer = ledger.answer_to(m);
        call(process, endpoint, [&](dvk::Caller& caller) {
          return caller.reply(m.m_source, answer, dvk::Deadline::never());
        });
      }
    });
  }
}

void World::ask(SimProcess& process, int endpoint) {
  Ledger& ledger = ledgers_[process.dc];
  const std::vector<int>& servers = servers_[process.dc];
  auto asks = [this, &process, &ledger, &servers, endpoint] {
    pause(300 * kMs);  // the nodes have joined, and know each other's endpoints
    for (int last = 0; last < 3;) {
      if (faults_over_) ++last;
      pause(events_.between_ns(0, events_.chance(700) ? 30 * kMs : 800 * kMs));
      const int server = servers[events_.random(servers.size())];
      message m = ledger.ask(endpoint, server);
      const int id = m.m1_i1;
      trace("request {} of {} to {} ...", id, endpoint, server);
      const int rc = call(process, endpoint, [&](dvk::Caller& caller) {
        return caller.sendrec(server, m, dvk::Deadline::never());
      });
      ++tally_.requests;
      trace("request {} of {} to {}: {}", id, endpoint, server, rc);
      const std::string wrong = ledger.told(id, rc, m, somebody_was_lost_);
      if (!wrong.empty()) fail(wrong);
    }
  };
  process.threads[0].fiber = std::make_unique<explore::Fiber>(std::move(asks));
}

void World::pause(int64_t ns) {
  dvk::Atomic<uint32_t> word{0};
  sleep(word, 0, dvk::Deadline::at_ns(events_.now_ns() + ns));
}

int World::sleep(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline) {
  Thread& thread = *running_thread_;
  thread.sleeps_on = &word;
  thread.expected = expected;
  thread.deadline = deadline;
  if (!deadline.is_never()) {
    const int64_t delay = std::max<int64_t>(deadline.when_ns() - events_.now_ns(), 0);
    events_.after(delay, kForever, [] {});  // then the threads are looked at
  }
  explore::Fiber::yield();
  thread.sleeps_on = nullptr;
  if (static_cast<const std::atomic<uint32_t>&>(word).load() != expected) return 0;
  return deadline.when_ns() > events_.now_ns() ? 0 : ETIMEDOUT;
}

bool World::can_run(const SimProcess& process, const Thread& thread) const {
  const auto copy = process.copies.find(process.view_node);
  if (process.over || copy == process.copies.end() || copy->second != CopyState::kRunning) {
    return false;
  }
  if (thread.fiber == nullptr || thread.fiber->done()) return false;
  return thread.sleeps_on == nullptr ||
         static_cast<const std::atomic<uint32_t>&>(*thread.sleeps_on).load() != thread.expected ||
         thread.deadline.when_ns() <= events_.now_ns();
}

void World::run_thread(SimProcess& process, Thread& thread) {
  thread.scheduled = false;
  if (!can_run(process, thread)) return;
  running_process_ = &process;
  running_thread_ = &thread;
  thread.fiber->resume();
  running_process_ = nullptr;
  running_thread_ = nullptr;
}

void World::look_at_threads() {
  for (auto& [name, process] : processes_) {
    for (Thread& thread : process->threads) {
      if (thread.scheduled || !can_run(*process, thread)) continue;
      thread.scheduled = true;
      events_.after(events_.between_ns(500, 20'000), kForever,
                    [this, process = process.get(), &thread] { run_thread(*process, thread); });
    }
  }
}

void World::look_at_doorbells() {
  for (auto& machine : machines_) {
    if (!machine->on || machine->dvsd == nullptr || !machine->dvsd->joined()) continue;
    for (PartState& part : machine->parts) {
      if (part.doorbell_scheduled) continue;
      auto& bell = part.region.header().doorbell;
      const uint32_t rung = static_cast<const std::atomic<uint32_t>&>(bell).load() & ~1u;
      if (rung == part.doorbell_seen) continue;
      part.doorbell_scheduled = true;
      events_.after(events_.between_ns(1'000, 200'000), machine->dvsd->life(),
                    [m = machine.get(), &part, &bell] {
                      part.doorbell_scheduled = false;
                      part.doorbell_seen = dvk::event_prepare(bell);
                      m->dvsd->part(part.dc).on_doorbell();
                    });
    }
  }
}

// ---- copies, judged ----

void World::set_copy(SimProcess& process, int node, std::optional<CopyState> state) {
  const auto found = process.copies.find(node);
  const bool known = found != process.copies.end();
  const bool ran = known && found->second == CopyState::kRunning;
  const bool was_frozen = known && found->second == CopyState::kFrozen;
  static const char* const kNames[] = {"runs", "is frozen", "is held"};
  trace("{} of {} {} on {}", process.task, dc_name(process.dc),
        state ? kNames[static_cast<int>(*state)] : "is ended", machine(node).name);
  if (!state) {
    if (ran && !process.over) fail(process.task + ": a running copy was ended");
    process.copies.erase(node);
    if (!process.copies.empty() || process.over) return;
    if (!process.excused) fail(process.task + ": no copy of it is left");
    return lose(process);
  }
  process.copies[node] = *state;
  if (*state != CopyState::kRunning) return;
  if (process.running_copies() > 1) return fail(process.task + ": two copies of it run");
  if (was_frozen && process.view_node != node) {
    return fail(process.task + ": a copy that it has left behind runs");
  }
  if (process.view_node == node) return;
  dvk::RegionHeader& header = process.view.header();
  void* mapped = ::mmap(&header, header.total_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        machine(node).parts[process.dc].region_fd.get(), 0);
  DVS_CHECK(mapped == &header);
  process.view_node = node;
}

void World::lose(SimProcess& process) {
  if (std::exchange(process.over, true)) return;
  trace("{} is lost", process.task);
  ++tally_.processes_lost;
  somebody_was_lost_ = true;
  const int node = process.view_node;
  for (Thread& thread : process.threads) {
    thread.fiber.reset();
    ledgers_[process.dc].forget(process.view.number_of(thread.slot));
  }
  process.copies.erase(node);
  Machine& machine = this->machine(node);
  if (!machine.on || machine.dvsd == nullptr) return;
  events_.after(1 * kMs, machine.dvsd->life(), [&machine, &process] {
    if (machine.dvsd->joined()) machine.dvsd->part(process.dc).process_died(process.task);
  });
}

// ---- the run ----

// One thing happens. A dvsd that comes by a crash point that is armed dies there.
void World::happen() {
  try {
    events_.step();
  } catch (const Crash&) {
    const int id = alive_dvsd_;
    kill_dvsd(id, "at a crash point");
    events_.after(events_.between_ns(50 * kMs, 1'500 * kMs), machine(id).power,
                  [this, id] { start_dvsd(id); });
  }
  look_at_threads();
  look_at_doorbells();
}

std::string World::run() {
  plan_faults();
  uint64_t steps = 0;
  for (; failure_.empty() && events_.now_ns() < faults_end_ns_; ++steps) happen();
  heal();
  const int64_t healed_ns = events_.now_ns();
  int64_t look_ns = healed_ns;
  std::string open = "it has just begun";
  while (failure_.empty() && !open.empty()) {
    happen();
    if (++steps > kMostSteps) fail("no end is in sight: " + open);
    if (events_.now_ns() < look_ns) continue;
    look_ns = events_.now_ns() + 50 * kMs;
    open = unsettled();
    if (open.empty() || events_.now_ns() < healed_ns + kSettleLimitNs) continue;
    for (const auto& [key, kv] : store_.keys()) trace("{}: {}", key, kv.value);
    fail("stuck: " + open);
  }
  tally_.seeds = 1;
  for (const Ledger& ledger : ledgers_) tally_.answered += ledger.answered();
  tally_.recovery_ns.push_back(events_.now_ns() - healed_ns);
  for (const auto& [id, committed] : outcomes_) {
    ++(committed ? tally_.committed : tally_.rolled_back);
  }
  return failure_;
}

}  // namespace dvs::sim

// ---- what the real libdvk does with the kernel ----

namespace dvs::dvk {

void explore_point(const void*, size_t, bool) {}
void explore_saw(const void*, size_t, uint64_t) {}

timespec wall_time() { return {}; }

int64_t Deadline::now_ns() { return sim::World::current().events().now_ns(); }

bool event_await(Atomic<uint32_t>&, uint32_t, Near) { return false; }

int futex_wait(Atomic<uint32_t>& word, uint32_t expected, Deadline deadline) {
  return sim::World::current().sleep(word, expected, deadline);
}

// The word has been changed before: that wakes, here.
void futex_wake_all(Atomic<uint32_t>&) {}

}  // namespace dvs::dvk
