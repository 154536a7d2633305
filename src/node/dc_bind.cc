// Who is bound here: their deaths, what is told of them, and what else Bindings ask of this node.
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr const char* kUnboundFile = "/unbound.json";
constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9; missing in older headers
constexpr int64_t kWarningLimitNs = 30'000'000'000;  // the original's

}  // namespace

// A descriptor that becomes readable when the thread (or process) ends.
UniqueFd DcPart::open_pidfd(const ThreadIds& ids) {
  const auto open = [](pid_t id, unsigned flags) {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, id, flags)));
  };
  if (ids.host_tid == ids.host_pid) return open(ids.host_pid, 0);
  UniqueFd thread = open(ids.host_tid, kPidfdThread);
  return thread.valid() ? std::move(thread) : open(ids.host_pid, 0);
}

bool DcPart::has_ended(boost::asio::posix::stream_descriptor& pidfd) {
  // The reactor may wake a wait for a descriptor that was closed meanwhile.
  pollfd ended{pidfd.native_handle(), POLLIN, 0};
  return ::poll(&ended, 1, 0) > 0 && (ended.revents & POLLIN) != 0;
}

std::optional<uint32_t> DcPart::free_user_slot() const {
  const auto& used = context_.cluster.endpoints(record_.name);
  for (uint32_t slot = region_.slots(); slot-- > region_.sysprocs();) {
    if (used.count(slot) == 0 && dvk::load_kind(region_.at(slot)) == dvk::Kind::kFree) return slot;
  }
  return std::nullopt;
}

EndpointRecord DcPart::record_of(uint32_t slot, const std::string& task,
                                 const ThreadIds& ids) const {
  EndpointRecord record;
  record.slot = slot;
  record.node = context_.id;
  record.pid = ids.dc_pid;
  record.tid = ids.dc_tid;
  record.task = task;
  if (const auto found = tasks_.find(task); found != tasks_.end()) {
    record.name = dvk::identity_of(region_, found->second.slot).name;
  }
  return record;
}

// Before what earlier migrations have left is known, anything may be.
bool DcPart::is_migrating(const std::string& task) const {
  return !recovered_ || participant_.migrates(task);
}

std::optional<std::string> DcPart::task_of_thread(int tid) const {
  const auto thread = find_thread(tid);
  if (!thread.has_value() || tasks_.at(thread->first).departed) return std::nullopt;
  return thread->first;
}

// When it has ended already, that is found out soon.
void DcPart::watch(const EndpointRecord& record, uint64_t number) {
  Watched& watched = watched_[record.slot];
  watched = Watched{};
  watched.number = number;
  const auto thread = find_thread(record.tid);
  UniqueFd pidfd = thread.has_value() ? open_pidfd(thread->second) : UniqueFd();
  if (!pidfd.valid()) {
    context_.later([weak = weak_from_this(), slot = record.slot, number] {
      auto self = weak.lock();
      if (self != nullptr && self->bindings_.is_bound(slot, number)) self->process_died(slot);
    });
    return;
  }
  watched.host_pid = thread->second.host_pid;
  watched.pidfd =
      std::make_unique<boost::asio::posix::stream_descriptor>(context_.executor, pidfd.release());
  await_death(record.slot);
}

void DcPart::await_death(uint32_t slot) {
  Watched& watched = watched_.at(slot);
  watched.pidfd->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                            [weak = weak_from_this(), slot,
                             number = watched.number](const boost::system::error_code& ec) {
                              auto self = weak.lock();
                              const bool still =
                                  !ec && self != nullptr && self->bindings_.is_bound(slot, number);
                              if (!still) return;
                              if (!has_ended(*self->watched_.at(slot).pidfd)) {
                                return self->await_death(slot);
                              }
                              self->process_died(slot);
                            });
}

// The process bound here has ended: its peers are released at once. If somebody wants to be told
// (dc_warn2proc, priv_warn), it is; then the directory follows.
void DcPart::process_died(uint32_t slot) {
  const std::optional<std::string> of = bindings_.task_of(slot);
  if (!of.has_value()) return;
  const std::string& task = *of;
  const dvk::Identity dead = dvk::identity_of(region_, slot);
  // Once it is reaped, its first process's record of its end is there.
  std::optional<int> status = status_of_zombie(watched_.at(slot).host_pid);
  if (!status.has_value()) status = exit_status_of(dead.pid);
  log::info("DC {}: endpoint {}: its process {} has ended", record_.name, region_.number_of(slot),
            dead.pid);
  bindings_.forget(slot);
  const int own_warning = region_.at(slot).priv_warn.load();
  dvk::bury(region_, slot);
  Warning warning;
  for (const int to : {own_warning, record_.warn2proc}) {
    const bool known = region_.slot_of(to) < region_.slots() && region_.slot_of(to) != slot;
    const bool twice = !warning.to.empty() && warning.to.front() == to;
    if (known && !twice) warning.to.push_back(to);
  }
  if (warning.to.empty()) {
    bindings_.remove_from_directory(slot);
  } else {
    warning.m.m_type = record_.warnmsg;
    warning.m.m1_i1 = status.value_or(0);
    warning.m.m1_i2 = -1;
    warning.until_ns = monotonic_ns() + kWarningLimitNs;
    warnings_[slot] = std::move(warning);
    dvk::retire(region_, slot);
    warn_next(slot);
  }
  if (const auto known = tasks_.find(task);
      known != tasks_.end() && known->second.root_pid == dead.pid) {
    known->second.exit_status = status;
  }
  task_may_have_ended(task);
}

void DcPart::warn_next(uint32_t slot) {
  auto found = warnings_.find(slot);
  if (found == warnings_.end()) return;
  Warning& warning = found->second;
  if (warning.to.empty() || monotonic_ns() > warning.until_ns) {
    warnings_.erase(found);
    return bindings_.remove_from_directory(slot);
  }
  const int to = warning.to.front();
  warning.to.erase(warning.to.begin());
  dvk::post_warning(region_, slot, to, warning.m);
  run_after(context_.executor, std::chrono::nanoseconds(kWarningLimitNs),
            [weak = weak_from_this(), slot] {
              if (auto self = weak.lock()) self->look_at_warnings();
            });
}

// After each doorbell, and when time is over.
void DcPart::look_at_warnings() {
  std::vector<uint32_t> over;
  for (const auto& [slot, warning] : warnings_) {
    if (dvk::has_warned(region_, slot) || monotonic_ns() > warning.until_ns) over.push_back(slot);
  }
  for (const uint32_t slot : over) warn_next(slot);
}

void DcPart::on_gone(uint32_t slot) {
  warnings_.erase(slot);
  primary_gone(slot);
  end_orphan(slot);
}

// In a file of this node: a dvsd that dies meanwhile leaves the rest to the next one.
void DcPart::keep_unbound(const std::vector<EndpointRecord>& records) {
  Json list = Json::array();
  for (const EndpointRecord& each : records) list.push_back(to_json(each));
  log::if_failed(replace_file(dir_ + kUnboundFile, to_text(list)));
}

std::vector<EndpointRecord> DcPart::unbound() const {
  std::vector<EndpointRecord> records;
  const auto text = read_file(dir_ + kUnboundFile);
  const auto list = text.ok() ? parse_json(*text) : Result<Json>(text.error());
  if (!list.ok() || !list->is_array()) return records;
  for (const Json& each : *list) {
    if (auto record = endpoint_record(to_text(each)); record.ok()) {
      records.push_back(std::move(*record));
    }
  }
  return records;
}

std::optional<std::pair<std::string, ThreadIds>> DcPart::find_thread(int dc_tid) const {
  for (const auto& [id, task] : tasks_) {
    if (task.ended) continue;
    auto threads = threads_of_cgroup(context_.cgroups.dir(cgroup_of(id)));
    if (!threads.ok()) continue;
    for (const ThreadIds& ids : *threads) {
      if (ids.dc_tid == dc_tid) return std::make_pair(id, ids);
    }
  }
  return std::nullopt;
}

}  // namespace dvs
