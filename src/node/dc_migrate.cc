// This node's side of migrations of one DC: what the state machines (migrate/participant.h) have
// done.
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
constexpr auto kExpectLimit = std::chrono::seconds(10);

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

// ---- gates ----

void DcPart::close_gates(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    if (slot < region_.slots()) dvk::close_gate(region_, slot);
  }
}

void DcPart::open_gates(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    if (slot >= region_.slots()) continue;
    dvk::open_gate(region_, slot);
    ops_->on_place_changed(slot);
  }
}

void DcPart::open_gates_except(const std::set<uint32_t>& slots) {
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    if (!dvk::is_migrating(region_.at(slot)) || slots.count(slot) != 0) continue;
    dvk::open_gate(region_, slot);
    ops_->on_place_changed(slot);
  }
}

// ---- from other nodes ----

void DcPart::on_image(NodeId from, const std::string& migration, std::string_view body) {
  const auto name = context_.cluster.name_of(from);
  if (name.has_value() && participant_.on_image(*name, migration, body)) return;
  if (is_memory(body)) on_memory(from, migration, body);
}

void DcPart::on_writable(NodeId node) {
  for (auto& [id, memory] : memories_) memory->on_writable();
  if (const auto name = context_.cluster.name_of(node)) participant_.on_writable(*name);
  for (auto& [id, server] : servers_) server->on_writable();
}

void DcPart::on_link_up(NodeId node) {
  ops_->on_link_up(node);
  for (auto& [id, pager] : pagers_) {
    if (node_id(memory_comes_from(pager.record)) == node) pager.fetch->on_link_up();
  }
}

void DcPart::on_link_down(NodeId node) {
  for (auto& [id, server] : servers_) {
    const auto* entry = context_.cluster.migration(id);
    if (entry != nullptr && node_id(entry->record.target) == node) server->on_link_down();
  }
  if (const auto name = context_.cluster.name_of(node)) participant_.on_link_down(*name);
}

// ---- source ----

Result<bool> DcPart::settle(const MigrationRecord& record) {
  DVS_TRY(bindings_.check(record.task, record.slots));
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
  context_.engine.dump(
      dump_request(record.id, tasks_.at(record.task)),
      [self = shared_from_this(), done](Result<DumpResult> dumped) { done(std::move(dumped)); });
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
  context_.peers->call(name, "migrate.expect", {{"dc", record_.name}, {"id", record.id}},
                       kExpectLimit, [self = shared_from_this(), done](Result<Json> answer) {
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
  open_gates(record);
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

// COMMIT: what is left here are the mirrors, and the frozen copy.
void DcPart::let_go(const MigrationRecord& record) {
  log::info("migration {}: task {} has left for {}", record.id, record.task, record.target);
  bindings_.leave(record.task, record.slots, node_id(record.target).value_or(0),
                  committed_epoch(context_.cluster, record));
  if (const auto task = tasks_.find(record.task); task != tasks_.end()) {
    task->second.departed = true;
  }
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
  participant_.forget_source(record.id);
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
// after a restart of dvsd, until the owner runs: then it is bound to what it has bound since.
void DcPart::take_in(const MigrationRecord& record, Done<bool> done) {
  if (context_.engine.has_resumed(site(record.id))) {
    return context_.later([done = std::move(done)] { done(true); });
  }
  auto capsule = take_task(record);
  if (!capsule.ok()) return done(capsule.error());
  bindings_.arrive(record.task, record.slots, std::move(*capsule),
                   committed_epoch(context_.cluster, record), [done] { done(true); });
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

void DcPart::settle_in(const MigrationRecord& record) {
  log::info("migration {}: task {} runs here", record.id, record.task);
  bindings_.settle_in(record.task, record.slots);
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
  participant_.forget_target(record.id);
}

// ---- after a restart of dvsd ----

std::vector<std::string> DcPart::migrations_with_images() {
  auto names = list_dir(paths::engine_dir(dir_));
  return names.ok() ? std::move(*names) : std::vector<std::string>{};
}

void DcPart::remove_images(const std::string& migration) {
  log::if_failed(remove_tree(site(migration).dir));
}

std::unique_ptr<HeldTree> DcPart::find_held(const MigrationRecord& record) {
  auto held = context_.engine.find_held(site(record.id));
  return held.ok() ? std::move(*held) : nullptr;
}

std::vector<std::string> DcPart::tasks() {
  std::vector<std::string> names;
  for (const auto& [id, task] : tasks_) {
    if (!task.ended) names.push_back(id);
  }
  return names;
}

void DcPart::thaw_if_frozen(const std::string& task) {
  const auto frozen = context_.cgroups.frozen(cgroup_of(task));
  if (frozen.ok() && *frozen) log::if_failed(context_.cgroups.thaw(cgroup_of(task)));
}

void DcPart::look_whether_ended(const std::string& task) { task_may_have_ended(task); }

}  // namespace dvs
