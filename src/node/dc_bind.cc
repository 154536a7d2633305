// Binding: the directory decides who has an endpoint, the region shows it to the processes. And
// what follows when they die.
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <climits>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr auto kBindAgain = std::chrono::milliseconds(500);
constexpr const char* kUnboundFile = "/unbound.json";
constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9; missing in older headers
constexpr auto kLongestWait = std::chrono::milliseconds(100);
constexpr int kManyWaits = 50;
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

// Servers keep their number; a user slot's endpoint has a generation made from the bind's revision.
int DcPart::endpoint_number(uint32_t slot, uint64_t incarnation) const {
  const int number = region_.number_of(slot);
  if (!region_.is_user(slot)) return number;
  constexpr uint64_t kGenerations = INT_MAX / _ENDPOINT_GENERATION_SIZE - 2;
  return _ENDPOINT(1 + static_cast<int>(incarnation % kGenerations), number);
}

// Claims an endpoint for a process of this node. Answers the endpoint, or kConflict.
void DcPart::bind_in_directory(EndpointRecord record, Done<int> done) {
  const std::string key = context_.keys().endpoint(record_.name, record.slot);
  context_.store.txn(
      {Compare::absent(key)}, {Change::put(key, to_text(to_json(record)), context_.lease)},
      [self = shared_from_this(), record, done](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error().context("cannot bind the endpoint"));
        if (!result->applied) {
          return done(Error(Code::kConflict,
                            "endpoint " + std::to_string(self->region_.number_of(record.slot)) +
                                " of " + self->record_.name + " is in use"));
        }
        const auto incarnation = static_cast<uint64_t>(result->revision);
        if (!self->context_.cluster.book_endpoint(self->record_.name, record, incarnation,
                                                  result->revision)) {
          return done(Error(Code::kUnavailable, "the endpoint went with this node's lease"));
        }
        self->bind_local(record, incarnation, [self, record, incarnation, done] {
          done(self->endpoint_number(record.slot, incarnation));
        });
      });
}

// Of a process that will not run.
void DcPart::withdraw_claim(const EndpointRecord& record) {
  const std::string key = context_.keys().endpoint(record_.name, record.slot);
  context_.store.txn({Compare::value_is(key, to_text(to_json(record)))}, {Change::remove(key)},
                     [weak = weak_from_this(), record](Result<TxnResult> result) {
                       auto self = weak.lock();
                       if (self == nullptr || result.ok()) return;
                       run_after(self->context_.executor, kBindAgain, [weak, record] {
                         if (auto again = weak.lock()) again->withdraw_claim(record);
                       });
                     });
}

// Shows an endpoint in the region, as soon as nobody is in the middle of something with the slot's
// last owner, and then goes on; not at all if the directory does not say so any more.
void DcPart::show(uint32_t slot, const dvk::Identity& identity, std::function<void()> then) {
  if (dvk::bind(region_, slot, identity)) return waits_.erase(slot), then();
  again_later(slot, [self = shared_from_this(), slot, identity, then = std::move(then)] {
    const auto* entry = self->context_.cluster.endpoint(self->record_.name, slot);
    const bool holds = entry != nullptr && entry->incarnation == identity.incarnation &&
                       entry->record.node == identity.node;
    if (holds) self->show(slot, identity, then);
  });
}

// For what waits until somebody has left a slot: that takes microseconds, or as long as a copy, or
// until a process that was stopped goes on. Who died there without anybody's looking is buried.
void DcPart::again_later(uint32_t slot, std::function<void()> then) {
  if (++waits_[slot] == kManyWaits) {
    log::warn("DC {}: endpoint {} waits: a process is stopped in the middle of a call, or moves",
              record_.name, region_.number_of(slot));
  }
  const auto delay = std::min(std::chrono::milliseconds(waits_[slot]), kLongestWait);
  run_after(context_.executor, delay, [weak = weak_from_this(), slot, then = std::move(then)] {
    auto self = weak.lock();
    if (self == nullptr) return;
    self->bury_forgotten(slot);
    then();
  });
}

void DcPart::bury_forgotten(uint32_t slot) {
  for (const uint32_t holder : dvk::holders(region_, slot)) {
    const auto tid = static_cast<int>(region_.at(holder).inside.load());
    const bool unbound = dvk::load_kind(region_.at(holder)) == dvk::Kind::kFree;
    if (unbound && !find_thread(tid).has_value()) dvk::bury(region_, holder);
  }
}

// Shows a process of this node in the region and watches it. If it has died meanwhile, the endpoint
// is given back.
void DcPart::bind_local(const EndpointRecord& record, uint64_t incarnation,
                        const std::function<void()>& then) {
  dvk::Identity identity;
  identity.endpoint = endpoint_number(record.slot, incarnation);
  identity.incarnation = incarnation;
  identity.epoch = record.epoch;
  identity.node = context_.id;
  identity.kind = record.replica ? dvk::Kind::kReplica : dvk::Kind::kLocal;
  identity.pid = record.pid;
  identity.tid = record.tid;
  identity.name = record.name;
  standbys_.erase(record.slot);
  show(record.slot, identity, [self = shared_from_this(), record, then] {
    self->watch_bound(record);
    then();
  });
}

void DcPart::watch_bound(const EndpointRecord& record) {
  watch_thread(record);
  ops_->on_place_changed(record.slot);
}

// The directory knows the endpoint no more. When it is that of a process which lives here and has
// not asked for this, it went with the lease of this node, which had been cut off: everybody else
// was told that the process is gone. So is it (EDVSSHUTDOWN), and then it is bound anew.
void DcPart::on_record_gone(uint32_t slot) {
  const std::optional<EndpointRecord> lost = lost_with_lease(slot);
  unwatch(slot);
  warnings_.erase(slot);
  withdraw(slot);
  if (lost.has_value()) {
    remember_unbound(slot, lost);
    bind_again(*lost);
  }
  primary_gone(slot);
  end_orphan(slot);
}

// The record of an endpoint that a living process has here; also when the dvsd that had bound it
// was restarted since.
std::optional<EndpointRecord> DcPart::lost_with_lease(uint32_t slot) const {
  const auto bound = bound_.find(slot);
  if (bound != bound_.end() && bound->second.unbinding) return std::nullopt;
  const dvk::Identity identity = dvk::identity_of(region_, slot);
  const bool acts = identity.kind == dvk::Kind::kLocal || identity.kind == dvk::Kind::kReplica;
  if (!acts) return std::nullopt;
  std::string task = bound == bound_.end() ? "" : bound->second.task;
  if (bound == bound_.end() || bound->second.pidfd == nullptr) {
    const auto thread = find_thread(identity.tid);
    if (!thread.has_value() || tasks_.at(thread->first).departed) return std::nullopt;
    task = thread->first;
  }
  EndpointRecord lost = record_of(slot, task, {.dc_pid = identity.pid, .dc_tid = identity.tid});
  lost.name = identity.name;
  lost.replica = identity.kind == dvk::Kind::kReplica;
  return lost;
}

// Ends an endpoint in the region. Who binds the slot meanwhile sees to the rest.
void DcPart::withdraw(uint32_t slot) {
  const uint64_t incarnation = region_.at(slot).incarnation.load();
  const bool bound = dvk::load_kind(region_.at(slot)) != dvk::Kind::kFree;
  if (!bound && !dvk::is_leaving(region_, slot)) return;
  if (dvk::unbind(region_, slot)) {
    waits_.erase(slot);
    return;
  }
  again_later(slot, [self = shared_from_this(), slot, incarnation] {
    if (self->region_.at(slot).incarnation.load() != incarnation) return;
    self->withdraw(slot);
    self->ops_->on_place_changed(slot);
  });
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

// Until it is bound, has died, or somebody else has the endpoint. It may be bound already, by a
// transaction that was not answered.
void DcPart::bind_again(const EndpointRecord& record) {
  const auto* entry = context_.cluster.endpoint(record_.name, record.slot);
  const bool gone = !find_thread(record.tid).has_value();
  if (gone || entry != nullptr) remember_unbound(record.slot, std::nullopt);
  if (gone) return;
  if (entry != nullptr) {
    const bool bound = entry->record.node == context_.id && entry->record.task == record.task &&
                       entry->record.tid == record.tid;
    if (bound) return bind_local(entry->record, entry->incarnation, [] {});
    return log::error("DC {}: endpoint {} has been bound by another process", record_.name,
                      region_.number_of(record.slot));
  }
  // It was lost with the lease of the node to which the process has gone, if it has.
  if (participant_.may_have_left(record.task)) return bind_again_later(record);
  log::warn("DC {}: endpoint {} was lost with this node's lease; binding it again", record_.name,
            region_.number_of(record.slot));
  bind_in_directory(record, [weak = weak_from_this(), record](Result<int> bound) {
    auto self = weak.lock();
    if (self == nullptr) return;
    if (bound.ok()) return self->remember_unbound(record.slot, std::nullopt);
    self->bind_again_later(record);
  });
}

void DcPart::bind_again_later(const EndpointRecord& record) {
  run_after(context_.executor, kBindAgain, [weak = weak_from_this(), record] {
    if (auto self = weak.lock()) self->bind_again(record);
  });
}

// In a file of this node: a dvsd that dies meanwhile leaves the rest to the next one.
void DcPart::remember_unbound(uint32_t slot, const std::optional<EndpointRecord>& record) {
  Json list = Json::array();
  for (const EndpointRecord& each : unbound()) {
    if (each.slot != slot) list.push_back(to_json(each));
  }
  if (record.has_value()) list.push_back(to_json(*record));
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

// Who has this endpoint here, from now on; when it has ended already, that is found out soon.
void DcPart::watch_thread(const EndpointRecord& record) {
  Bound& bound = bound_[record.slot];
  bound = Bound{};
  bound.task = record.task;
  bound.number = ++bindings_;
  const auto thread = find_thread(record.tid);
  UniqueFd pidfd = thread.has_value() ? open_pidfd(thread->second) : UniqueFd();
  if (!pidfd.valid()) {
    context_.later([weak = weak_from_this(), slot = record.slot, number = bound.number] {
      auto self = weak.lock();
      if (self != nullptr && self->is_bound(slot, number)) self->process_died(slot);
    });
    return;
  }
  const uint32_t slot = record.slot;
  const ThreadIds& ids = thread->second;
  bound.host_pid = ids.host_pid;
  bound.host_tid = ids.host_tid;
  bound.task = thread->first;
  bound.pidfd =
      std::make_unique<boost::asio::posix::stream_descriptor>(context_.executor, pidfd.release());
  await_death(slot);
}

void DcPart::await_death(uint32_t slot) {
  Bound& bound = bound_.at(slot);
  bound.pidfd->async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      [weak = weak_from_this(), slot, number = bound.number](const boost::system::error_code& ec) {
        auto self = weak.lock();
        if (ec || self == nullptr || !self->is_bound(slot, number)) return;
        if (!has_ended(*self->bound_.at(slot).pidfd)) return self->await_death(slot);
        self->process_died(slot);
      });
}

bool DcPart::is_bound(uint32_t slot, uint64_t number) const {
  const auto found = bound_.find(slot);
  return found != bound_.end() && found->second.number == number;
}

// The process bound here has ended: its peers are released at once. If somebody wants to be told
// (dc_warn2proc, priv_warn), it is; then the directory follows.
void DcPart::process_died(uint32_t slot) {
  auto found = bound_.find(slot);
  if (found == bound_.end()) return;
  const std::string task = found->second.task;
  const dvk::Identity dead = dvk::identity_of(region_, slot);
  // Once it is reaped, its first process's record of its end is there.
  std::optional<int> status = status_of_zombie(found->second.host_pid);
  if (!status.has_value()) status = exit_status_of(dead.pid);
  log::info("DC {}: endpoint {}: its process {} has ended", record_.name, region_.number_of(slot),
            dead.pid);
  bound_.erase(found);
  const int own_warning = region_.at(slot).priv_warn.load();
  dvk::bury(region_, slot);
  Warning warning;
  for (const int to : {own_warning, record_.warn2proc}) {
    const bool known = region_.slot_of(to) < region_.slots() && region_.slot_of(to) != slot;
    const bool twice = !warning.to.empty() && warning.to.front() == to;
    if (known && !twice) warning.to.push_back(to);
  }
  if (warning.to.empty()) {
    remove_from_directory(slot);
  } else {
    warning.m.m_type = record_.warnmsg;
    warning.m.m1_i1 = status.value_or(0);
    warning.m.m1_i2 = -1;
    warning.until_ns = monotonic_ns() + kWarningLimitNs;
    warnings_[slot] = std::move(warning);
    dvk::retire(region_, slot);
    warn_next(slot);
  }
  if (const auto of = tasks_.find(task); of != tasks_.end() && of->second.root_pid == dead.pid) {
    of->second.exit_status = status;
  }
  task_may_have_ended(task);
}

void DcPart::warn_next(uint32_t slot) {
  auto found = warnings_.find(slot);
  if (found == warnings_.end()) return;
  Warning& warning = found->second;
  if (warning.to.empty() || monotonic_ns() > warning.until_ns) {
    warnings_.erase(found);
    return remove_from_directory(slot);
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

// Gives an endpoint of this node back. If the directory cannot be reached, tries until it can.
void DcPart::remove_from_directory(uint32_t slot) {
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (entry == nullptr || entry->record.node != context_.id) return;
  unwatch(slot);
  remove_record(*entry);
}

// As long as it is of that binding: who has the slot next, or has come back, keeps it.
void DcPart::remove_record(const Cluster::EndpointEntry& of) {
  const auto* entry = context_.cluster.endpoint(record_.name, of.record.slot);
  if (entry == nullptr || entry->record.node != context_.id ||
      entry->incarnation != of.incarnation || entry->record.epoch != of.record.epoch) {
    return;
  }
  const std::string key = context_.keys().endpoint(record_.name, of.record.slot);
  context_.store.txn({Compare::exists_at(key, entry->revision)}, {Change::remove(key)},
                     [weak = weak_from_this(), of](Result<TxnResult> result) {
                       auto self = weak.lock();
                       if (self == nullptr || (result.ok() && result->applied)) return;
                       run_after(self->context_.executor, std::chrono::milliseconds(200),
                                 [weak, of] {
                                   if (auto again = weak.lock()) again->remove_record(of);
                                 });
                     });
}

}  // namespace dvs
