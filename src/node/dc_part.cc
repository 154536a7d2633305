#include "node/dc_part.h"

#include <sys/uio.h>

#include <sstream>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

namespace dvs {
namespace {

// Each node gives out process ids of its own range, so that ids are unique in the DC.
constexpr pid_t kPidsPerNode = 16384;

// What to add to the initial time namespace's monotonic clock so that the DC's reads
// CLOCK_REALTIME - origin. dvsd may itself live in a time namespace.
int64_t monotonic_offset(int64_t origin_ns) {
  int64_t own_offset_ns = 0;
  if (auto offsets = read_file("/proc/self/timens_offsets"); offsets.ok()) {
    std::istringstream lines(*offsets);
    std::string clock;
    int64_t seconds = 0;
    int64_t nanoseconds = 0;
    while (lines >> clock >> seconds >> nanoseconds) {
      if (clock == "monotonic" || clock == "1")
        own_offset_ns = seconds * 1'000'000'000 + nanoseconds;
    }
  }
  return own_offset_ns + (realtime_ns() - origin_ns) - monotonic_ns();
}

}  // namespace

DcPart::DcPart(NodeContext& context, DcRecord record)
    : context_(context),
      record_(std::move(record)),
      dir_(paths::dc_dir(context.config.run_dir, record_.name)),
      bindings_(
          {context.scheduler, context.store, context.cluster, region_, context.id, context.lease},
          *this, record_.name),
      participant_({context.scheduler,
                    context.store,
                    context.cluster,
                    *context.peers,
                    context.faults,
                    {context.config.name, context.id, context.lease}},
                   *this, record_.name) {}

DcPart::~DcPart() = default;

// Of the DC, as the directory has them. This node may have had a part of it before, and been lost:
// what was born there lives elsewhere, and may want to come back.
std::vector<pid_t> DcPart::known_pids() const {
  std::vector<pid_t> pids;
  for (const auto& [slot, entry] : context_.cluster.endpoints(record_.name)) {
    pids.insert(pids.end(), {entry.record.pid, entry.record.tid});
  }
  return pids;
}

ContainerSpec DcPart::container_spec() const {
  ContainerSpec spec;
  spec.name = record_.name;
  spec.dir = dir_;
  spec.first_pid = (context_.id + 1) * kPidsPerNode;
  spec.last_pid = spec.first_pid + kPidsPerNode - 1;
  spec.next_pid = next_pid_beside(known_pids(), spec.first_pid, spec.last_pid);
  spec.monotonic_offset_ns = monotonic_offset(record_.clock_origin_ns);
  spec.shown = context_.config.dc_shown;
  spec.writable = context_.config.dc_writable;
  spec.hidden = context_.config.dc_hidden;
  return spec;
}

void DcPart::open(NodeContext& context, const DcRecord& record,
                  Done<std::shared_ptr<DcPart>> done) {
  std::shared_ptr<DcPart> part(new DcPart(context, record));
  if (Status reopened = part->reopen(); reopened.ok()) {
    log::info("DC {}: found again, first process {}", record.name, part->container_->init_pid());
    part->start();
    part->recover();
    return done(part);
  }
  part->create(std::move(done));
}

Result<std::shared_ptr<DcPart>> DcPart::find_left(NodeContext& context, const std::string& name) {
  DcRecord record;
  record.name = name;
  std::shared_ptr<DcPart> part(new DcPart(context, record));
  const auto json = part->saved();
  const auto id = json.ok() ? json_get<int>(*json, "id") : Result<int>(json.error());
  if (id.ok()) part->record_.id = *id;
  if (id.ok() && part->reopen().ok()) return part;
  DVS_TRY(remove_tree(part->dir_));
  return Error(Code::kNotFound, "nothing of DC " + name + " runs here");
}

Result<Json> DcPart::saved() const {
  DVS_ASSIGN(std::string text, read_file(dir_ + "/dc.json"));
  return parse_json(text);
}

Status DcPart::reopen() {
  DVS_ASSIGN(Json json, saved());
  DVS_ASSIGN(int id, json_get<int>(json, "id"));
  if (id != record_.id) return Error(Code::kNotFound, "another DC of that name");
  ContainerHandle handle;
  DVS_ASSIGN(handle.init_pid, json_get<int>(json, "init_pid"));
  DVS_ASSIGN(handle.init_start_time, json_get<uint64_t>(json, "init_start_time"));
  DVS_ASSIGN(container_, reopen_container(context_.executor, context_.config.container_helper,
                                          container_spec(), handle));
  DVS_ASSIGN(region_, dvk::Region::open(paths::region(dir_)));
  load_tasks();
  return {};
}

Status DcPart::prepare_directory() {
  DVS_TRY(remove_tree(dir_));
  for (const auto& path :
       {paths::logs_dir(dir_), paths::engine_dir(dir_), paths::tasks_dir(dir_)}) {
    DVS_TRY(make_dirs(path));
  }
  dvk::RegionSpec spec;
  spec.slots = record_.endpoints;
  spec.tasks = record_.tasks;
  spec.sysprocs = record_.sysprocs;
  spec.dcid = record_.id;
  spec.local_node = context_.id;
  spec.dc_name = record_.name;
  spec.cluster = context_.config.cluster;
  DVS_ASSIGN(region_, dvk::Region::create(paths::region(dir_), spec));
  return {};
}

void DcPart::create(Done<std::shared_ptr<DcPart>> done) {
  if (Status prepared = prepare_directory(); !prepared.ok()) {
    context_.later([done, error = prepared.error()] { done(error); });
    return;
  }
  create_container(context_.executor, context_.config.container_helper, container_spec(),
                   [self = shared_from_this(), done](Result<std::unique_ptr<Container>> container) {
                     if (!container.ok()) return done(container.error());
                     self->container_ = std::move(*container);
                     self->save();
                     self->start();
                     self->recover();
                     done(self);
                   });
}

void DcPart::save() const {
  auto handle = container_handle(*container_);
  if (!handle.ok()) return log::error("DC {}: {}", record_.name, handle.error().message());
  const Json json = {{"id", record_.id},
                     {"init_pid", handle->init_pid},
                     {"init_start_time", handle->init_start_time}};
  if (Status saved = replace_file(dir_ + "/dc.json", to_text(json)); !saved.ok()) {
    log::error("DC {}: {}", record_.name, saved.error().message());
  }
}

void DcPart::save_task(const Task& task) const {
  const std::string path = paths::tasks_dir(dir_) + "/" + task.id + ".json";
  if (Status saved = replace_file(path, to_text(to_json(task))); !saved.ok()) {
    log::error("DC {}: {}", record_.name, saved.error().message());
  }
}

void DcPart::load_tasks() {
  auto names = list_dir(paths::tasks_dir(dir_));
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    auto text = read_file(paths::tasks_dir(dir_) + "/" + name);
    auto json = text.ok() ? parse_json(*text) : Result<Json>(text.error());
    auto task = json.ok() ? task_from_json(*json) : Result<Task>(json.error());
    if (task.ok()) {
      tasks_[task->id] = std::move(*task);
    } else {
      log::warn("DC {}: ignoring task {}: {}", record_.name, name, task.error().message());
    }
  }
}

void DcPart::start() {
  guard_ = std::make_unique<dvk::RegionGuard>(region_);
  ops_ = std::make_unique<RemoteOps>(region_, context_.id, static_cast<RemoteOps::Env&>(*this));
  update_nodes();
  bindings_.withdraw_what_leaves();
  for (const auto& [slot, entry] : context_.cluster.endpoints(record_.name)) place(slot);
  ops_->drive_all();
  dvk::wake_everybody(region_);  // the last dvsd may have died before it did
  watch_doorbell();
  context_.engine.warm_up(site("warm-up"));
}

// Requests that an earlier dvsd has not answered come before anything is concluded from what is
// bound: an unbind may be written already.
void DcPart::recover() {
  participant_.recover();
  recovered_ = true;
  serve_requests();
}

void DcPart::watch_doorbell() {
  doorbell_ = context_.doorbells.listen(region_.header().doorbell, [weak = weak_from_this()] {
    auto self = weak.lock();
    if (self == nullptr || self->is_broken()) return;
    self->ops_->on_doorbell();
    if (!self->warnings_.empty()) self->look_at_warnings();
    self->serve_requests();
  });
}

// One of its own processes has cut the region's file short: that costs the DC, nobody else.
bool DcPart::is_broken() {
  if (!guard_->broken()) return false;
  if (!std::exchange(broken_, true)) {
    log::error("DC {}: a process of it has spoiled its region; remove the DC", record_.name);
  }
  return true;
}

void DcPart::destroy(Done<bool> done) {
  doorbell_.reset();
  bindings_.forget_all();
  standbys_.clear();
  warnings_.clear();
  auto remaining = std::make_shared<size_t>(tasks_.size() + 1);
  auto finish = [self = shared_from_this(), remaining, done](Result<bool>) {
    if (--*remaining > 0) return;
    self->container_->destroy([self, done](Result<bool> destroyed) {
      log::if_failed(self->context_.cgroups.remove(self->cgroup_of("")));
      Status removed = remove_tree(self->dir_);
      if (!removed.ok()) return done(removed.error());
      done(std::move(destroyed));
    });
  };
  for (const auto& [id, task] : tasks_) {
    if (task.ended) {
      finish(true);
    } else {
      context_.cgroups.kill(context_.executor, cgroup_of(id), finish);
    }
  }
  finish(true);
}

std::string DcPart::cgroup_of(const std::string& task) const {
  const std::string base =
      "dvs/" + context_.config.cluster + "/" + context_.config.name + "/" + record_.name;
  return task.empty() ? base : base + "/" + task;
}

// ---- the directory's news ----

void DcPart::update_nodes() {
  auto& entries = region_.header().nodes;
  region_.header().warn_endpoint.store(record_.warn2proc);
  region_.header().warn_type.store(record_.warnmsg);
  for (auto& entry : entries) entry.state.store(dvk::kNodeUnknown);
  for (const std::string& name : record_.nodes) {
    const auto member = context_.cluster.members().find(name);
    if (member == context_.cluster.members().end() || member->second >= dvk::kRegionNodes) continue;
    auto& entry = entries[member->second];
    entry.name.store(name.c_str());
    entry.state.store(context_.cluster.node(name) != nullptr ? dvk::kNodeUp : dvk::kNodeDown);
  }
  if (ops_ != nullptr) ops_->on_nodes_changed();
  participant_.on_nodes_changed();
}

// ---- RemoteOps::Env ----

bool DcPart::send(NodeId node, const wire::Operation& operation) {
  if (node < dvk::kRegionNodes) {
    auto& entry = region_.header().nodes[node];
    entry.sent.fetch_add(1, std::memory_order_relaxed);
    entry.sent_at_ns.store(realtime_ns(), std::memory_order_relaxed);
  }
  return context_.links->send(node, wire::FrameType::kOperation,
                              wire::encode_operation_head(operation), operation.data);
}

void DcPart::on_operation(NodeId from, const wire::Operation& operation) {
  if (from < dvk::kRegionNodes) {
    auto& entry = region_.header().nodes[from];
    entry.received.fetch_add(1, std::memory_order_relaxed);
    entry.received_at_ns.store(realtime_ns(), std::memory_order_relaxed);
  }
  ops_->on_operation(from, operation);
}

void DcPart::drive_later(uint32_t slot) {
  run_after(context_.executor, std::chrono::milliseconds(2), [weak = weak_from_this(), slot] {
    if (auto self = weak.lock()) self->ops_->drive(slot);
  });
}

namespace {

template <typename Transfer, typename Byte>
int transfer_memory(Transfer transfer, pid_t pid, uint64_t address, Byte* mine, size_t bytes) {
  iovec local{const_cast<char*>(mine), bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  const ssize_t n = transfer(pid, &local, 1UL, &remote, 1UL, 0UL);
  if (n == static_cast<ssize_t>(bytes)) return OK;
  return n < 0 && errno == ESRCH ? EDVSDSTDIED : EDVSFAULT;
}

}  // namespace

// Of who is bound or stands by here; 0: nobody.
pid_t DcPart::host_pid_of(uint32_t slot) const {
  if (const auto bound = watched_.find(slot); bound != watched_.end()) {
    return bound->second.host_pid;
  }
  const auto standby = standbys_.find(slot);
  return standby == standbys_.end() ? 0 : standby->second.ids.host_pid;
}

int DcPart::read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) {
  return transfer_memory(process_vm_readv, host_pid_of(slot), address, to, bytes);
}

int DcPart::write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) {
  return transfer_memory(process_vm_writev, host_pid_of(slot), address, from, bytes);
}

}  // namespace dvs
