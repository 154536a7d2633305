// This node's part in moving memory: the mover on the source, the pager on the target.
#include <fcntl.h>
#include <sys/socket.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr int64_t kTellEveryNs = 100'000'000;
constexpr auto kProposeAgain = std::chrono::milliseconds(200);
constexpr int kPagerDirectory = 3;  // its descriptor, see apps/dvs-pager

}  // namespace

// ---- source ----

// In the cgroup there may also be an engine that was started ahead for a migration to this node
// which never began. What runs in the DC has the DC's first process for an ancestor.
bool DcPart::runs_in_dc(pid_t host_pid) const {
  while (host_pid > 1 && host_pid != container_->init_pid()) host_pid = parent_of(host_pid);
  return host_pid > 1;
}

std::vector<mover::ProcessId> DcPart::processes_of(const std::string& task) const {
  std::vector<mover::ProcessId> processes;
  const auto threads = threads_of_cgroup(context_.cgroups.dir(cgroup_of(task)));
  for (const ThreadIds& ids : threads.ok() ? *threads : std::vector<ThreadIds>{}) {
    if (ids.host_pid == ids.host_tid && runs_in_dc(ids.host_pid))
      processes.push_back({ids.host_pid, ids.dc_pid});
  }
  return processes;
}

void DcPart::copy_memory(const MigrationRecord& record, bool frozen, Done<mover::Round> done) {
  auto& memory = memories_[record.id];
  if (memory == nullptr) {
    MemorySource::Link link;
    link.send = [this, record, told_ns = int64_t{0}](std::string_view body) mutable {
      if (monotonic_ns() - told_ns > kTellEveryNs) {
        told_ns = monotonic_ns();
        const MemorySource& source = *memories_.at(record.id);
        on_progress(record, source.sent_bytes(), source.planned_bytes());
      }
      return send(static_cast<const MigrationRecord&>(record), body);
    };
    link.congested = [this, record] { return congested(record); };
    memory = std::make_unique<MemorySource>(context_.executor, record.id, record.bandwidth,
                                            std::move(link));
  }
  auto processes = processes_of(record.task);
  if (processes.empty()) {
    return context_.later([done] { done(Error(Code::kNotFound, "the process has ended")); });
  }
  memory->round(std::move(processes), frozen, std::move(done));
}

// The endpoints are those that the task has now: it may have bound and unbound some meanwhile.
void DcPart::propose_freeze(const MigrationRecord& record) {
  const auto* entry = context_.cluster.migration(record.id);
  if (entry == nullptr || entry->record.state != MigrationState::kCopying) return;
  MigrationRecord active = record;
  active.state = MigrationState::kActive;
  active.slots.clear();
  active.endpoints.clear();
  const std::string key = context_.keys().migration(record.id);
  std::vector<Compare> compares = {Compare::exists_at(key, entry->revision)};
  for (const auto& [slot, bound] : bound_) {
    if (bound.task != record.task) continue;
    active.slots.push_back(slot);
    active.endpoints.push_back(region_.at(slot).endpoint.load());
    const auto* endpoint = context_.cluster.endpoint(record_.name, slot);
    const int64_t gone = -1;  // refuses
    compares.push_back(Compare::exists_at(context_.keys().endpoint(record_.name, slot),
                                          endpoint == nullptr ? gone : endpoint->revision));
  }
  context_.store.txn(std::move(compares), {Change::put(key, to_text(to_json(active)))},
                     [weak = weak_from_this(), record](Result<TxnResult> result) {
                       auto self = weak.lock();
                       if (self == nullptr || (result.ok() && result->applied)) return;
                       run_after(self->context_.executor, kProposeAgain, [weak, record] {
                         if (auto again = weak.lock()) again->propose_freeze(record);
                       });
                     });
}

void DcPart::hurry(const std::string& migration, const std::string& why) {
  if (auto found = sources_.find(migration); found != sources_.end()) found->second->hurry(why);
}

void DcPart::on_round(const MigrationRecord& record, const CopyingSchedule& schedule) {
  tell_coordinator(record, "migrate.round", to_json(schedule));
}

// ---- target ----

// Before criu wants it. It goes on without dvsd, until all memory is in place.
void DcPart::start_pager(const MigrationRecord& record) {
  const std::string directory = site(record.id).dir;
  int ends[2];
  if (Status made = make_dirs(directory); !made.ok()) return log::if_failed(made);
  const UniqueFd images(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return;
  const UniqueFd theirs(ends[1]);
  auto pager = std::make_shared<Pager>();
  pager->words.reset(ends[0]);
  ChildOptions options;
  options.argv = {context_.config.pager, context_.cgroups.kill_file(cgroup_of(record.task))};
  options.stdin_fd = theirs.get();
  options.capture_output = true;
  options.pass_fds = {{images.get(), kPagerDirectory}};
  auto started = run_child(context_.executor, std::move(options), [pager](ChildResult result) {
    pager->result = std::move(result);
    if (auto waiting = std::exchange(pager->waiting, nullptr)) waiting();
  });
  if (!started.ok()) return log::error("cannot start the pager: {}", started.error().message());
  pager->pid = *started;
  pagers_[record.id] = std::move(pager);
}

// A pager of an earlier dvsd is waited for by nobody.
void DcPart::await_memory(const MigrationRecord& record, Done<bool> done) {
  auto found = pagers_.find(record.id);
  if (found == pagers_.end()) return context_.later([done] { done(true); });
  const auto pager = found->second;
  auto tell = [self = shared_from_this(), id = record.id, pager, done] {
    self->pagers_.erase(id);
    if (pager->result->ok()) return done(true);
    done(Error(Code::kInternal, "the process was ended, since its memory could not be had: " +
                                    pager->result->describe() + " " + pager->result->output));
  };
  if (pager->result) return context_.later(tell);
  pager->waiting = tell;
}

// It ends when nobody wants it, or with the processes.
void DcPart::end_pager(const std::string& migration) { pagers_.erase(migration); }

}  // namespace dvs
