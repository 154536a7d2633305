// This node's side of migrations of one DC: what the Source and Target state machines have done.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "container/shared_files.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

// Names of the pieces that are not images of the engine.
constexpr const char* kCapsulePiece = "dvs-capsule";
constexpr const char* kTaskPiece = "dvs-task.json";
constexpr const char* kLogPiece = "dvs-log";

constexpr uint64_t kLongestLog = 256 << 20;
constexpr auto kFreezeLimit = std::chrono::milliseconds(5000);
constexpr auto kReportAgain = std::chrono::milliseconds(100);
constexpr int kReportAttempts = 40;
constexpr auto kProposeAgain = std::chrono::milliseconds(200);

}  // namespace

std::optional<NodeId> DcPart::node_id(const std::string& name) const {
  const auto found = context_.cluster.members().find(name);
  if (found == context_.cluster.members().end()) return std::nullopt;
  return found->second;
}

EngineSite DcPart::site(const std::string& migration) const {
  EngineSite site;
  site.prefix = container_->enter_prefix();
  site.dir = paths::engine_dir(dir_) + "/" + migration;
  return site;
}

// ---- the record changes ----

// Whether this node is still busy with a migration of that task, perhaps one that is decided.
bool DcPart::migrates(const std::string& task, const std::string& other_than) const {
  const auto same = [&](const auto& entry) {
    return entry.first != other_than && entry.second->record().task == task;
  };
  return std::any_of(sources_.begin(), sources_.end(), same) ||
         std::any_of(targets_.begin(), targets_.end(), same);
}

// The next migration of a task may begin as soon as the last one is decided. What is to be done
// here for the last one comes first: it opens the gates that the next one closes.
void DcPart::on_migration(const MigrationRecord& record, const MigrationRecord* before) {
  const bool settled = !is_open(record.state) && record.memory != OwedMemory::kOwed;
  if (settled) on_memory_settled(record.id);
  if (migrates(record.task, record.id)) {
    postponed_.emplace_back(record, before == nullptr ? std::nullopt : std::optional(*before));
    return;
  }
  if (!is_open(record.state)) {
    if (before == nullptr || is_open(before->state)) end_migration(record);
  } else if (before == nullptr) {
    begin_migration(record);
  } else if (before->state == MigrationState::kCopying && record.state == MigrationState::kActive) {
    activate_migration(record);
  }
}

void DcPart::take_up_postponed() {
  context_.later([weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr) return;
    for (const auto& [record, before] : std::exchange(self->postponed_, {})) {
      self->on_migration(record, before.has_value() ? &*before : nullptr);
    }
  });
}

void DcPart::close_gates(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    if (slot < region_.slots()) dvk::close_gate(region_, slot);
  }
  const std::string& here = context_.config.name;
  if (record.source != here && record.target != here) {
    context_.faults.die_at(Fault::kBystanderDiesStarted);
  }
}

void DcPart::activate_migration(const MigrationRecord& record) {
  close_gates(record);
  if (auto found = targets_.find(record.id); found != targets_.end()) {
    found->second->on_active(record);
  }
  if (auto found = sources_.find(record.id); found != sources_.end()) {
    const auto source = found->second;
    source->on_active(record);
  }
}

void DcPart::begin_migration(const MigrationRecord& record) {
  if (record.state == MigrationState::kActive) close_gates(record);
  if (record.manual) return begin_manual(record);
  if (record.target == context_.config.name) {
    arrivals_.erase(record.id);
    context_.faults.die_at(Fault::kTargetDiesExpecting);
    targets_[record.id] =
        std::make_shared<Target>(static_cast<TargetHost&>(*this), context_.faults, record);
    const bool ready = record.algorithm.empty() || pagers_.count(record.id) != 0;
    if (!ready) start_pager({record.id, record.task, true, record.patience_ms});
    if (auto pager = pagers_.find(record.id); pager != pagers_.end()) pager->second.record = record;
  }
  if (record.file_server == context_.config.name) start_keeping(record);
  for (auto& done : std::exchange(expected_[record.id], {})) done(true);
  expected_.erase(record.id);
  if (record.source == context_.config.name) {
    auto source = std::make_shared<Source>(context_.executor, static_cast<SourceHost&>(*this),
                                           context_.faults, record);
    sources_[record.id] = source;
    source->start();
  }
}

void DcPart::end_migration(const MigrationRecord& record) {
  if (record.manual) return end_manual(record);
  if (auto found = sources_.find(record.id); found != sources_.end()) {
    found->second->on_outcome(record);
  } else if (auto target = targets_.find(record.id); target != targets_.end()) {
    target->second->on_outcome(record);
  }
  const bool involved = sources_.count(record.id) + targets_.count(record.id) > 0;
  const bool committed = record.state == MigrationState::kCommitted;
  if (record.file_server == context_.config.name) keep_until_settled(record);
  if (involved && (committed || sources_.count(record.id) > 0)) return;
  if (!involved) context_.faults.die_at(Fault::kBystanderDiesDecided);
  // A bystander, or the target of a rollback: the place is in the endpoints' records.
  for (uint32_t slot : record.slots) {
    if (slot >= region_.slots()) continue;
    dvk::open_gate(region_, slot);
    ops_->on_place_changed(slot);
  }
}

void DcPart::expect_images(const std::string& migration, Done<bool> done) {
  if (targets_.count(migration) + keepers_.count(migration) != 0) return done(true);
  const auto* entry = context_.cluster.migration(migration);
  if (entry != nullptr && !is_open(entry->record.state)) {
    return done(Error(Code::kConflict, "that migration has ended"));
  }
  expected_[migration].push_back(std::move(done));
}

void DcPart::on_image(NodeId from, const std::string& migration, std::string_view body) {
  const auto found = targets_.find(migration);
  const auto target = found == targets_.end() ? nullptr : found->second;
  if (target != nullptr && target->is_receiving() && node_id(target->record().source) == from) {
    return target->on_image(body);
  }
  if (is_memory(body)) on_memory(from, migration, body);
}

void DcPart::on_writable(NodeId node) {
  for (auto& [id, source] : std::map(sources_)) {
    if (auto memory = memories_.find(id); memory != memories_.end()) memory->second->on_writable();
    if (node_id(source->record().target) == node) source->on_writable();
  }
  for (auto& [id, server] : servers_) server->on_writable();
}

void DcPart::on_link_up(NodeId node) {
  ops_->on_link_up(node);
  for (auto& [id, pager] : pagers_) {
    if (node_id(memory_comes_from(pager.record)) == node) pager.fetch->on_link_up();
  }
}

void DcPart::on_link_down(NodeId node) {
  for (auto& [id, source] : std::map(sources_)) {
    if (node_id(source->record().target) == node) {
      source->on_target_lost("the link to the target broke");
    } else if (node_id(source->record().file_server) == node) {
      source->on_target_lost("the link to the file server broke");
    }
  }
  for (auto& [id, server] : servers_) {
    const auto* entry = context_.cluster.migration(id);
    if (entry != nullptr && node_id(entry->record.target) == node) server->on_link_down();
  }
  for (auto& [id, target] : std::map(targets_)) {
    if (node_id(target->record().source) == node) {
      target->on_source_lost("the link to the source broke");
    }
  }
}

void DcPart::tell_coordinator(const MigrationRecord& record, const char* call, Json args) {
  const auto node = node_id(record.coordinator);
  if (!node.has_value()) return;
  args["id"] = record.id;
  context_.rpc->call(*node, call, std::move(args), std::chrono::seconds(5), [](Result<Json>) {});
}

// The coordinator waits for this; the link to it may just be coming back.
void DcPart::report_done(const MigrationRecord& record, Json args, int attempt) {
  const auto node = node_id(record.coordinator);
  if (!node.has_value() || attempt == kReportAttempts) return;
  args["id"] = record.id;
  context_.rpc->call(*node, "migrate.done", args, std::chrono::seconds(5),
                     [weak = weak_from_this(), record, args, attempt](Result<Json> told) {
                       auto self = weak.lock();
                       if (self == nullptr || told.ok()) return;
                       run_after(self->context_.executor, kReportAgain,
                                 [weak, record, args, attempt] {
                                   if (auto again = weak.lock())
                                     again->report_done(record, args, attempt + 1);
                                 });
                     });
}

void DcPart::on_phase(const MigrationRecord& record, const char* phase) {
  tell_coordinator(record, "migrate.phase", {{"phase", phase}});
}

void DcPart::on_progress(const MigrationRecord& record, uint64_t sent, uint64_t total) {
  tell_coordinator(record, "migrate.progress", {{"sent", sent}, {"total", total}});
}

// ---- the decision ----

uint32_t DcPart::committed_epoch(const MigrationRecord& record) const {
  uint32_t epoch = 0;
  for (uint32_t slot : record.slots) {
    if (const auto* entry = context_.cluster.endpoint(record_.name, slot)) {
      epoch = std::max(epoch, entry->record.epoch);
    }
  }
  return epoch;
}

std::vector<Change> DcPart::commit_changes(const MigrationRecord& record) const {
  std::vector<Change> changes;
  const uint32_t epoch = committed_epoch(record) + 1;
  for (uint32_t slot : record.slots) {
    const auto* entry = context_.cluster.endpoint(record_.name, slot);
    if (entry == nullptr) continue;
    EndpointRecord moved = entry->record;
    moved.node = context_.id;
    moved.epoch = epoch;
    changes.push_back(Change::put(context_.keys().endpoint(record_.name, slot),
                                  to_text(to_json(moved)), context_.lease));
  }
  return changes;
}

// Writes the outcome, if the record is still as it was at START; the first writer wins. Whatever
// comes of it arrives by the watch. While the directory cannot be reached nothing is known and
// nothing happens: asked again until it answers.
void DcPart::propose(const MigrationRecord& record, MigrationState outcome,
                     const std::string& reason, int attempt) {
  const auto* entry = context_.cluster.migration(record.id);
  if (entry == nullptr || !is_open(entry->record.state)) return;
  const std::string key = context_.keys().migration(record.id);
  MigrationRecord decided = record;
  decided.state = outcome;
  decided.reason = reason;
  decided.ended_ns = realtime_ns();
  std::vector<Compare> compares = {Compare::exists_at(key, entry->revision)};
  // The places first: who hears of the outcome knows them then.
  std::vector<Change> changes;
  if (outcome == MigrationState::kCommitted) {
    for (uint32_t slot : record.slots) {
      const auto* endpoint = context_.cluster.endpoint(record_.name, slot);
      const std::string endpoint_key = context_.keys().endpoint(record_.name, slot);
      const int64_t gone = -1;  // refuses
      compares.push_back(
          Compare::exists_at(endpoint_key, endpoint == nullptr ? gone : endpoint->revision));
    }
    changes = commit_changes(record);
  }
  changes.push_back(Change::put(key, to_text(to_json(decided))));
  changes.push_back(Change::remove(context_.keys().lock(record_.name, record.task)));
  context_.store.txn(
      std::move(compares), std::move(changes),
      [weak = weak_from_this(), record, outcome, reason, attempt](Result<TxnResult> result) {
        auto self = weak.lock();
        if (self == nullptr) return;
        if (result.ok() && result->applied) {
          if (outcome == MigrationState::kCommitted) {
            self->context_.faults.die_at(Fault::kTargetDiesProposed);
          }
          return;
        }
        run_after(self->context_.executor, kProposeAgain, [=] {
          auto again = weak.lock();
          if (again == nullptr) return;
          // A commit that is refused although the record is active: the endpoints
          // are not what they were.
          const bool refused = result.ok() && attempt > 0 && outcome == MigrationState::kCommitted;
          again->propose(record, refused ? MigrationState::kRolledBack : outcome,
                         refused ? "the endpoints changed during the migration" : reason,
                         attempt + 1);
        });
      });
}

void DcPart::propose_rollback(const MigrationRecord& record, const std::string& reason) {
  log::warn("migration {}: proposing rollback: {}", record.id, reason);
  propose(record, MigrationState::kRolledBack, reason, 0);
}

void DcPart::propose_commit(const MigrationRecord& record) {
  propose(record, MigrationState::kCommitted, "", 0);
}

// ---- source ----

Result<bool> DcPart::settle(const MigrationRecord& record) {
  for (const auto& [slot, bound] : bound_) {
    const bool named =
        std::find(record.slots.begin(), record.slots.end(), slot) != record.slots.end();
    if (named != (bound.task == record.task)) {
      return Error(Code::kConflict, "the process has bound or unbound an endpoint meanwhile");
    }
  }
  if (!refuse_requests_of(record).ok()) return false;
  return dvk::settle(region_, record.slots);
}

void DcPart::freeze(const MigrationRecord& record, Done<bool> done) {
  context_.cgroups.freeze(context_.executor, cgroup_of(record.task), kFreezeLimit,
                          [self = shared_from_this(), record, done](Result<bool> frozen) {
                            if (!frozen.ok() && self->processes_of(record.task).empty()) {
                              return done(Error(Code::kNotFound, "the process has ended"));
                            }
                            done(std::move(frozen));
                          });
}

Status DcPart::check_frozen(const MigrationRecord& record) { return refuse_requests_of(record); }

DumpRequest DcPart::dump_request(const std::string& migration, const Task& task) const {
  DumpRequest request{
      site(migration),           task.root_pid,         context_.cgroups.dir(cgroup_of(task.id)),
      context_.no_mover.empty(), processes_of(task.id), {}};
  const auto memory = memories_.find(migration);
  const auto noted = notes_.find(migration);
  if (memory != memories_.end() && !memory->second->notes().empty()) {
    request.notes = memory->second->notes();
  } else if (noted != notes_.end()) {
    request.notes = noted->second;
  }
  return request;
}

void DcPart::dump(const MigrationRecord& record, Done<DumpResult> done) {
  context_.engine.dump(dump_request(record.id, tasks_.at(record.task)), std::move(done));
}

Result<std::vector<Piece>> DcPart::collect(const MigrationRecord& record) {
  const std::string directory = site(record.id).dir;
  DVS_ASSIGN(auto names, list_dir(directory));
  std::vector<Piece> pieces;
  for (const std::string& name : names) {
    Piece piece;
    piece.name = name;
    piece.path = directory + "/" + name;
    struct stat info {};
    if (::stat(piece.path.c_str(), &info) != 0) return errno_error("cannot stat " + piece.path);
    if (!S_ISREG(info.st_mode)) continue;
    piece.size = static_cast<uint64_t>(info.st_size);
    pieces.push_back(std::move(piece));
  }
  pieces.push_back(
      {kCapsulePiece, 0, dvk::encode_capsule(dvk::extract(region_, record.slots)), {}});
  pieces.push_back({kTaskPiece, 0, to_text(to_json(tasks_.at(record.task))), {}});
  DVS_ASSIGN(std::string log_bytes,
             read_shared(dir_, paths::log_file(record.task), kLongestLog + 1));
  if (log_bytes.size() > kLongestLog) {
    return Error(Code::kUnsupported, "its log is too long to move along");
  }
  pieces.push_back({kLogPiece, 0, std::move(log_bytes), {}});
  return pieces;
}

void DcPart::await_target(const MigrationRecord& record, Done<bool> done) {
  if (record.file_server.empty()) return await_ready(record, record.target, std::move(done));
  await_ready(record, record.file_server,
              [self = shared_from_this(), record, done](Result<bool> ready) {
                if (!ready.ok()) return done(ready.error().context("the file server"));
                self->await_ready(record, record.target, done);
              });
}

void DcPart::await_ready(const MigrationRecord& record, const std::string& name, Done<bool> done) {
  const auto node = node_id(name);
  if (!node.has_value()) return done(Error(Code::kNotFound, name + " left the cluster"));
  context_.rpc->call(*node, "migrate.expect", {{"dc", record_.name}, {"id", record.id}},
                     std::chrono::seconds(10), [done](Result<Json> answer) {
                       if (!answer.ok()) return done(answer.error());
                       done(true);
                     });
}

bool DcPart::send(const MigrationRecord& record, std::string_view body) {
  return send_image(record.target, body);
}

bool DcPart::congested(const MigrationRecord& record) { return is_congested(record.target); }

void DcPart::break_link(const MigrationRecord& record) {
  if (const auto node = node_id(record.target)) context_.links->drop(*node, "injected fault");
}

// ROLLBACK: thawed, the process goes on exactly where it was.
void DcPart::go_on(const MigrationRecord& record, Done<bool> done) {
  Status thawed = context_.cgroups.thaw(cgroup_of(record.task));
  for (uint32_t slot : record.slots) {
    if (slot >= region_.slots()) continue;
    dvk::open_gate(region_, slot);
    ops_->on_place_changed(slot);
  }
  memories_.erase(record.id);
  servers_.erase(record.id);
  log::if_failed(remove_tree(site(record.id).dir));
  serve_requests();
  context_.later([done, thawed] {
    if (thawed.ok())
      done(true);
    else
      done(thawed.error());
  });
}

// COMMIT: the frozen copy is ended, once it is owed to nobody; what is left here are the mirrors.
void DcPart::let_go(const MigrationRecord& record, Done<bool> done) {
  for (uint32_t slot : record.slots) unwatch(slot);
  const auto target = node_id(record.target);
  dvk::commit_away(region_, record.slots, target.value_or(0), committed_epoch(record));
  for (uint32_t slot : record.slots) {
    place(slot);
  }
  if (const auto task = tasks_.find(record.task); task != tasks_.end()) {
    task->second.departed = true;
  }
  if (!record.file_server.empty()) return end_departed(record, std::move(done));
  if (record.memory == OwedMemory::kOwed) context_.faults.die_at(Fault::kSourceDiesKeeping);
  await_settled(record.id,
                [self = shared_from_this(), record, done] { self->end_departed(record, done); });
}

void DcPart::end_departed(const MigrationRecord& record, Done<bool> done) {
  servers_.erase(record.id);
  context_.cgroups.kill(
      context_.executor, cgroup_of(record.task),
      [self = shared_from_this(), record, done](Result<bool> killed) {
        self->memories_.erase(record.id);
        log::if_failed(self->context_.cgroups.remove(self->cgroup_of(record.task)));
        self->tasks_.erase(record.task);
        ::unlink((paths::tasks_dir(self->dir_) + "/" + record.task + ".json").c_str());
        remove_shared(self->dir_, paths::log_file(record.task));
        log::if_failed(remove_tree(self->site(record.id).dir));
        done(std::move(killed));
      });
}

void DcPart::on_source_finished(const MigrationRecord& record) {
  context_.engine.discard(site(record.id));
  notes_.erase(record.id);
  report_done(record, {{"role", "source"}});
  sources_.erase(record.id);
  take_up_postponed();
}

// ---- target ----

std::string DcPart::image_directory(const MigrationRecord& record) { return site(record.id).dir; }

void DcPart::restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) {
  const std::string directory = site(record.id).dir;
  auto log_bytes = read_file(directory + "/" + kLogPiece);
  Status prepared = log_bytes.ok() ? write_shared(dir_, paths::log_file(record.task), *log_bytes)
                                   : log_bytes.error();
  if (prepared.ok()) prepared = context_.cgroups.create(cgroup_of(record.task));
  if (!prepared.ok()) {
    return context_.later([done, error = prepared.error()] { done(error); });
  }
  RestoreRequest request;
  request.site = site(record.id);
  request.cgroup_procs_files = {context_.cgroups.procs_file(cgroup_of(record.task))};
  request.apart = !record.algorithm.empty();
  auto begin = [self = shared_from_this(), request = std::move(request), done] {
    self->context_.engine.restore(request, done);
  };
  const auto pager = pagers_.find(record.id);
  if (pager == pagers_.end()) return begin();
  pager->second.fetch->await_ready(std::move(begin));
}

// Binds what the capsule brought, before its owner executes an instruction here. May be repeated
// after a restart of dvsd.
void DcPart::take_in(const MigrationRecord& record, Done<bool> done) {
  auto capsule = take_task(record);
  if (!capsule.ok()) return done(capsule.error());
  commit_capsule(record, std::move(*capsule), std::move(done));
}

Result<dvk::Capsule> DcPart::take_task(const MigrationRecord& record) {
  const std::string directory = site(record.id).dir;
  DVS_ASSIGN(std::string bytes, read_file(directory + "/" + kCapsulePiece));
  DVS_ASSIGN(dvk::Capsule capsule, dvk::decode_capsule(bytes, region_.slots()));
  DVS_ASSIGN(std::string text, read_file(directory + "/" + kTaskPiece));
  DVS_ASSIGN(Json json, parse_json(text));
  DVS_ASSIGN(Task task, task_from_json(json));
  if (task.id != record.task) return Error(Code::kCorrupt, "the images are of another task");
  tasks_[task.id] = task;
  save_task(task);
  return capsule;
}

void DcPart::commit_capsule(const MigrationRecord& record, dvk::Capsule capsule, Done<bool> done) {
  if (!dvk::commit_here(region_, capsule, context_.id, committed_epoch(record))) {
    const uint32_t slot = record.slots.empty() ? 0 : record.slots.front();
    return again_later(slot,
                       [self = shared_from_this(), record, capsule = std::move(capsule),
                        done = std::move(done)] { self->commit_capsule(record, capsule, done); });
  }
  // Known before they run: their first call may be a copy that dvsd has to carry out.
  for (uint32_t slot : record.slots) watch_arrived(record, slot);
  done(true);
}

void DcPart::settle_in(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    if (bound_.count(slot) == 0) watch_arrived(record, slot);
    if (slot < region_.slots()) ops_->on_place_changed(slot);
  }
}

void DcPart::watch_arrived(const MigrationRecord& record, uint32_t slot) {
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (entry == nullptr || slot >= region_.slots()) return;
  const auto thread = find_thread(entry->record.tid);
  if (thread.has_value()) return watch_process(slot, thread->first, thread->second);
  bound_[slot].task = record.task;
  context_.later([weak = weak_from_this(), slot] {
    if (auto self = weak.lock()) self->process_died(slot);
  });
}

void DcPart::clean_up(const MigrationRecord& record, Done<bool> done) {
  end_pager(record.id);
  log::if_failed(remove_tree(site(record.id).dir));
  if (record.state == MigrationState::kCommitted) {
    return context_.later([done] { done(true); });
  }
  context_.cgroups.kill(
      context_.executor, cgroup_of(record.task),
      [self = shared_from_this(), record, done](Result<bool> killed) {
        log::if_failed(self->context_.cgroups.remove(self->cgroup_of(record.task)));
        remove_shared(self->dir_, paths::log_file(record.task));
        done(std::move(killed));
      });
}

void DcPart::on_target_finished(const MigrationRecord& record) {
  context_.engine.discard(site(record.id));
  report_done(record, {{"role", "target"},
                       {"phases", record.phases},
                       {"faults", record.faults},
                       {"fault_p99_ms", record.fault_p99_ms}});
  targets_.erase(record.id);
  take_up_postponed();
}

}  // namespace dvs
