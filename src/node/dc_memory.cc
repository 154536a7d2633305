// The source's part in moving memory before the decision.
#include "base/clock.h"
#include "mover/injection_helper.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr int64_t kTellEveryNs = 100'000'000;
constexpr auto kKeepLimit = std::chrono::seconds(10);

Error has_ended_error() { return {Code::kNotFound, "the process has ended"}; }

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

// Where a migration's memory is kept until the process has it: what copies it, and who is asked for
// it later, agree on that.
const std::string& DcPart::memory_goes_to(const MigrationRecord& record) {
  return record.file_server.empty() ? record.target : record.file_server;
}
const std::string& DcPart::memory_comes_from(const MigrationRecord& record) {
  return record.file_server.empty() ? record.source : record.file_server;
}

// An unknown one, of a node with a newer DVS, is as good as none.
Packer DcPart::packer_of(const MigrationRecord& record) {
  auto asked = Packer::make(record.compress);
  return asked.ok() ? *asked : *Packer::make("none");
}

MemorySource& DcPart::memory_source(const MigrationRecord& record) {
  auto& memory = memories_[record.id];
  if (memory != nullptr) return *memory;
  MemorySource::Link link;
  const std::string to = memory_goes_to(record);
  link.send = [this, record, to, told_ns = int64_t{0}](std::string_view body) mutable {
    if (monotonic_ns() - told_ns > kTellEveryNs) {
      told_ns = monotonic_ns();
      const MemorySource& source = *memories_.at(record.id);
      participant_.reporter().progress(record, source.sent_bytes(), source.planned_bytes());
    }
    return send_image(to, body);
  };
  link.congested = [this, to] { return is_congested(to); };
  auto injector = [tracer = context_.config.tracer](pid_t pid) {
    return mover::inject_by_helper(tracer, pid);
  };
  memory = std::make_unique<MemorySource>(context_.executor, record.id, record.bandwidth,
                                          packer_of(record), std::move(injector), std::move(link));
  return *memory;
}

void DcPart::copy_memory(const MigrationRecord& record, Done<mover::Round> done) {
  auto processes = processes_of(record.task);
  if (processes.empty()) return context_.later([done] { done(has_ended_error()); });
  memory_source(record).round(std::move(processes), std::move(done));
}

void DcPart::give_up_copying(const MigrationRecord& record) {
  if (auto memory = memories_.find(record.id); memory != memories_.end()) memory->second->give_up();
}

void DcPart::copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) {
  auto processes = processes_of(record.task);
  if (processes.empty()) return context_.later([done] { done(has_ended_error()); });
  if (!record.file_server.empty()) done = entrust(record, std::move(done));
  memory_source(record).last(std::move(processes), budget, std::move(done));
}

// After the last round: the file server says that it has everything, and the target is told what it
// is owed, which is all of it.
Done<mover::Round> DcPart::entrust(const MigrationRecord& record, Done<mover::Round> done) {
  return [self = shared_from_this(), record, done](Result<mover::Round> round) {
    if (!round.ok()) return done(round);
    const Json args = {{"dc", self->record_.name}, {"id", record.id}};
    self->context_.peers->call(
        record.file_server, "migrate.keep", args, kKeepLimit,
        [self, record, round, done](Result<Json> kept) {
          if (!kept.ok()) return done(kept.error().context("the file server"));
          auto memory = self->memories_.find(record.id);
          if (memory == self->memories_.end()) return done(Error(Code::kConflict, "given up"));
          mover::Round entrusted = *round;
          for (const auto& [pid, ranges] : memory->second->stored()) {
            entrusted.owed_bytes += mover::total_size(ranges);
            for (const std::string& body : encode_owed(record.id, pid, ranges)) {
              if (!self->send_image(record.target, body)) {
                return done(Error(Code::kUnavailable, "the link to the target is down"));
              }
            }
          }
          done(entrusted);
        });
  };
}

std::optional<Proposer::Endpoints> DcPart::endpoints_of(const MigrationRecord& record) {
  if (is_served(record.task)) return std::nullopt;
  Proposer::Endpoints endpoints;
  for (const uint32_t slot : bindings_.slots_of(record.task)) {
    endpoints[slot] = region_.at(slot).endpoint.load();
  }
  return endpoints;
}

void DcPart::on_round(const MigrationRecord& record, const CopyingSchedule& schedule) {
  if (record.bandwidth == 0) {
    context_.sent_per_second[memory_goes_to(record)] = schedule.bytes_per_second();
  }
}

}  // namespace dvs
