// Tasks of a DC on this node: started, listed, signalled, their logs read, and what remains when
// they end.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <sstream>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "container/shared_files.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr size_t kEndedTasksKept = 64;
constexpr uint64_t kMostExits = 1 << 20;  // of the file of exits, its end

std::string random_hex() {
  std::random_device random;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", random());
  return text;
}

}  // namespace

// Two nodes may choose the same free endpoint at the same moment: one of them chooses again.
void DcPart::run(RunRequest request, Done<Json> done) {
  if (request.endpoint.has_value()) return try_run(std::move(request), std::move(done));
  run_anywhere(std::move(request), 0, std::move(done));
}

void DcPart::run_anywhere(RunRequest request, int attempt, Done<Json> done) {
  constexpr int kAttempts = 20;
  try_run(request, [self = shared_from_this(), request, attempt, done](Result<Json> started) {
    const bool taken = !started.ok() && started.error().code() == Code::kConflict;
    if (!taken || attempt == kAttempts) return done(std::move(started));
    self->run_anywhere(request, attempt + 1, done);
  });
}

void DcPart::try_run(RunRequest request, Done<Json> done) {
  std::optional<uint32_t> slot;
  if (request.endpoint.has_value()) {
    const uint32_t asked = region_.slot_of(*request.endpoint);
    if (asked < region_.slots() && *request.endpoint != HARDWARE) slot = asked;
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
  spec.log_path = std::string(paths::kDcShared) + "/" + paths::log_file(task.id);
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
  bindings_.bind(
      record, [self = shared_from_this(), launch, task, slot, record, done](Result<int> bound) {
        if (!bound.ok()) {
          self->tasks_.erase(task.id);
          // Perhaps it was written, and the answer lost.
          if (bound.error().code() != Code::kConflict) self->bindings_.withdraw_claim(record);
          self->context_.cgroups.kill(
              self->context_.executor, self->cgroup_of(task.id), [self, task](Result<bool>) {
                log::if_failed(self->context_.cgroups.remove(self->cgroup_of(task.id)));
              });
          return done(bound.error());
        }
        self->save_task(task);
        launch->go([self, launch, task, slot, done, endpoint = *bound](Result<bool> went) {
          if (!went.ok()) {
            self->bindings_.remove_from_directory(slot);
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
  auto text = read_shared(dir_, paths::kExits, kMostExits);
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
    run_after(context_.executor, std::chrono::milliseconds(200), [weak = weak_from_this(), id] {
      if (auto self = weak.lock()) self->task_may_have_ended(id);
    });
    return;
  }
  Task& task = found->second;
  task.ended = true;
  if (!task.exit_status.has_value()) task.exit_status = exit_status_of(task.root_pid);
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
    remove_shared(dir_, paths::log_file(id));
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
                    {"endpoint", bindings_.endpoint_number(slot, entry.incarnation)},
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
  if (found == tasks_.end() || found->second.departed) {
    return Error(Code::kNotFound, "no task " + id + " on this node");
  }
  const std::string path = paths::log_file(id);
  DVS_ASSIGN(const UniqueFd file, open_shared(dir_, path, O_RDONLY));
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

}  // namespace dvs
