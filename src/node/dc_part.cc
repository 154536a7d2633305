#include "node/dc_part.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <sstream>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

namespace dvs {
namespace {

// Each node gives out process ids of its own range, so that ids are unique in the DC.
constexpr pid_t kPidsPerNode = 16384;
constexpr size_t kEndedTasksKept = 64;

std::string random_hex() {
  std::random_device random;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", random());
  return text;
}

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
      dir_(paths::dc_dir(context.config.run_dir, record_.name)) {}

DcPart::~DcPart() { stop_doorbell(); }

ContainerSpec DcPart::container_spec() const {
  ContainerSpec spec;
  spec.name = record_.name;
  spec.dir = dir_;
  spec.first_pid = (context_.id + 1) * kPidsPerNode;
  spec.last_pid = spec.first_pid + kPidsPerNode - 1;
  spec.monotonic_offset_ns = monotonic_offset(record_.clock_origin_ns);
  return spec;
}

void DcPart::open(NodeContext& context, const DcRecord& record,
                  Done<std::shared_ptr<DcPart>> done) {
  std::shared_ptr<DcPart> part(new DcPart(context, record));
  if (Status reopened = part->reopen(); reopened.ok()) {
    log::info("DC {}: found again, first process {}", record.name, part->container_->init_pid());
    part->start();
    part->recover();
    context.later([part, done] { done(part); });
    return;
  }
  part->create(std::move(done));
}

Status DcPart::reopen() {
  DVS_ASSIGN(std::string text, read_file(dir_ + "/dc.json"));
  DVS_ASSIGN(Json json, parse_json(text));
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
                     done(self);
                   });
}

void DcPart::save() const {
  auto handle = container_handle(*container_);
  if (!handle.ok()) return log::error("DC {}: {}", record_.name, handle.error().message());
  const Json json = {{"id", record_.id},
                     {"init_pid", handle->init_pid},
                     {"init_start_time", handle->init_start_time}};
  if (Status saved = replace_file(dir_ + "/dc.json", json.dump()); !saved.ok()) {
    log::error("DC {}: {}", record_.name, saved.error().message());
  }
}

void DcPart::save_task(const Task& task) const {
  const std::string path = paths::tasks_dir(dir_) + "/" + task.id + ".json";
  if (Status saved = replace_file(path, to_json(task).dump()); !saved.ok()) {
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
  ops_ = std::make_unique<RemoteOps>(region_, context_.id, static_cast<RemoteOps::Env&>(*this));
  update_nodes();
  for (const auto& [slot, entry] : context_.cluster.endpoints(record_.name)) place(slot);
  ops_->drive_all();
  watch_doorbell();
  context_.engine.warm_up(site("warm-up"));
}

// The doorbell is a futex in the region: one thread sleeps on it and hands it to the event loop.
void DcPart::watch_doorbell() {
  doorbell_thread_ = std::thread([this] {
    auto& doorbell = region_.header().doorbell;
    uint32_t seen = dvk::event_prepare(doorbell) - 2;  // look once at the start
    while (!stopping_) {
      const uint32_t now = dvk::event_prepare(doorbell);
      if (now == seen) {
        dvk::event_sleep(doorbell, seen, dvk::Deadline::never());
        continue;
      }
      seen = now;
      if (doorbell_posted_.exchange(true)) continue;
      boost::asio::post(context_.executor, [weak = weak_from_this()] {
        auto self = weak.lock();
        if (self == nullptr || self->stopping_) return;
        self->doorbell_posted_ = false;
        self->ops_->on_doorbell();
        self->serve_requests();
      });
    }
  });
}

void DcPart::stop_doorbell() {
  stopping_ = true;
  if (region_.mapped()) region_.ring_doorbell();
  if (doorbell_thread_.joinable()) doorbell_thread_.join();
}

void DcPart::destroy(Done<bool> done) {
  stop_doorbell();
  bound_.clear();
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

// ---- tasks --------------------------------------------------------------------------------------

void DcPart::run(RunRequest request, Done<Json> done) {
  std::optional<uint32_t> slot;
  if (request.endpoint.has_value()) {
    const uint32_t asked = region_.slot_of(*request.endpoint);
    if (asked < region_.slots()) slot = asked;
  } else {
    slot = free_user_slot();
  }
  if (!slot.has_value()) {
    const std::string range = std::to_string(region_.number_of(0)) + " to " +
                              std::to_string(region_.number_of(region_.slots() - 1));
    return done(request.endpoint.has_value()
                    ? Error(Code::kInvalid, "endpoint " + std::to_string(*request.endpoint) +
                                                " is out of range; " + record_.name + " has " +
                                                range)
                    : Error(Code::kNoSpace, "all endpoints of " + record_.name + " are in use"));
  }
  if (context_.cluster.endpoint(record_.name, *slot) != nullptr) {
    return done(Error(Code::kConflict, "endpoint " + std::to_string(region_.number_of(*slot)) +
                                           " of " + record_.name + " is in use"));
  }
  Task task;
  task.id = std::to_string(*slot) + "-" + random_hex();
  task.command = request.argv;
  task.slot = *slot;
  task.started_ns = realtime_ns();
  if (Status made = context_.cgroups.create(cgroup_of(task.id)); !made.ok()) {
    return done(made.error());
  }
  LaunchSpec spec;
  spec.argv = std::move(request.argv);
  spec.env = std::move(request.env);
  spec.env.push_back("DVS_DC=" + record_.name);
  spec.cwd = request.cwd;
  spec.log_path = std::string(paths::kDcShared) + "/logs/" + task.id + ".log";
  spec.cgroup_procs_files = {context_.cgroups.procs_file(cgroup_of(task.id))};
  container_->launch(std::move(spec), [self = shared_from_this(), task, slot,
                                       done](Result<std::unique_ptr<Launch>> launch) {
    if (!launch.ok()) {
      log::if_failed(self->context_.cgroups.remove(self->cgroup_of(task.id)));
      return done(launch.error());
    }
    self->launched(std::shared_ptr<Launch>(std::move(*launch)), task, *slot, done);
  });
}

// The program exists and has not begun: binds it, then lets it go.
void DcPart::launched(const std::shared_ptr<Launch>& launch, Task task, uint32_t slot,
                      Done<Json> done) {
  task.root_pid = launch->dc_pid();
  tasks_[task.id] = task;
  EndpointRecord record;
  record.slot = slot;
  record.node = context_.id;
  record.pid = record.tid = launch->dc_pid();
  const std::string& program = task.command.front();
  record.name = program.substr(program.rfind('/') + 1).substr(0, MAXPROCNAME - 1);
  record.task = task.id;
  bind_in_directory(
      record, [self = shared_from_this(), launch, task, slot, done](Result<int> bound) {
        if (!bound.ok()) {
          self->tasks_.erase(task.id);
          self->context_.cgroups.kill(
              self->context_.executor, self->cgroup_of(task.id), [self, task](Result<bool>) {
                log::if_failed(self->context_.cgroups.remove(self->cgroup_of(task.id)));
              });
          return done(bound.error());
        }
        self->save_task(task);
        launch->go([self, launch, task, slot, done, endpoint = *bound](Result<bool> went) {
          if (!went.ok()) {
            self->remove_from_directory(slot);
            self->task_may_have_ended(task.id);
            return done(went.error());
          }
          done(Json{{"dc", self->record_.name},
                    {"endpoint", endpoint},
                    {"pid", task.root_pid},
                    {"node", self->context_.config.name},
                    {"task", task.id}});
        });
      });
}

std::optional<int> DcPart::exit_status_of(int pid) const {
  auto text = read_file(paths::exits_file(dir_));
  if (!text.ok()) return std::nullopt;
  std::istringstream lines(*text);
  std::optional<int> status;
  int exited = 0;
  int value = 0;
  while (lines >> exited >> value) {
    if (exited == pid) status = value;
  }
  return status;
}

// Called when a process of the task has died. The cgroup tells whether any is left.
void DcPart::task_may_have_ended(const std::string& id) {
  auto found = tasks_.find(id);
  if (found == tasks_.end() || found->second.ended) return;
  auto processes = context_.cgroups.processes(cgroup_of(id));
  if (processes.ok() && !processes->empty()) {
    // Dying, or children that live on: looked at again when the next one dies, and then.
    auto timer = std::make_shared<boost::asio::steady_timer>(context_.executor,
                                                             std::chrono::milliseconds(200));
    timer->async_wait([weak = weak_from_this(), timer, id](const boost::system::error_code&) {
      if (auto self = weak.lock()) self->task_may_have_ended(id);
    });
    return;
  }
  Task& task = found->second;
  task.ended = true;
  task.exit_status = exit_status_of(task.root_pid);
  log::if_failed(context_.cgroups.remove(cgroup_of(id)));
  save_task(task);
  forget_old_tasks();
}

void DcPart::forget_old_tasks() {
  std::vector<std::pair<int64_t, std::string>> ended;
  for (const auto& [id, task] : tasks_) {
    if (task.ended) ended.emplace_back(task.started_ns, id);
  }
  if (ended.size() <= kEndedTasksKept) return;
  std::sort(ended.begin(), ended.end());
  ended.resize(ended.size() - kEndedTasksKept);
  for (const auto& [started, id] : ended) {
    tasks_.erase(id);
    ::unlink((paths::tasks_dir(dir_) + "/" + id + ".json").c_str());
    ::unlink(paths::log_file(dir_, id).c_str());
  }
}

const Task* DcPart::task_of(uint32_t slot) const {
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (entry == nullptr) return nullptr;
  auto found = tasks_.find(entry->record.task);
  return found == tasks_.end() ? nullptr : &found->second;
}

const Task* DcPart::last_task_of(uint32_t slot) const {
  if (const Task* task = task_of(slot)) return task;
  const Task* last = nullptr;
  for (const auto& [id, task] : tasks_) {
    if (task.slot == slot && (last == nullptr || task.started_ns > last->started_ns)) last = &task;
  }
  return last;
}

Status DcPart::signal(const std::string& id, int number) {
  DVS_ASSIGN(auto processes, context_.cgroups.processes(cgroup_of(id)));
  if (processes.empty()) return Error(Code::kNotFound, "its processes have ended");
  for (pid_t pid : processes) ::kill(pid, number);
  return {};
}

namespace {

const char* state_of(const dvk::Descriptor& d) {
  if (dvk::is_migrating(d)) return "migrating";
  if (dvk::load_kind(d) == dvk::Kind::kBackup) return "backup";
  const dvk::TxPhase tx = dvk::load_tx(d).phase;
  if (tx == dvk::TxPhase::kPosted || tx == dvk::TxPhase::kTaken) return "sending";
  if (dvk::load_rx(d).phase == dvk::RxPhase::kWaiting) return "receiving";
  return "running";
}

}  // namespace

Json DcPart::processes() const {
  Json list = Json::array();
  for (const auto& [slot, entry] : context_.cluster.endpoints(record_.name)) {
    if (entry.record.node != context_.id || slot >= region_.slots()) continue;
    const Task* task = task_of(slot);
    std::string command;
    if (task != nullptr) {
      for (const std::string& word : task->command) command += (command.empty() ? "" : " ") + word;
    }
    list.push_back({{"dc", record_.name},
                    {"endpoint", endpoint_number(slot, entry.incarnation)},
                    {"pid", entry.record.pid},
                    {"tid", entry.record.tid},
                    {"node", context_.config.name},
                    {"state", state_of(region_.at(slot))},
                    {"kind", "local"},
                    {"epoch", entry.record.epoch},
                    {"task", entry.record.task},
                    {"command", command}});
  }
  return list;
}

Result<Json> DcPart::log(const std::string& id, uint64_t offset, uint64_t max) const {
  auto found = tasks_.find(id);
  if (found == tasks_.end()) return Error(Code::kNotFound, "no task " + id + " on this node");
  const std::string path = paths::log_file(dir_, id);
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno_error("cannot open " + path);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return errno_error("cannot stat " + path);
  const auto end = static_cast<uint64_t>(info.st_size);
  offset = std::min(offset, end);
  std::string data(std::min<uint64_t>(end - offset, max), '\0');
  const ssize_t n = ::pread(file.get(), data.data(), data.size(), static_cast<off_t>(offset));
  if (n < 0) return errno_error("cannot read " + path);
  data.resize(static_cast<size_t>(n));
  Json answer = {{"offset", offset},
                 {"end", offset + data.size()},
                 {"data", std::move(data)},
                 {"node", context_.config.name},
                 {"running", !found->second.ended}};
  if (found->second.exit_status.has_value()) answer["exit"] = *found->second.exit_status;
  return answer;
}

// ---- the directory's news
// -------------------------------------------------------------------------

void DcPart::update_nodes() {
  auto& entries = region_.header().nodes;
  for (auto& entry : entries) entry.state.store(0);
  for (const std::string& name : record_.nodes) {
    const auto member = context_.cluster.members().find(name);
    if (member == context_.cluster.members().end() || member->second >= dvk::kRegionNodes) continue;
    auto& entry = entries[member->second];
    std::memset(entry.name, 0, sizeof entry.name);
    std::strncpy(entry.name, name.c_str(), sizeof entry.name - 1);
    entry.state.store(context_.cluster.node(name) != nullptr ? 2 : 1);
  }
}

void DcPart::place(uint32_t slot) {
  if (slot >= region_.slots()) return;
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  dvk::Descriptor& d = region_.at(slot);
  if (entry == nullptr) {
    unwatch(slot);
    if (dvk::load_kind(d) != dvk::Kind::kFree) dvk::unbind(region_, slot);
  } else if (entry->record.node == context_.id) {
    // A process of ours is bound when its own transaction is answered, or when it arrives by a
    // migration; here only what an earlier dvsd had bound is found again.
    if (bound_.count(slot) == 0 && tasks_.count(entry->record.task) != 0 &&
        dvk::load_kind(d) == dvk::Kind::kLocal) {
      bind_local(entry->record, entry->incarnation);
    }
  } else if (bound_.count(slot) == 0) {
    dvk::Identity identity;
    identity.endpoint = endpoint_number(slot, entry->incarnation);
    identity.incarnation = entry->incarnation;
    identity.epoch = entry->record.epoch;
    identity.node = entry->record.node;
    identity.kind = dvk::Kind::kRemote;
    identity.name = entry->record.name;
    dvk::bind(region_, slot, identity);
  }
  ops_->on_place_changed(slot);
}

// ---- RemoteOps::Env
// -----------------------------------------------------------------------------------

bool DcPart::send(NodeId node, const wire::Operation& operation) {
  if (node < dvk::kRegionNodes) {
    auto& entry = region_.header().nodes[node];
    entry.sent.fetch_add(1, std::memory_order_relaxed);
    entry.sent_at_ns.store(realtime_ns(), std::memory_order_relaxed);
  }
  return context_.links->send(node, wire::FrameType::kOperation, wire::encode_operation(operation));
}

void DcPart::drive_later(uint32_t slot) {
  auto timer =
      std::make_shared<boost::asio::steady_timer>(context_.executor, std::chrono::milliseconds(2));
  timer->async_wait([weak = weak_from_this(), timer, slot](const boost::system::error_code&) {
    if (auto self = weak.lock()) self->ops_->drive(slot);
  });
}

namespace {

template <typename Transfer, typename Bytes>
int transfer_memory(Transfer transfer, pid_t pid, uint64_t address, Bytes* mine, size_t bytes) {
  iovec local{const_cast<char*>(mine), bytes};
  iovec remote{reinterpret_cast<void*>(address), bytes};
  const ssize_t n = transfer(pid, &local, 1UL, &remote, 1UL, 0UL);
  if (n == static_cast<ssize_t>(bytes)) return OK;
  return n < 0 && errno == ESRCH ? EDVSDSTDIED : EDVSFAULT;
}

}  // namespace

int DcPart::read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) {
  auto found = bound_.find(slot);
  if (found == bound_.end()) return EDVSDSTDIED;
  return transfer_memory(process_vm_readv, found->second.host_pid, address, to, bytes);
}

int DcPart::write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) {
  auto found = bound_.find(slot);
  if (found == bound_.end()) return EDVSDSTDIED;
  return transfer_memory(process_vm_writev, found->second.host_pid, address, from, bytes);
}

}  // namespace dvs
