#include "migrate/proposer.h"

#include <algorithm>

#include "base/log.h"

namespace dvs {
namespace {

constexpr auto kAgain = std::chrono::milliseconds(200);
constexpr auto kSoon = std::chrono::milliseconds(2);

}  // namespace

uint32_t committed_epoch(const Cluster& cluster, const MigrationRecord& record) {
  uint32_t epoch = 0;
  for (uint32_t slot : record.slots) {
    if (const auto* entry = cluster.endpoint(record.dc, slot)) {
      epoch = std::max(epoch, entry->record.epoch);
    }
  }
  return epoch;
}

Compare Proposer::unchanged(const std::string& dc, uint32_t slot) const {
  const auto* endpoint = cluster_.endpoint(dc, slot);
  const int64_t gone = -1;  // refuses
  return Compare::exists_at(cluster_.keys().endpoint(dc, slot),
                            endpoint == nullptr ? gone : endpoint->revision);
}

// ---- START after copying ----

void Proposer::freeze(const MigrationRecord& record, const EndpointsNow& endpoints) {
  const auto* entry = cluster_.migration(record.id);
  if (entry == nullptr || entry->record.state != MigrationState::kCopying) return;
  const auto bound = endpoints();
  if (!bound.has_value()) return freeze_later(record, endpoints, kSoon);
  MigrationRecord active = record;
  active.state = MigrationState::kActive;
  active.slots.clear();
  active.endpoints.clear();
  const std::string key = cluster_.keys().migration(record.id);
  std::vector<Compare> compares = {Compare::exists_at(key, entry->revision)};
  for (const auto& [slot, number] : *bound) {
    active.slots.push_back(slot);
    active.endpoints.push_back(number);
    compares.push_back(unchanged(record.dc, slot));
  }
  store_.txn(std::move(compares), {Change::put(key, to_text(to_json(active)))},
             [weak = weak_from_this(), record, endpoints](Result<TxnResult> result) {
               auto self = weak.lock();
               if (self == nullptr || (result.ok() && result->applied)) return;
               self->freeze_later(record, endpoints, kAgain);
             });
}

void Proposer::freeze_later(const MigrationRecord& record, const EndpointsNow& endpoints,
                            std::chrono::milliseconds delay) {
  scheduler_.after(delay, [weak = weak_from_this(), record, endpoints] {
    if (auto self = weak.lock()) self->freeze(record, endpoints);
  });
}

// ---- the outcome ----

namespace {

// What was measured where the proposer is. Everything else is as the directory has it: the task may
// have bound endpoints since the proposer heard of the migration, and their gates are closed too.
void add_measured(MigrationRecord& record, const MigrationRecord& known) {
  record.image_bytes = std::max(record.image_bytes, known.image_bytes);
  record.memory_bytes = std::max(record.memory_bytes, known.memory_bytes);
  record.owed_bytes = std::max(record.owed_bytes, known.owed_bytes);
  record.rounds = std::max(record.rounds, known.rounds);
  record.transfer_ms = std::max(record.transfer_ms, known.transfer_ms);
  for (const auto& [phase, ms] : known.phases) record.phases[phase] = ms;
}

}  // namespace

// The task's endpoints have been bound again since START: the capsule may be of the earlier ones.
bool Proposer::bound_since(const Cluster::MigrationEntry& start) const {
  return std::any_of(start.record.slots.begin(), start.record.slots.end(), [&](uint32_t slot) {
    const auto* endpoint = cluster_.endpoint(start.record.dc, slot);
    return endpoint != nullptr && endpoint->incarnation > static_cast<uint64_t>(start.revision);
  });
}

std::vector<Change> Proposer::new_places(const MigrationRecord& record) const {
  std::vector<Change> changes;
  const uint32_t epoch = committed_epoch(cluster_, record) + 1;
  for (uint32_t slot : record.slots) {
    const auto* entry = cluster_.endpoint(record.dc, slot);
    if (entry == nullptr) continue;
    EndpointRecord moved = entry->record;
    moved.node = self_.id;
    moved.epoch = epoch;
    changes.push_back(Change::put(cluster_.keys().endpoint(record.dc, slot),
                                  to_text(to_json(moved)), self_.lease));
  }
  return changes;
}

// The record must be as it was at START: the first writer wins.
void Proposer::propose(const MigrationRecord& record, MigrationState outcome,
                       const std::string& reason, int attempt) {
  const auto* entry = cluster_.migration(record.id);
  if (entry == nullptr || !is_open(entry->record.state)) return;
  const bool commits = outcome == MigrationState::kCommitted;
  if (commits && entry->record.state == MigrationState::kCopying) {
    return propose_again(record, outcome, reason, attempt, false);  // START is not known here yet
  }
  if (commits && bound_since(*entry)) return propose_again(record, outcome, reason, 1, true);
  const std::string key = cluster_.keys().migration(record.id);
  MigrationRecord decided = entry->record;
  add_measured(decided, record);
  decided.state = outcome;
  decided.reason = reason;
  decided.memory = commits ? record.memory : OwedMemory::kNone;
  decided.ended_ns = scheduler_.realtime_ns();
  std::vector<Compare> compares = {Compare::exists_at(key, entry->revision)};
  // The places first: who hears of the outcome knows them then.
  std::vector<Change> changes;
  if (commits) {
    for (uint32_t slot : decided.slots) compares.push_back(unchanged(record.dc, slot));
    changes = new_places(decided);
  }
  changes.push_back(Change::put(key, to_text(to_json(decided))));
  changes.push_back(Change::remove(cluster_.keys().lock(record.dc, record.task)));
  store_.txn(std::move(compares), std::move(changes),
             [weak = weak_from_this(), record, outcome, reason, attempt](Result<TxnResult> result) {
               auto self = weak.lock();
               if (self == nullptr) return;
               if (!result.ok() || !result->applied) {
                 return self->propose_again(record, outcome, reason, attempt, result.ok());
               }
               if (outcome == MigrationState::kCommitted) {
                 self->faults_.die_at(Fault::kTargetDiesProposed);
               }
             });
}

// A commit that is refused again although the record is active: the endpoints are not what they
// were.
void Proposer::propose_again(const MigrationRecord& record, MigrationState outcome,
                             const std::string& reason, int attempt, bool refused) {
  const bool lost = refused && attempt > 0 && outcome == MigrationState::kCommitted;
  scheduler_.after(kAgain, [weak = weak_from_this(), record, outcome, reason, attempt, lost] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->propose(record, lost ? MigrationState::kRolledBack : outcome,
                  lost ? "the endpoints changed during the migration" : reason, attempt + 1);
  });
}

void Proposer::rollback(const MigrationRecord& record, const std::string& reason) {
  log::warn("migration {}: proposing rollback: {}", record.id, reason);
  propose(record, MigrationState::kRolledBack, reason, 0);
}

void Proposer::commit(const MigrationRecord& record) {
  propose(record, MigrationState::kCommitted, "", 0);
}

// ---- nothing is owed any more ----

void Proposer::settle_memory(const std::string& migration, OwedMemory memory,
                             const std::string& reason) {
  const auto* entry = cluster_.migration(migration);
  if (entry == nullptr || entry->record.memory != OwedMemory::kOwed) return on_settled(migration);
  MigrationRecord settled = entry->record;
  settled.memory = memory;
  settled.reason = reason;
  const std::string key = cluster_.keys().migration(migration);
  store_.txn({Compare::exists_at(key, entry->revision)},
             {Change::put(key, to_text(to_json(settled)))},
             [weak = weak_from_this(), migration, memory, reason](Result<TxnResult> result) {
               auto self = weak.lock();
               if (self == nullptr || (result.ok() && result->applied)) return;
               self->scheduler_.after(kAgain, [weak, migration, memory, reason] {
                 if (auto again = weak.lock()) again->settle_memory(migration, memory, reason);
               });
             });
}

void Proposer::await_settled(const std::string& migration, std::function<void()> then) {
  when_settled_[migration].push_back(std::move(then));
  const auto* entry = cluster_.migration(migration);
  if (entry == nullptr || entry->record.memory != OwedMemory::kOwed) on_settled(migration);
}

void Proposer::on_settled(const std::string& migration) {
  auto waiting = when_settled_.extract(migration);
  if (waiting.empty()) return;
  for (auto& then : waiting.mapped()) {
    scheduler_.post([weak = weak_from_this(), then = std::move(then)] {
      if (!weak.expired()) then();
    });
  }
}

void Proposer::look_for_lost_targets(const std::string& dc) {
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    if (record.dc != dc || record.memory != OwedMemory::kOwed) continue;
    if (record.target == self_.name) continue;
    if (cluster_.node(record.target) != nullptr || !waiting_for_.insert(id).second) continue;
    scheduler_.after(std::chrono::milliseconds(record.patience_ms),
                     [weak = weak_from_this(), id = id, target = record.target] {
                       auto self = weak.lock();
                       if (self == nullptr) return;
                       self->waiting_for_.erase(id);
                       if (self->cluster_.node(target) != nullptr) return;
                       self->settle_memory(id, OwedMemory::kLost,
                                           "node " + target + " was lost, and the process with it");
                     });
  }
}

}  // namespace dvs
