// Binding: the directory decides who has an endpoint, the region shows it to the processes. Also
// what processes ask of dvsd through the region's control slots, and what follows when they die.
#include <poll.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <climits>

#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {
namespace {

constexpr auto kBindAgain = std::chrono::milliseconds(500);
constexpr unsigned kPidfdThread = O_EXCL;  // PIDFD_THREAD, Linux 6.9; missing in older headers

// A descriptor that becomes readable when the thread (or process) ends.
UniqueFd open_pidfd(const ThreadIds& ids) {
  const auto open = [](pid_t id, unsigned flags) {
    return UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, id, flags)));
  };
  if (ids.host_tid == ids.host_pid) return open(ids.host_pid, 0);
  UniqueFd thread = open(ids.host_tid, kPidfdThread);
  return thread.valid() ? std::move(thread) : open(ids.host_pid, 0);
}

bool has_ended(boost::asio::posix::stream_descriptor& pidfd) {
  // The reactor may wake a wait for a descriptor that was closed meanwhile.
  pollfd ended{pidfd.native_handle(), POLLIN, 0};
  return ::poll(&ended, 1, 0) != 0;
}

uint32_t word(dvk::ControlPhase phase) { return static_cast<uint32_t>(phase); }

}  // namespace

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
      {Compare::absent(key)}, {Change::put(key, to_json(record).dump(), context_.lease)},
      [self = shared_from_this(), record, done](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error().context("cannot bind the endpoint"));
        if (!result->applied) {
          return done(Error(Code::kConflict,
                            "endpoint " + std::to_string(self->region_.number_of(record.slot)) +
                                " of " + self->record_.name + " is in use"));
        }
        const auto incarnation = static_cast<uint64_t>(result->revision);
        self->context_.cluster.book_endpoint(self->record_.name, record, incarnation,
                                             result->revision);
        self->bind_local(record, incarnation);
        done(self->endpoint_number(record.slot, incarnation));
      });
}

// Shows a process of this node in the region and watches it. If it has died meanwhile, the endpoint
// is given back.
void DcPart::bind_local(const EndpointRecord& record, uint64_t incarnation) {
  auto thread = find_thread(record.tid);
  dvk::Identity identity;
  identity.endpoint = endpoint_number(record.slot, incarnation);
  identity.incarnation = incarnation;
  identity.epoch = record.epoch;
  identity.node = context_.id;
  identity.kind = dvk::Kind::kLocal;
  identity.pid = record.pid;
  identity.tid = record.tid;
  identity.name = record.name;
  backups_.erase(record.slot);
  dvk::bind(region_, record.slot, identity);
  if (thread.has_value()) {
    watch_process(record.slot, thread->first, thread->second);
  } else {
    bound_[record.slot].task = record.task;
    context_.later([weak = weak_from_this(), slot = record.slot] {
      if (auto self = weak.lock()) self->process_died(slot);
    });
  }
  ops_->on_place_changed(record.slot);
}

// The directory knows the endpoint no more. When it is that of a process which lives here and has
// not asked for this, it went with the lease of this node, which had been cut off: everybody else
// was told that the process is gone. So is it (EDVSSHUTDOWN), and then it is bound anew.
void DcPart::on_record_gone(uint32_t slot) {
  const auto bound = bound_.find(slot);
  std::optional<EndpointRecord> lost;
  if (bound != bound_.end() && !bound->second.unbinding && bound->second.pidfd != nullptr) {
    const dvk::Identity identity = dvk::identity_of(region_, slot);
    lost.emplace();
    lost->slot = slot;
    lost->node = context_.id;
    lost->pid = identity.pid;
    lost->tid = identity.tid;
    lost->name = identity.name;
    lost->task = bound->second.task;
  }
  unwatch(slot);
  if (dvk::load_kind(region_.at(slot)) != dvk::Kind::kFree) dvk::unbind(region_, slot);
  if (lost.has_value()) bind_again(*lost);
}

// Until it is bound, has died, or somebody else has the endpoint.
void DcPart::bind_again(const EndpointRecord& record) {
  log::warn("DC {}: endpoint {} was lost with this node's lease; binding it again", record_.name,
            region_.number_of(record.slot));
  bind_in_directory(record, [weak = weak_from_this(), record](Result<int> bound) {
    auto self = weak.lock();
    if (self == nullptr || bound.ok()) return;
    if (bound.error().code() == Code::kConflict) return log::error("{}", bound.error().message());
    run_after(self->context_.executor, kBindAgain, [weak, record] {
      auto again = weak.lock();
      if (again != nullptr && again->find_thread(record.tid).has_value()) again->bind_again(record);
    });
  });
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

// A backup is no place of the endpoint: its death concerns this node only.
void DcPart::watch_backup(uint32_t slot) {
  const auto thread = find_thread(static_cast<int>(region_.at(slot).tid.load()));
  UniqueFd pidfd = thread.has_value() ? open_pidfd(thread->second) : UniqueFd();
  if (!pidfd.valid()) return dvk::drop_backup(region_, slot);
  backups_[slot] =
      std::make_unique<boost::asio::posix::stream_descriptor>(context_.executor, pidfd.release());
  await_death_of_backup(slot);
}

void DcPart::await_death_of_backup(uint32_t slot) {
  backups_.at(slot)->async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      [weak = weak_from_this(), slot](const boost::system::error_code& ec) {
        auto self = weak.lock();
        if (ec || self == nullptr) return;
        auto found = self->backups_.find(slot);
        if (found == self->backups_.end()) return;
        if (!has_ended(*found->second)) return self->await_death_of_backup(slot);
        self->backups_.erase(found);
        dvk::drop_backup(self->region_, slot);
      });
}

void DcPart::watch_process(uint32_t slot, const std::string& task, const ThreadIds& ids) {
  Bound& bound = bound_[slot];
  bound.host_pid = ids.host_pid;
  bound.host_tid = ids.host_tid;
  bound.task = task;
  UniqueFd pidfd = open_pidfd(ids);
  if (!pidfd.valid()) {
    context_.later([weak = weak_from_this(), slot] {
      if (auto self = weak.lock()) self->process_died(slot);
    });
    return;
  }
  bound.pidfd =
      std::make_unique<boost::asio::posix::stream_descriptor>(context_.executor, pidfd.release());
  await_death(slot);
}

void DcPart::await_death(uint32_t slot) {
  bound_.at(slot).pidfd->async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      [weak = weak_from_this(), slot](const boost::system::error_code& ec) {
        auto self = weak.lock();
        if (ec || self == nullptr) return;
        auto found = self->bound_.find(slot);
        if (found == self->bound_.end() || found->second.pidfd == nullptr) return;
        if (!has_ended(*found->second.pidfd)) return self->await_death(slot);
        self->process_died(slot);
      });
}

// The process bound here has ended: its peers are released at once, the directory follows.
void DcPart::process_died(uint32_t slot) {
  auto found = bound_.find(slot);
  if (found == bound_.end()) return;
  const std::string task = found->second.task;
  bound_.erase(found);
  dvk::bury(region_, slot);
  remove_from_directory(slot);
  task_may_have_ended(task);
}

// Gives an endpoint of this node back. If the directory cannot be reached, tries until it can.
void DcPart::remove_from_directory(uint32_t slot) {
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (entry == nullptr || entry->record.node != context_.id) return;
  const std::string key = context_.keys().endpoint(record_.name, slot);
  unwatch(slot);
  context_.store.txn({Compare::exists_at(key, entry->revision)}, {Change::remove(key)},
                     [weak = weak_from_this(), slot](Result<TxnResult> result) {
                       auto self = weak.lock();
                       if (self == nullptr || (result.ok() && result->applied)) return;
                       run_after(self->context_.executor, std::chrono::milliseconds(200),
                                 [weak, slot] {
                                   if (auto again = weak.lock()) again->remove_from_directory(slot);
                                 });
                     });
}

// ---- requests of processes ----

void DcPart::serve_requests() {
  auto& slots = region_.header().control;
  for (size_t index = 0; index < dvk::kControlSlots; ++index) {
    dvk::ControlSlot& slot = slots[index];
    if (slot.phase.load() != word(dvk::ControlPhase::kPosted)) continue;
    const uint32_t ticket = slot.ticket.load();
    auto [known, fresh] = in_service_.try_emplace(index, ticket);
    if (!fresh && known->second == ticket) continue;
    known->second = ticket;
    char name[sizeof slot.name + 1] = {};
    std::memcpy(name, slot.name, sizeof slot.name);
    const int command = slot.command.load();
    const int pid = slot.pid.load();
    const int endpoint = slot.endpoint.load();
    const int node = slot.node.load();
    switch (static_cast<dvk::ControlOp>(slot.op.load())) {
      case dvk::ControlOp::kBind:
        serve_bind(index, ticket, command, pid, endpoint, node, name);
        break;
      case dvk::ControlOp::kUnbind:
        serve_unbind(index, ticket, endpoint);
        break;
      case dvk::ControlOp::kMigrate:
        serve_migrate(index, ticket, command, pid, endpoint, node);
        break;
      default:
        answer_request(index, ticket, EDVSNOSYS);
    }
  }
}

void DcPart::answer_request(size_t index, uint32_t ticket, int result) {
  dvk::ControlSlot& slot = region_.header().control[index];
  in_service_.erase(index);
  if (slot.ticket.load() != ticket) return;
  slot.result.store(result);
  uint32_t posted = word(dvk::ControlPhase::kPosted);
  slot.phase.compare_exchange_strong(posted, word(dvk::ControlPhase::kDone));
  dvk::futex_wake_all(slot.phase);
}

void DcPart::serve_bind(size_t index, uint32_t ticket, int kind, int pid, int endpoint, int node,
                        const std::string& name) {
  const auto answer = [&](int rc) { answer_request(index, ticket, rc); };
  const uint32_t slot = region_.slot_of(endpoint);
  if (slot >= region_.slots()) return answer(EDVSENDPOINT);
  const dvk::Descriptor& d = region_.at(slot);
  const dvk::Kind bound = dvk::load_kind(d);
  if (kind == RMT_BIND || kind == BKUP_BIND) {
    const auto owner = node >= 0 && node < kMaxNodes
                           ? context_.cluster.name_of(static_cast<NodeId>(node))
                           : std::nullopt;
    if (!owner.has_value() || node == context_.id) return answer(EDVSBADNODEID);
    const auto& nodes = record_.nodes;
    if (std::find(nodes.begin(), nodes.end(), *owner) == nodes.end()) return answer(EDVSNODCNODE);
  }
  if (kind == RMT_BIND) {
    if (bound == dvk::Kind::kRemote && static_cast<int>(d.node.load()) == node) {
      return answer(d.endpoint.load());
    }
    if (bound != dvk::Kind::kFree) return answer(EDVSSLOTUSED);
    // Not bound anywhere yet: senders wait for the directory's news about it.
    dvk::bind(region_, slot,
              {region_.number_of(slot), 0, 0, static_cast<uint32_t>(node), dvk::Kind::kRemote, 0, 0,
               name});
    return answer(region_.number_of(slot));
  }
  const auto thread = find_thread(pid);
  if (!thread.has_value()) return answer(EDVSBADPID);
  const ThreadIds& ids = thread->second;
  if (kind == BKUP_BIND) {
    const bool again = bound == dvk::Kind::kBackup && static_cast<int>(d.tid.load()) == ids.dc_tid;
    if (again) return answer(d.endpoint.load());
    if (bound != dvk::Kind::kRemote) return answer(EDVSSLOTUSED);
    dvk::Identity identity = dvk::identity_of(region_, slot);
    identity.kind = dvk::Kind::kBackup;
    identity.pid = ids.dc_pid;
    identity.tid = ids.dc_tid;
    dvk::bind(region_, slot, identity);
    watch_backup(slot);
    return answer(identity.endpoint);
  }
  if (bound == dvk::Kind::kLocal && d.tid.load() == ids.dc_tid) return answer(d.endpoint.load());
  if (bound != dvk::Kind::kFree || context_.cluster.endpoint(record_.name, slot) != nullptr) {
    return answer(EDVSSLOTUSED);
  }
  for (const auto& [id, source] : sources_) {
    if (source->record().task == thread->first) return answer(EDVSRSCBUSY);
  }
  EndpointRecord record;
  record.slot = slot;
  record.node = context_.id;
  record.pid = ids.dc_pid;
  record.tid = ids.dc_tid;
  record.name = name.empty() ? dvk::identity_of(region_, tasks_[thread->first].slot).name : name;
  record.task = thread->first;
  bind_in_directory(record, [self = shared_from_this(), index, ticket](Result<int> bound_to) {
    const int failure =
        !bound_to.ok() && bound_to.error().code() == Code::kConflict ? EDVSSLOTUSED : EDVSRSCBUSY;
    self->answer_request(index, ticket, bound_to.ok() ? *bound_to : failure);
  });
}

void DcPart::serve_unbind(size_t index, uint32_t ticket, int endpoint) {
  const uint32_t slot = region_.slot_of(endpoint);
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  const auto answer = [&](int rc) { answer_request(index, ticket, rc); };
  if (!region_.names(endpoint, slot)) return answer(EDVSENDPOINT);
  if (entry == nullptr) {  // a remote bind of this node alone
    dvk::unbind(region_, slot);
    return answer(OK);
  }
  if (entry->record.node != context_.id) return answer(EDVSRMTPROC);
  if (dvk::is_migrating(region_.at(slot))) return answer(EDVSMIGRATE);
  const std::string key = context_.keys().endpoint(record_.name, slot);
  if (auto bound = bound_.find(slot); bound != bound_.end()) bound->second.unbinding = true;
  context_.store.txn({Compare::exists_at(key, entry->revision)}, {Change::remove(key)},
                     [self = shared_from_this(), index, ticket, slot](Result<TxnResult> result) {
                       const bool done = result.ok() && result->applied;
                       if (done) {
                         self->unwatch(slot);
                         dvk::unbind(self->region_, slot);
                       } else if (auto bound = self->bound_.find(slot);
                                  bound != self->bound_.end()) {
                         bound->second.unbinding = false;
                       }
                       self->answer_request(index, ticket, done ? OK : EDVSRSCBUSY);
                     });
}

// A task that migrates makes no requests: its threads are told to try again, and the freeze
// catches them outside. (Their next try is on the target.)
Status DcPart::refuse_requests_of(const MigrationRecord& record) {
  auto threads = threads_of_cgroup(context_.cgroups.dir(cgroup_of(record.task)));
  if (!threads.ok()) return threads.error();
  for (dvk::ControlSlot& slot : region_.header().control) {
    if (slot.phase.load() == word(dvk::ControlPhase::kFree)) continue;
    const int tid = slot.tid.load();
    const bool theirs = std::any_of(threads->begin(), threads->end(),
                                    [&](const ThreadIds& ids) { return ids.dc_tid == tid; });
    if (theirs) {
      return Error(Code::kConflict,
                   "a thread of the process is just binding or unbinding an "
                   "endpoint; try again");
    }
  }
  return {};
}

}  // namespace dvs
