// START, COMMIT and ROLLBACK asked for by an application (dvk_migr_*): the endpoint changes its
// place, but DVS moves no process; whoever asks has moved it, or has a backup to take over. Only
// what is posted follows the endpoint; requests that the old process took are its own affair.
#include <algorithm>
#include <random>

#include "base/clock.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr auto kLookAgain = std::chrono::milliseconds(2);
constexpr auto kOrphanAgain = std::chrono::milliseconds(500);
constexpr int64_t kNewsLimitNs = 5'000'000'000;

}  // namespace

const Cluster::MigrationEntry* DcPart::manual_migration_of(uint32_t slot) const {
  for (const auto& [id, entry] : context_.cluster.migrations()) {
    const MigrationRecord& record = entry.record;
    if (record.dc != record_.name || record.state != MigrationState::kActive) continue;
    if (std::find(record.slots.begin(), record.slots.end(), slot) != record.slots.end()) {
      return &entry;
    }
  }
  return nullptr;
}

// A request of another node may come before what it is about.
void DcPart::await_migration(const std::string& id, int64_t until_ns, Done<int> done) {
  if (context_.cluster.migration(id) != nullptr) return done(OK);
  if (monotonic_ns() > until_ns) return done(EDVSRSCBUSY);
  run_after(context_.executor, kLookAgain, [weak = weak_from_this(), id, until_ns, done] {
    if (auto self = weak.lock()) self->await_migration(id, until_ns, done);
  });
}

void DcPart::serve_migrate(const Asked& asked, const Answer& answer) {
  Done<int> done = [answer](Result<int> rc) { answer(rc.ok() ? *rc : EDVSRSCBUSY); };
  const int op = asked.command;
  const int node = asked.node;
  const uint32_t slot = region_.slot_of(asked.endpoint);
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  const auto* active = manual_migration_of(slot);
  if (active != nullptr && !active->record.manual) return done(EDVSMIGRATE);
  if (op == MIGR_START) {
    if (entry == nullptr || active != nullptr) return done(OK);
    return start_manually(slot, std::move(done));
  }
  if (active == nullptr || entry == nullptr) return done(EDVSMIGRATE);
  if (op == MIGR_ROLLBACK) {
    return end_manually(active->record, active->revision, MigrationState::kRolledBack, {},
                        std::move(done));
  }
  const auto target = node >= 0 && node < kMaxNodes
                          ? context_.cluster.name_of(static_cast<NodeId>(node))
                          : std::nullopt;
  const auto& nodes = record_.nodes;
  if (!target.has_value() || std::find(nodes.begin(), nodes.end(), *target) == nodes.end()) {
    return done(EDVSNODCNODE);
  }
  const Json args = {
      {"dc", record_.name}, {"slot", slot}, {"pid", asked.pid}, {"id", active->record.id}};
  context_.rpc->call(static_cast<NodeId>(node), "migrate.manual", args, std::chrono::seconds(10),
                     [done](Result<Json> told) {
                       auto rc = told.ok() ? json_get<int>(*told, "rc") : Result<int>(told.error());
                       done(rc.ok() ? *rc : EDVSRSCBUSY);
                     });
}

void DcPart::start_manually(uint32_t slot, Done<int> done) {
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  MigrationRecord record;
  record.id = "a" + std::to_string(realtime_ns()) + "-" + std::to_string(slot);
  record.dc = record_.name;
  record.task = entry->record.task;
  record.slots = {slot};
  record.endpoints = {bindings_.endpoint_number(slot, entry->incarnation)};
  record.source = record.target =
      context_.cluster.name_of(entry->record.node).value_or(context_.config.name);
  record.coordinator = context_.config.name;
  record.manual = true;
  record.started_ns = realtime_ns();
  const std::string lock = context_.keys().lock(record_.name, record.task);
  const std::string endpoint = context_.keys().endpoint(record_.name, slot);
  context_.store.txn({Compare::absent(lock), Compare::exists_at(endpoint, entry->revision)},
                     {Change::put(lock, record.id),
                      Change::put(context_.keys().migration(record.id), to_text(to_json(record)))},
                     [self = shared_from_this(), done](Result<TxnResult> result) {
                       if (!result.ok()) return done(result.error());
                       if (!result->applied) return done(EDVSMIGRATE);
                       self->context_.cluster.when_known(result->revision, [done] { done(OK); });
                     });
}

void DcPart::end_manually(MigrationRecord record, int64_t revision, MigrationState outcome,
                          std::vector<Change> changes, Done<int> done) {
  record.state = outcome;
  record.ended_ns = realtime_ns();
  const std::string key = context_.keys().migration(record.id);
  changes.push_back(Change::put(key, to_text(to_json(record))));
  changes.push_back(Change::remove(context_.keys().lock(record_.name, record.task)));
  context_.store.txn({Compare::exists_at(key, revision)}, std::move(changes),
                     [self = shared_from_this(), done](Result<TxnResult> result) {
                       if (!result.ok()) return done(result.error());
                       if (!result->applied) return done(EDVSMIGRATE);
                       self->context_.cluster.when_known(result->revision, [done] { done(OK); });
                     });
}

// COMMIT on the node where the endpoint is to be.
void DcPart::commit_manually(const std::string& id, uint32_t slot, int pid, Done<int> done) {
  await_migration(id, monotonic_ns() + kNewsLimitNs,
                  [self = shared_from_this(), slot, pid, done](Result<int> known) {
                    if (!known.ok() || *known != OK) return done(std::move(known));
                    self->commit_known(slot, pid, done);
                  });
}

void DcPart::commit_known(uint32_t slot, int pid, Done<int> done) {
  const auto* active = slot < region_.slots() ? manual_migration_of(slot) : nullptr;
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (active == nullptr || !active->record.manual || entry == nullptr) return done(EDVSMIGRATE);
  if (pid == PROC_NO_PID) pid = region_.at(slot).tid.load();
  const auto thread = find_thread(pid);
  // (On its own node another process gets the endpoint by unbinding and binding it.)
  const bool stays = entry->record.node == context_.id;
  if (!thread.has_value() || (stays && pid != entry->record.tid)) return done(EDVSBADPID);
  EndpointRecord moved = entry->record;
  moved.node = context_.id;
  moved.epoch += 1;
  moved.pid = thread->second.dc_pid;
  moved.tid = thread->second.dc_tid;
  moved.task = thread->first;
  MigrationRecord record = active->record;
  record.target = context_.config.name;
  end_manually(record, active->revision, MigrationState::kCommitted,
               {Change::put(context_.keys().endpoint(record_.name, slot), to_text(to_json(moved)),
                            context_.lease)},
               std::move(done));
}

// START at every node. Where the endpoint is, nothing can be given to it soon after: who waits in a
// receive is parked.
void DcPart::begin_by_hand(const MigrationRecord& record) {
  for (const uint32_t slot : record.slots) {
    if (context_.cluster.endpoint(record_.name, slot) == nullptr) end_orphan(slot);
    if (slot < region_.slots() && bindings_.is_bound(slot)) park_manually(record.id, slot);
  }
}

void DcPart::park_manually(const std::string& migration, uint32_t slot) {
  const auto* entry = context_.cluster.migration(migration);
  if (entry == nullptr || entry->record.state != MigrationState::kActive) return;
  if (dvk::settle(region_, {slot})) return;
  run_after(context_.executor, kLookAgain, [weak = weak_from_this(), migration, slot] {
    if (auto self = weak.lock()) self->park_manually(migration, slot);
  });
}

// The endpoint has gone between START and the end, so there is nothing to commit or roll back.
// Every node that hears of it says so; the first one counts.
void DcPart::end_orphan(uint32_t slot) {
  const auto* active = manual_migration_of(slot);
  const bool orphan = active != nullptr && active->record.manual &&
                      context_.cluster.endpoint(record_.name, slot) == nullptr;
  if (!orphan) return;
  MigrationRecord record = active->record;
  record.reason = "the endpoint was unbound";
  end_manually(record, active->revision, MigrationState::kRolledBack, {},
               [weak = weak_from_this(), slot](Result<int> ended) {
                 auto self = weak.lock();
                 if (self == nullptr || ended.ok()) return;
                 run_after(self->context_.executor, kOrphanAgain, [weak, slot] {
                   if (auto again = weak.lock()) again->end_orphan(slot);
                 });
               });
}

// The outcome at every node: the place is in the endpoint's record.
void DcPart::end_by_hand(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    if (slot >= region_.slots()) continue;
    const auto* entry = context_.cluster.endpoint(record_.name, slot);
    const bool here = entry != nullptr && entry->record.node == context_.id;
    if (!here) {
      bindings_.forget(slot);
      if (dvk::load_kind(region_.at(slot)) == dvk::Kind::kLocal && entry != nullptr) {
        dvk::commit_away(region_, {slot}, entry->record.node, entry->record.epoch);
      }
    } else if (record.state == MigrationState::kCommitted) {
      const bool moved = dvk::load_kind(region_.at(slot)) != dvk::Kind::kLocal;
      bindings_.forget(slot);
      if (moved) dvk::succeed(region_, slot, entry->record.epoch);
      bindings_.bind_local(entry->record, entry->incarnation, [] {});
    }
    dvk::open_gate(region_, slot);
    place(slot);
  }
}

}  // namespace dvs
