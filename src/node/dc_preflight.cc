// Before anything is stopped: what the source says of a task, whether this node could take it,
// and the engine started ahead.
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "base/base64.h"
#include "base/file.h"
#include "base/log.h"
#include "migrate/engine/movable.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr auto kBeginLimit = std::chrono::seconds(10);

// An id that another node has sent; it becomes part of paths.
bool is_plain_id(const std::string& id) {
  return !id.empty() && id.size() < 64 && id.find_first_of("/.") == std::string::npos;
}

Error under_way() {
  return Error(Code::kConflict, "another migration of that process is under way");
}

// What a process has mapped, of /proc/PID/smaps.
void add_mappings(const std::string& text, Mappings& mappings) {
  std::istringstream smaps(text);
  for (std::string line; std::getline(smaps, line);) {
    if (line.starts_with("Rss:")) {
      mappings.resident_bytes += std::strtoull(line.c_str() + 4, nullptr, 10) * 1024;
    } else if (line.starts_with("VmFlags:")) {
      mappings.incomplete |= line.find(" um ") != std::string::npos;
    } else if (const size_t path = line.find('/'); path != std::string::npos) {
      const bool deleted = line.find(" (deleted)") != std::string::npos;
      if (!deleted) mappings.files.insert(line.substr(path));
    }
  }
}

// Of a task whose first process is `root`. An Error: why it cannot be moved.
Result<Mappings> look_at(const std::vector<mover::ProcessId>& processes, pid_t root) {
  Mappings mappings;
  for (const mover::ProcessId& process : processes) {
    auto smaps = read_file("/proc/" + std::to_string(process.host_pid) + "/smaps");
    if (!smaps.ok()) continue;
    add_mappings(*smaps, mappings);
    mappings.notes[process.host_pid] = mover::MapNotes(*smaps);
  }
  // What a dvs-pager is still filling would be copied as zeros.
  if (mappings.incomplete) {
    return Error(
        Code::kConflict,
        "the memory of that process is still arriving (or it uses userfaultfd); try again");
  }
  DVS_TRY(check_movable(processes, root));
  return mappings;
}

Json files_of(const Mappings& mappings) {
  Json files = Json::array();
  for (const std::string& path : mappings.files) {
    struct stat info {};
    if (path.rfind("/run/dvs/", 0) == 0 || ::stat(path.c_str(), &info) != 0) continue;
    files.push_back({{"path", path}, {"size", info.st_size}});
  }
  return files;
}

}  // namespace

// /proc is read beside the event loop: that takes 18 ms per GB, in which nobody's message would
// pass.
void DcPart::describe(const std::string& migration, uint32_t slot, Done<TaskDescription> done) {
  TaskDescription description;
  std::vector<mover::ProcessId> processes;
  if (Status fit = describe_task(slot, description, processes); !fit.ok()) {
    return context_.later([done, error = fit.error()] { done(error); });
  }
  boost::asio::post(*context_.aside, [&executor = context_.executor, weak = weak_from_this(),
                                      root = task_of(slot)->root_pid, migration, slot, done,
                                      processes = std::move(processes)] {
    boost::asio::post(executor, [=, seen = look_at(processes, root)]() mutable {
      const auto self = weak.lock();
      if (self == nullptr) return done(Error(Code::kNotFound, "the DC has left this node"));
      if (!seen.ok()) return done(seen.error());
      self->end_description(migration, slot, std::move(*seen), done);
    });
  });
}

void DcPart::end_description(const std::string& migration, uint32_t slot, Mappings seen,
                             const Done<TaskDescription>& done) {
  TaskDescription description;
  std::vector<mover::ProcessId> processes;
  if (Status fit = describe_task(slot, description, processes); !fit.ok()) return done(fit.error());
  description.memory_bytes = seen.resident_bytes;
  description.files = files_of(seen);
  notes_[migration] = std::move(seen.notes);
  done(std::move(description));
}

// As far as this node's books tell.
Status DcPart::describe_task(uint32_t slot, TaskDescription& description,
                             std::vector<mover::ProcessId>& processes) {
  const Task* task = task_of(slot);
  if (task == nullptr || !bindings_.is_bound(slot)) {
    return Error(Code::kNotFound, "the process of that endpoint is not on this node");
  }
  if (participant_.migrates(task->id) || context_.cluster.lock_of(record_.name, task->id))
    return under_way();
  for (const auto& [standby_slot, standby] : standbys_) {
    if (standby.task != task->id) continue;
    return Error(Code::kConflict, "the process stands by for endpoint " +
                                      std::to_string(region_.number_of(standby_slot)) +
                                      ", which would be forgotten; unbind it there first");
  }
  DVS_TRY(bindings_.check_bound(task->id));
  description.task = task->id;
  for (const uint32_t bound_slot : bindings_.slots_of(task->id)) {
    const auto* entry = context_.cluster.endpoint(record_.name, bound_slot);
    description.revisions.push_back(entry == nullptr ? 0 : entry->revision);
    description.slots.push_back(bound_slot);
    description.endpoints.push_back(region_.at(bound_slot).endpoint.load());
  }
  DVS_ASSIGN(auto threads, threads_of_cgroup(context_.cgroups.dir(cgroup_of(task->id))));
  for (const ThreadIds& ids : threads) {
    if (!runs_in_dc(ids.host_pid)) continue;  // an engine that waits for a move which was given up
    description.threads.push_back(ids.dc_tid);
    if (ids.host_tid != ids.host_pid) continue;
    description.pids.push_back(ids.dc_pid);
    processes.push_back({ids.host_pid, ids.dc_pid});
  }
  description.cpu = context_.cpu;
  description.no_mover = context_.no_mover;
  return {};
}

double DcPart::sent_per_second(const std::string& node) const {
  const auto found = context_.sent_per_second.find(node);
  return found == context_.sent_per_second.end() ? 0 : found->second;
}

void DcPart::check_arrival(const TaskDescription& description, Done<bool> done) {
  Status fit = participant_.migrates(description.task) ? under_way() : Status();
  if (!is_plain_id(description.task)) fit = Error(Code::kInvalid, "a bad id");
  if (fit.ok() && context_.faults.fires(Fault::kPreflight)) {
    fit = Error(Code::kUnsupported, "the preflight refused (injected)");
  }
  for (const uint32_t slot : description.slots) {
    if (standbys_.count(slot) == 0) continue;
    fit = Error(Code::kConflict, "node " + context_.config.name + " has a backup or replica of " +
                                     std::to_string(region_.number_of(slot)));
  }
  if (fit.ok()) fit = check_room(description);
  if (fit.ok()) fit = check_ids_and_files(description);
  if (!fit.ok()) return done(fit.error());
  // The same description is the same CPU; to ask the engine takes some 10 ms.
  if (description.cpu.empty() || description.cpu == context_.cpu) return done(true);
  auto cpu = base64_decode(description.cpu);
  if (!cpu.ok()) return done(cpu.error().context("the description of the source's CPU"));
  context_.engine.check_cpu(
      dir_ + "/cpu-" + description.task, *cpu,
      [done, node = context_.config.name](Result<bool> suits) {
        if (suits.ok()) return done(true);
        done(suits.error().context("the process cannot go on with the CPU of node " + node));
      });
}

Status DcPart::check_room(const TaskDescription& description) const {
  struct statvfs space {};
  if (::statvfs(dir_.c_str(), &space) != 0) return errno_error("cannot stat " + dir_);
  const uint64_t free_bytes = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  constexpr uint64_t kMargin = 4 << 20;
  if (free_bytes < description.memory_bytes + kMargin) {
    return Error(Code::kNoSpace,
                 "the process needs " + std::to_string((description.memory_bytes + kMargin) >> 20) +
                     " MiB in " + context_.config.run_dir + " of node " + context_.config.name +
                     ", which has " + std::to_string(free_bytes >> 20) +
                     " MiB free; make room there or enlarge that tmpfs");
  }
  return {};
}

Status DcPart::check_ids_and_files(const TaskDescription& description) const {
  const std::string proc = "/proc/" + std::to_string(container_->init_pid()) + "/root/proc/";
  for (int thread : description.threads) {
    if (::access((proc + std::to_string(thread)).c_str(), F_OK) == 0) {
      return Error(Code::kConflict, "process id " + std::to_string(thread) + " is taken on node " +
                                        context_.config.name);
    }
  }
  for (const Json& file : description.files) {
    DVS_ASSIGN(std::string path, json_get<std::string>(file, "path"));
    DVS_ASSIGN(int64_t size, json_get<int64_t>(file, "size"));
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
      return Error(Code::kNotFound, "the process has mapped " + path + ", which node " +
                                        context_.config.name + " does not have; install it there");
    }
    if (info.st_size != size) {
      return Error(Code::kConflict, path + " differs on node " + context_.config.name +
                                        "; install the same version there");
    }
  }
  return {};
}

void DcPart::prepare_departure(const std::string& id, const Task& task,
                               std::function<void()> ready) {
  if (!is_plain_id(id)) return context_.later(std::move(ready));
  context_.engine.prepare_dump(dump_request(id, task), std::move(ready));
  discard_unless_begun(id, "");
}

Status DcPart::prepare_arrival(const Arrival& arrival, std::function<void()> ready) {
  const auto& [id, task, apart, patience_ms] = arrival;
  if (!is_plain_id(id) || !is_plain_id(task)) return Error(Code::kInvalid, "a bad id");
  DVS_TRY(context_.cgroups.create(cgroup_of(task)));
  arrivals_[id] = task;
  if (apart) start_pager(arrival);
  context_.engine.prepare_restore({site(id), {context_.cgroups.procs_file(cgroup_of(task))}, apart},
                                  std::move(ready));
  discard_unless_begun(id, task);
  return {};
}

void DcPart::discard_unless_begun(const std::string& id, const std::string& task) {
  run_after(context_.executor, kBeginLimit, [weak = weak_from_this(), id, task] {
    if (auto self = weak.lock()) self->discard_prepared(id, task);
  });
}

void DcPart::discard_prepared(const std::string& id, const std::string& task) {
  arrivals_.erase(id);
  if (!is_plain_id(id) || context_.cluster.migration(id) != nullptr) return;
  context_.engine.discard(site(id));
  notes_.erase(id);
  end_pager(id);
  log::if_failed(remove_tree(site(id).dir));
  if (!is_plain_id(task) || tasks_.count(task) != 0) return;
  // Another migration of it may have begun, and its process be in that cgroup, held; or may begin.
  if (context_.cluster.lock_of(record_.name, task).has_value()) return;
  for (const auto& [other, its_task] : arrivals_) {
    if (its_task == task) return;
  }
  context_.cgroups.kill(context_.executor, cgroup_of(task),
                        [self = shared_from_this(), task](Result<bool>) {
                          log::if_failed(self->context_.cgroups.remove(self->cgroup_of(task)));
                        });
}

}  // namespace dvs
