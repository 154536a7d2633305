// What goes wrong in a simulated cluster, and when; by chance.
#include <algorithm>

#include "dvsd.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int kFirstOther = 30;  // endpoint
constexpr int kMostOthers = 60;
constexpr const char* kAlgorithms[] = {"auto",      "total-copy",   "pre-copy",
                                       "on-demand", "non-freezing", "file-server"};

}  // namespace

void World::plan_faults() {
  faults_end_ns_ = events_.now_ns() + events_.between_ns(3'000 * kMs, 30'000 * kMs);
  // Some runs are calm but for one thing, others are wild.
  const int64_t apart = events_.between_ns(100 * kMs, 3'000 * kMs);
  for (int64_t at = 500 * kMs; events_.now_ns() + at < faults_end_ns_;
       at += events_.between_ns(apart / 2, apart)) {
    events_.after(at, kForever, [this] {
      if (!faults_over_) strike();
    });
  }
  for (int64_t at = 400 * kMs; events_.now_ns() + at < faults_end_ns_;
       at += events_.between_ns(100 * kMs, 3'000 * kMs)) {
    events_.after(at, kForever, [this] {
      if (events_.chance(600)) return bind_another(any_process());
      unbind_another(any_process());
    });
  }
  const int64_t moves_apart = events_.between_ns(100 * kMs, 1'500 * kMs);
  for (int64_t at = 300 * kMs; events_.now_ns() + at < faults_end_ns_;
       at += events_.between_ns(moves_apart / 2, moves_apart)) {
    events_.after(at, kForever, [this] {
      if (!faults_over_) ask_for_migration();
    });
  }
}

SimProcess& World::any_process() {
  auto process = processes_.begin();
  std::advance(process, static_cast<long>(events_.random(processes_.size())));
  return *process->second;
}

void World::ask_for_migration() {
  Machine& asked = machine(static_cast<int>(events_.random(machines_.size())));
  SimProcess& process = any_process();
  const uint32_t slot = process.threads[0].slot;
  if (asked.dvsd == nullptr || !asked.dvsd->joined()) return;
  const auto* entry = asked.dvsd->cluster().endpoint(dc_name(process.dc), slot);
  if (entry == nullptr) return;
  MigrationRequest request;
  request.dc = dc_name(process.dc);
  request.endpoint = process.view.number_of(slot);
  request.slot = slot;
  request.source = machine(entry->record.node).name;
  request.algorithm = kAlgorithms[events_.random(std::size(kAlgorithms))];
  request.patience = std::chrono::milliseconds(500 + events_.random(20'000));
  if (events_.chance(300)) request.timeout = std::chrono::milliseconds(events_.random(2'000));
  request.force = events_.chance(300);
  Machine& target = machine(static_cast<int>(events_.random(machines_.size())));
  request.target = target.name;
  if (request.target == request.source) return;
  if (request.algorithm == "file-server") {
    for (const auto& other : machines_) {
      if (other->name != request.source && other->name != request.target) {
        request.file_server = other->name;
      }
    }
  }
  trace("{} is asked to move {} of {} from {} to {}, {}", asked.name, process.task, request.dc,
        request.source, request.target, request.algorithm);
  if (events_.chance(300)) {  // while it is copied, perhaps
    events_.after(events_.between_ns(1 * kMs, 80 * kMs), kForever,
                  [this, &process] { bind_another(process); });
  }
  if (events_.chance(15)) {
    events_.after(events_.between_ns(5 * kMs, 300 * kMs), kForever,
                  [this, source = entry->record.node, id = target.id] {
                    lose_for_good(static_cast<int>(source));
                    lose_for_good(id);
                  });
  }
  if (events_.chance(30)) {
    events_.after(events_.between_ns(5 * kMs, 300 * kMs), kForever,
                  [this, source = entry->record.node, id = target.id] {
                    hide_outcome(static_cast<int>(source), id);
                  });
  }
  try {
    asked.dvsd->migrate(std::move(request));
  } catch (const Crash&) {
    kill_dvsd(asked.id, "at a crash point");
    events_.after(200 * kMs, asked.power, [this, id = asked.id] { start_dvsd(id); });
  }
}

// The source does not hear how it ends. By the time it can, and reads all there is, what the target
// has bound has gone with the target's lease.
void World::hide_outcome(int source, int target) {
  if (faults_over_) return;
  cut_off(source, events_.between_ns(100 * kMs, 2'000 * kMs));
  store_.compact_before(source);
  events_.after(events_.between_ns(0, 500 * kMs), kForever, [this, target] {
    if (!faults_over_) end_lease(target);
  });
}

// A process binds another endpoint, which nobody speaks with: it has a gate, and moves along.
void World::bind_another(SimProcess& process) {
  Machine& at = machine(process.view_node);
  const bool may = !faults_over_ && !process.over && others_ < kMostOthers;
  if (!may || at.dvsd == nullptr || !at.dvsd->joined()) return;
  if (!at.dvsd->part(process.dc).may_ask(process.task)) return;
  Thread* thread = process.one_more();
  if (thread == nullptr) return;
  count("another endpoint");
  thread->slot = process.view.slot_of(kFirstOther + others_++);
  thread->unbound = false;
  at.dvsd->part(process.dc).bind_another(process.task, thread->slot);
}

// ... and unbinds it.
void World::unbind_another(const SimProcess& process) {
  Machine& at = machine(process.view_node);
  if (faults_over_ || at.dvsd == nullptr || !at.dvsd->joined()) return;
  if (!at.dvsd->part(process.dc).may_ask(process.task)) return;
  for (const Thread& thread : process.threads) {
    if (thread.unbound || thread.slot < process.view.slot_of(kFirstOther)) continue;
    count("an endpoint less");
    return at.dvsd->part(process.dc).unbind_another(process.task, thread.slot);
  }
}

void World::cancel_something() {
  for (const auto& [key, kv] : store_.keys()) {
    const auto record = key.find("/migrations/") == std::string::npos
                            ? Result<MigrationRecord>(Error(Code::kNotFound, ""))
                            : migration_record(kv.value);
    if (!record.ok() || !is_open(record->state)) continue;
    Machine& asked = machine(static_cast<int>(events_.random(machines_.size())));
    if (asked.dvsd == nullptr || !asked.dvsd->joined()) return;
    count("cancel");
    return asked.dvsd->cancel(record->id);
  }
}

void World::strike() {
  const int id = static_cast<int>(events_.random(machines_.size()));
  switch (events_.random(4)) {
    case 0:
      return strike_machine(id);
    case 1:
      return strike_network(id);
    case 2: {
      const FaultPoint& point = kFaultPoints[events_.random(kFaultPoints.size())];
      trace("{} is armed on {}", point.name, machine(id).name);
      armed_[id][point.fault] = 1;
      return;
    }
    default:
      return cancel_something();
  }
}

void World::strike_machine(int id) {
  Machine& machine = this->machine(id);
  const int64_t later = events_.between_ns(50 * kMs, 2'000 * kMs);
  switch (events_.random(6)) {
    case 0: {
      if (!machine.on || events_.chance(700)) return;
      if (events_.chance(250)) return lose_for_good(id);
      return switch_off_for(id, events_.between_ns(200 * kMs, 15'000 * kMs));
    }
    case 1:
    case 2: {
      if (machine.dvsd == nullptr) return;
      count("stall");
      trace("{} stands still", machine.name);
      const int64_t length =
          events_.chance(800) ? later : events_.between_ns(5'000 * kMs, 14'000 * kMs);
      return events_.stall(machine.dvsd->life(), events_.now_ns() + length);
    }
    default:
      if (machine.dvsd == nullptr) return;
      count("dvsd killed");
      kill_dvsd(id, "killed");
      return events_.after(later, machine.power, [this, id] { start_dvsd(id); });
  }
}

void World::switch_off_for(int id, int64_t length_ns) {
  count("power off");
  power_off(id);
  events_.after(length_ns, kForever, [this, id] {
    if (machine(id).on || machine(id).gone) return;
    power_on(id);
    start_dvsd(id);
  });
}

// One stays.
void World::lose_for_good(int id) {
  const auto gone = std::count_if(machines_.begin(), machines_.end(),
                                  [](const auto& each) { return each->gone; });
  if (faults_over_ || gone + 1 >= static_cast<long>(machines_.size())) return;
  count("lost for good");
  power_off(id);
  machine(id).gone = true;
}

void World::strike_network(int id) {
  const int other = static_cast<int>(events_.random(machines_.size()));
  const bool lasts = events_.chance(200);
  const int64_t length = lasts ? events_.between_ns(4'000 * kMs, 15'000 * kMs)
                               : events_.between_ns(10 * kMs, 2'000 * kMs);
  switch (events_.random(5)) {
    case 0:
      if (id == other) return;
      count("link broken");
      trace("the link of {} and {} breaks", machine(id).name, machine(other).name);
      return network_.break_link(id, other);
    case 1:
      if (id == other) return;
      count("one way blocked");
      trace("nothing gets from {} to {}", machine(id).name, machine(other).name);
      return network_.stall(id, other, length);
    case 2:
      count("etcd down");
      trace("etcd is down");
      store_.set_down(true);
      return events_.after(length, kForever, [this] { store_.set_down(false); });
    case 3:
      return cut_off(id, length);
    default:
      if (events_.chance(300)) end_lease(id);
  }
}

// As when etcd has not heard of it for too long.
void World::end_lease(int id) {
  count("lease ended");
  trace("the lease of {} ends", machine(id).name);
  store_.end_lease(machine(id).lease);
}

void World::cut_off(int id, int64_t length_ns) {
  count("etcd cut off");
  trace("{} is cut off from etcd", machine(id).name);
  store_.cut_off(id, true);
  events_.after(length_ns, kForever, [this, id] { store_.cut_off(id, false); });
}

void World::heal() {
  trace("the faults are over");
  faults_over_ = true;
  armed_.clear();
  store_.set_down(false);
  for (auto& machine : machines_) {
    store_.cut_off(machine->id, false);
    if (machine->gone) continue;
    if (!machine->on) power_on(machine->id);
    if (machine->dvsd == nullptr) start_dvsd(machine->id);  // (who stands still goes on soon)
  }
}

}  // namespace dvs::sim
