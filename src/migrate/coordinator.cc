#include "migrate/coordinator.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "base/log.h"
#include "migrate/history.h"

namespace dvs {
namespace {

constexpr auto kFinishLimit = std::chrono::seconds(5);
constexpr std::chrono::milliseconds kFrozenLimit = std::chrono::seconds(30);
constexpr auto kAskAgain = std::chrono::milliseconds(300);
constexpr auto kCallLimit = std::chrono::seconds(20);

double ms_between(int64_t from_ns, int64_t to_ns) {
  return static_cast<double>(to_ns - from_ns) / 1e6;
}

}  // namespace

double Coordinator::elapsed_ms(const Running& running) const {
  return ms_between(running.began_ns, scheduler_.monotonic_ns());
}

// Sorts by time: milliseconds since the epoch, then what makes it unique.
std::string Coordinator::new_id() {
  const auto ms = static_cast<uint64_t>(scheduler_.realtime_ns() / 1'000'000);
  return fmt::format("m{:011x}{:05x}", ms, (salt_ + ids_++ * 0x9e3779b1u) & 0xfffff);
}

void Coordinator::call(const std::string& node, const std::string& call, Json args,
                       Done<Json> done) {
  peers_.call(node, call, std::move(args), kCallLimit, std::move(done));
}

void Coordinator::run(MigrationRequest request, OnEvent on_event, Done<MigrationRecord> done) {
  auto running = std::make_shared<Running>();
  running->request = std::move(request);
  running->on_event = std::move(on_event);
  running->done = std::move(done);
  running->began_ns = scheduler_.monotonic_ns();
  running->record.id = new_id();
  running->on_event({{"event", "phase"}, {"phase", "preflight"}, {"t_ms", 0.0}});
  const MigrationRequest& asked = running->request;
  const Json args = {
      {"dc", asked.dc}, {"slot", asked.slot}, {"id", running->record.id}, {"target", asked.target}};
  call(asked.source, "migrate.describe", args, [this, running](Result<Json> description) {
    if (!description.ok()) return refuse(running, description.error());
    preflight_target(running, *description);
  });
}

void Coordinator::preflight_target(const RunningPtr& running, const Json& description) {
  MigrationRecord& record = running->record;
  auto task = json_get<std::string>(description, "task");
  auto slots = json_get<std::vector<int>>(description, "slots");
  auto endpoints = json_get<std::vector<int>>(description, "endpoints");
  auto revisions = json_get<std::vector<int64_t>>(description, "revisions");
  if (!task.ok() || !slots.ok() || !endpoints.ok() || !revisions.ok() ||
      revisions->size() != slots->size()) {
    return refuse(running, Error(Code::kCorrupt, "the source's description makes no sense"));
  }
  step(*running, Event::kDescribed);
  faults_.die_at(Fault::kCoordinatorDiesChecking);
  record.dc = running->request.dc;
  record.task = *task;
  record.slots.assign(slots->begin(), slots->end());
  record.endpoints = *endpoints;
  running->slot_revisions = *revisions;
  record.source = running->request.source;
  record.target = running->request.target;
  record.coordinator = self_;
  record.pid =
      json_get_or<int>(description, "pid", 0).ok() ? *json_get_or<int>(description, "pid", 0) : 0;
  if (Status chosen = choose(*running, description); !chosen.ok()) {
    return dismiss(running, chosen.error());
  }
  const Json args = {{"dc", record.dc},
                     {"description", description},
                     {"id", record.id},
                     {"apart", !record.algorithm.empty()},
                     {"patience_ms", record.patience_ms}};
  call(record.target, "migrate.check", args, [this, running](Result<Json> fit) {
    if (!fit.ok()) return dismiss(running, fit.error());
    running->record.phases["preflight"] = elapsed_ms(*running);
    start(running);
  });
}

void Coordinator::step(Running& running, Event event) {
  const Step& step = step_of(MigrationRole::kCoordinator, running.phase, event);
  faults_.on_step(step);
  running.phase = step.to;
}

// It will not begin.
void Coordinator::refuse(const RunningPtr& running, const Error& why) {
  step(*running, Event::kFailed);
  running->done(why);
}

// ... and what both sides have prepared for it is of no use.
void Coordinator::dismiss(const RunningPtr& running, const Error& why) {
  const MigrationRecord& record = running->record;
  const Json args = {{"dc", record.dc}, {"id", record.id}, {"task", record.task}};
  for (const std::string& node : {record.source, record.target}) {
    call(node, "migrate.dismiss", args, [](Result<Json>) {});
  }
  refuse(running, why);
}

// What memory moves when. Where the source cannot look into memory the engine carries it.
Status Coordinator::choose(Running& running, const Json& description) const {
  MigrationRecord& record = running.record;
  const auto memory = json_get_or<uint64_t>(description, "memory_bytes", 0);
  const auto reason = json_get_or<std::string>(description, "no_mover", "");
  if (!memory.ok() || !reason.ok()) return Error(Code::kCorrupt, "a description of no sense");
  const MigrationRequest& asked = running.request;
  const auto speed = json_get_or<double>(description, "bytes_per_second", 0);
  if (!speed.ok()) return speed.error();
  DVS_ASSIGN(const Choice choice,
             choose_algorithm(asked.algorithm, {*memory, *speed, !asked.file_server.empty()}));
  record.why = choice.why;
  if (reason->empty()) {
    record.algorithm = algorithm_name(choice.algorithm);
    record.max_downtime_ms = static_cast<int>(asked.max_downtime.count());
    record.bandwidth = asked.bandwidth;
    record.adaptive = choice.adaptive;
    record.file_server = asked.file_server;
    record.compress = asked.compress;
    record.patience_ms = static_cast<int>(asked.patience.count());
    if (copies_ahead(record.algorithm)) record.state = MigrationState::kCopying;
    return {};
  }
  if (asked.algorithm != "auto" && choice.algorithm != Algorithm::kTotalCopy) {
    return Error(Code::kUnsupported, asked.algorithm + " is not possible: " + *reason);
  }
  record.why = "total-copy by the engine: " + *reason;
  return {};
}

// One transaction that takes the lock and writes the record everybody acts on, if the endpoints are
// where and what the preflight has found. While it is copied the process may bind and unbind
// others: Proposer::freeze() names those that it has in the end.
void Coordinator::start(const RunningPtr& running) {
  MigrationRecord& record = running->record;
  record.started_ns = scheduler_.realtime_ns();
  running->started_ns = scheduler_.monotonic_ns();
  running_[record.id] = running;
  step(*running, Event::kFits);
  faults_.die_at(Fault::kCoordinatorDiesChecked);
  write_start(running);
}

void Coordinator::write_start(const RunningPtr& running) {
  const MigrationRecord& record = running->record;
  const std::string lock = keys_.lock(record.dc, record.task);
  std::vector<Compare> compares = {Compare::absent(lock),
                                   Compare::absent(keys_.migration(record.id))};
  const bool copies = record.state == MigrationState::kCopying;
  for (size_t i = 0; i < record.slots.size(); ++i) {
    if (copies && record.slots[i] != running->request.slot) continue;
    compares.push_back(
        Compare::exists_at(keys_.endpoint(record.dc, record.slots[i]), running->slot_revisions[i]));
  }
  std::vector<Change> changes = {Change::put(lock, record.id),
                                 Change::put(keys_.migration(record.id), to_text(to_json(record)))};
  store_.txn(std::move(compares), std::move(changes), [this, running](Result<TxnResult> result) {
    if (running->phase != Phase::kStarting) return;  // the record was seen before the answer
    if (result.ok() && result->applied) return on_started(running);
    if (result.ok()) return look_for_start(running);
    log::warn("migration {}: START: {}", running->record.id, result.error().message());
    start_again(running);
  });
}

// Whether it was written is not known; written twice it cannot be.
void Coordinator::start_again(const RunningPtr& running) {
  const auto limit = running->request.timeout.value_or(kFrozenLimit);
  if (elapsed_ms(*running) > static_cast<double>(limit.count())) {
    running_.erase(running->record.id);
    return dismiss(running, Error(Code::kTimeout, "the directory did not take the START in time"));
  }
  scheduler_.after(kAskAgain, [this, running] {
    if (running->phase == Phase::kStarting) write_start(running);
  });
}

// It is not taken: it was written by an earlier try, or somebody else was quicker.
void Coordinator::look_for_start(const RunningPtr& running) {
  store_.range(keys_.migration(running->record.id), [this, running](Result<RangeResult> found) {
    if (running->phase != Phase::kStarting) return;
    if (!found.ok()) return start_again(running);
    if (!found->items.empty()) return on_started(running);
    running_.erase(running->record.id);
    dismiss(running,
            Error(Code::kConflict,
                  "another migration of that process is under way, or it has just moved, bound or "
                  "unbound an endpoint; try again"));
  });
}

void Coordinator::on_started(const RunningPtr& running) {
  if (running->record.state == MigrationState::kActive) return on_active(running);
  step(*running, Event::kCopyingOpened);
  faults_.die_at(Fault::kCoordinatorDiesCopying);
  if (running->request.timeout) {
    set_alarm(running, *running->request.timeout, [this, running] { copying_is_late(running); });
  }
}

// The process is being stopped: from here on it cannot last for long.
void Coordinator::on_active(const RunningPtr& running) {
  step(*running, Event::kStarted);
  faults_.die_at(Fault::kCoordinatorDiesStarted);
  auto limit = kFrozenLimit;
  if (running->request.timeout && !running->request.force) {
    const std::chrono::duration<double, std::milli> passed(elapsed_ms(*running));
    limit = std::min(
        limit, std::chrono::ceil<std::chrono::milliseconds>(*running->request.timeout - passed));
  }
  set_alarm(running, std::max(limit, std::chrono::milliseconds(0)),
            [this, running] { give_up(running); });
}

void Coordinator::copying_is_late(const RunningPtr& running) {
  if (!running->request.force) return give_up(running);
  if (running->phase != Phase::kCopying) return;
  step(*running, Event::kLate);
  const Json args = {{"dc", running->record.dc}, {"id", running->record.id}};
  call(running->record.source, "migrate.hurry", args, [](Result<Json>) {});
}

// One that is set later replaces it.
void Coordinator::set_alarm(const RunningPtr& running, std::chrono::milliseconds after,
                            std::function<void()> ring) {
  scheduler_.after(after, [running, number = ++running->alarm, ring = std::move(ring)] {
    if (running->alarm == number) ring();
  });
}

// The time allowed is over: ROLLBACK, unless it has an outcome already. Asked until one is known.
void Coordinator::give_up(const RunningPtr& running) {
  if (!is_undecided(running->phase)) return;
  step(*running, Event::kLate);
  MigrationRecord record = running->record;
  record.state = MigrationState::kRolledBack;
  record.reason = "not finished within the time allowed";
  record.ended_ns = scheduler_.realtime_ns();
  const std::string key = keys_.migration(record.id);
  store_.txn({Compare::exists_at(key, running->revision)},
             {Change::put(key, to_text(to_json(record))),
              Change::remove(keys_.lock(record.dc, record.task))},
             [this, running](Result<TxnResult>) {
               if (!is_undecided(running->phase)) return;
               set_alarm(running, kAskAgain, [this, running] { give_up(running); });
             });
}

Coordinator::RunningPtr Coordinator::find(const std::string& id) const {
  auto found = running_.find(id);
  return found == running_.end() ? nullptr : found->second;
}

void Coordinator::on_record(const MigrationRecord& record, int64_t revision) {
  auto running = find(record.id);
  if (running == nullptr) return;
  running->revision = revision;
  if (!is_undecided(running->phase)) return on_memory(running, record);
  auto phases = running->record.phases;
  running->record = record;
  running->record.phases.merge(phases);
  if (is_open(record.state)) {
    if (running->phase == Phase::kStarting) return on_started(running);
    const bool active = record.state == MigrationState::kActive;
    if (running->phase == Phase::kCopying && active) on_active(running);
    return;
  }
  step(*running,
       record.state == MigrationState::kCommitted ? Event::kCommitted : Event::kRolledBack);
  faults_.die_at(Fault::kCoordinatorDiesDecided);
  ++running->alarm;
  finish_soon(running);
}

// It was committed, with memory owed; that is over now.
void Coordinator::on_memory(const RunningPtr& running, const MigrationRecord& record) {
  if (running->record.memory == record.memory) return;
  running->record.memory = record.memory;
  running->record.reason = record.reason;
  finish_soon(running);
}

// Memory that is owed may take as long as it takes.
void Coordinator::finish_soon(const RunningPtr& running) {
  if (running->record.memory == OwedMemory::kOwed) return;
  set_alarm(running, kFinishLimit, [this, running] { finish(running, Event::kLate); });
  finish_if_done(running);
}

void Coordinator::tell(const RunningPtr& running, Json event) {
  event["t_ms"] = elapsed_ms(*running);
  running->latest.update(event);
  running->on_event(event);
}

Json Coordinator::progress(const std::string& id) const {
  const auto running = find(id);
  if (running == nullptr) return Json::object();
  Json latest = running->latest;
  latest.erase("event");
  latest["t_ms"] = elapsed_ms(*running);
  const auto total = json_get_or<uint64_t>(latest, "total", 0);
  if (!total.ok() || *total == 0) return latest;
  const uint64_t left = *total - std::min(*total, running->sent);
  latest["percent"] = 100.0 * static_cast<double>(*total - left) / static_cast<double>(*total);
  latest["remaining_bytes"] = left;
  if (running->rate == 0) return latest;
  const auto downtime_ms = json_get_or<double>(latest, "expected_downtime_ms", 0);
  latest["rate"] = running->rate;
  latest["seconds_left"] =
      static_cast<double>(left) / running->rate + (downtime_ms.ok() ? *downtime_ms / 1000 : 0);
  return latest;
}

void Coordinator::on_phase(const std::string& id, const std::string& phase) {
  if (auto running = find(id)) tell(running, {{"event", "phase"}, {"phase", phase}});
}

void Coordinator::on_progress(const std::string& id, uint64_t sent, uint64_t total) {
  auto running = find(id);
  if (running == nullptr) return;
  const double now_ms = elapsed_ms(*running);
  // Less than before: the next round, or phase, has begun.
  if (sent > running->sent && now_ms > running->sent_ms) {
    const double rate =
        static_cast<double>(sent - running->sent) / (now_ms - running->sent_ms) * 1000;
    running->rate = running->rate == 0 ? rate : (running->rate + rate) / 2;
  }
  running->sent = sent;
  running->sent_ms = now_ms;
  tell(running, {{"event", "progress"}, {"sent", sent}, {"total", total}});
}

void Coordinator::on_round(const std::string& id, Json round) {
  if (auto running = find(id)) {
    round["event"] = "round";
    tell(running, std::move(round));
  }
}

void Coordinator::on_done(const std::string& id, const Json& report) {
  auto running = find(id);
  if (running == nullptr) return;
  auto role = json_get<std::string>(report, "role");
  if (role.ok() && *role == "source") running->source_done = true;
  if (role.ok() && *role == "target") running->target_done = true;
  if (auto phases = json_get<Json>(report, "phases"); phases.ok() && phases->is_object()) {
    for (const auto& [phase, ms] : phases->items()) {
      if (ms.is_number()) running->record.phases[phase] = ms.get<double>();
    }
  }
  const auto faults = json_get<uint64_t>(report, "faults");
  const auto p99_ms = json_get<double>(report, "fault_p99_ms");
  if (faults.ok() && p99_ms.ok()) {
    running->record.faults = *faults;
    running->record.fault_p99_ms = *p99_ms;
  }
  finish_if_done(running);
}

void Coordinator::finish_if_done(const RunningPtr& running) {
  if (running->phase != Phase::kReporting || running->record.memory == OwedMemory::kOwed) return;
  if (running->source_done && running->target_done) finish(running, Event::kReported);
}

// Completes the record with what was measured; the outcome in it stays what it is.
void Coordinator::finish(const RunningPtr& running, Event why) {
  if (running_.erase(running->record.id) == 0) return;
  step(*running, why);
  ++running->alarm;
  MigrationRecord& record = running->record;
  record.ended_ns = scheduler_.realtime_ns();
  record.migration_ms = ms_between(running->started_ns, scheduler_.monotonic_ns());
  for (const char* phase : {"freeze", "sync", "dump", "transfer", "restore", "decide", "resume"}) {
    if (auto found = record.phases.find(phase); found != record.phases.end()) {
      record.frozen_ms += found->second;
    }
  }
  record.settled = running->source_done && running->target_done;
  store_.txn({Compare::exists_at(keys_.migration(record.id), running->revision)},
             {Change::put(keys_.migration(record.id), to_text(to_json(record)))},
             [this](Result<TxnResult>) { prune(); });
  running->on_event = nullptr;  // an alarm keeps the rest for a while, and not who has asked
  std::exchange(running->done, nullptr)(record);
}

void Coordinator::prune() {
  constexpr size_t kMostAtOnce = 50;  // etcd takes 128 operations in a transaction
  std::vector<Compare> compares;
  std::vector<Change> changes;
  for (const auto* entry : removable(cluster_.migrations(), records_kept_, kMostAtOnce)) {
    const std::string key = keys_.migration(entry->record.id);
    compares.push_back(Compare::exists_at(key, entry->revision));
    changes.push_back(Change::remove(key));
  }
  if (changes.empty()) return;
  store_.txn(std::move(compares), std::move(changes), [](Result<TxnResult>) {});
}

}  // namespace dvs
