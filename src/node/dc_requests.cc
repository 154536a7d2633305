// What processes of the DC ask of dvsd through the region's control slots. Every field is input.
#include <algorithm>

#include "node/dc_part.h"

namespace dvs {

using dvk::Kind;

namespace {

uint32_t word(dvk::ControlPhase phase) { return static_cast<uint32_t>(phase); }

}  // namespace

void DcPart::serve_requests() {
  auto& slots = region_.header().control;
  for (size_t index = 0; index < dvk::kControlSlots; ++index) {
    dvk::ControlSlot& slot = slots[index];
    if (slot.phase.load() != word(dvk::ControlPhase::kPosted)) continue;
    const uint32_t ticket = slot.ticket.load();
    auto [known, fresh] = in_service_.try_emplace(index, ticket);
    if (!fresh && known->second == ticket) continue;
    known->second = ticket;
    char name[sizeof slot.name];
    slot.name.load(name);
    const Asked asked{slot.command.load(), slot.pid.load(), slot.endpoint.load(), slot.node.load(),
                      name};
    const Answer answer = [self = shared_from_this(), index, ticket](int rc) {
      self->answer_request(index, ticket, rc);
    };
    if (region_.slot_of(asked.endpoint) >= region_.slots()) {
      answer(EDVSENDPOINT);
      continue;
    }
    switch (static_cast<dvk::ControlOp>(slot.op.load())) {
      case dvk::ControlOp::kBind:
        serve_bind(asked, answer);
        break;
      case dvk::ControlOp::kUnbind:
        serve_unbind(asked.endpoint, answer);
        break;
      case dvk::ControlOp::kMigrate:
        serve_migrate(asked, answer);
        break;
      case dvk::ControlOp::kHardwareNotify:
        serve_hardware_notify(asked.endpoint, answer);
        break;
      default:
        answer(EDVSNOSYS);
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

void DcPart::serve_bind(const Asked& asked, const Answer& answer) {
  if (asked.endpoint == HARDWARE) return answer(EDVSBADPROC);
  const uint32_t slot = region_.slot_of(asked.endpoint);
  if (asked.command == RMT_BIND || asked.command == BKUP_BIND) {
    const auto owner = asked.node >= 0 && asked.node < kMaxNodes
                           ? context_.cluster.name_of(static_cast<NodeId>(asked.node))
                           : std::nullopt;
    if (!owner.has_value() || asked.node == context_.id) return answer(EDVSBADNODEID);
    const auto& nodes = record_.nodes;
    if (std::find(nodes.begin(), nodes.end(), *owner) == nodes.end()) return answer(EDVSNODCNODE);
  }
  if (asked.command == RMT_BIND) return answer(name_remote(slot, asked));
  const auto thread = find_thread(asked.pid);
  if (!thread.has_value()) return answer(EDVSBADPID);
  if (participant_.is_stopping(thread->first)) return answer(dvk::kAskAgain);
  const dvk::Descriptor& d = region_.at(slot);
  const Kind bound = dvk::load_kind(d);
  const bool stands_by = asked.command == BKUP_BIND || asked.command == REPLICA_BIND;
  const bool again = d.tid.load() == thread->second.dc_tid && bound != Kind::kFree &&
                     (bound == Kind::kBackup) == (asked.command == BKUP_BIND);
  if (again) return answer(d.endpoint.load());
  if (stands_by && bound == Kind::kRemote && d.incarnation.load() != 0) {
    const Kind kind = asked.command == BKUP_BIND ? Kind::kBackup : Kind::kReplica;
    stand_by(slot, kind, dvk::identity_of(region_, slot), thread->first, thread->second);
    return answer(d.endpoint.load());
  }
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  const bool own = entry != nullptr && entry->record.node == context_.id &&
                   entry->record.task == thread->first &&
                   entry->record.tid == thread->second.dc_tid;
  if (own && asked.command != BKUP_BIND) {  // by a dvsd that died before it could answer
    return bindings_.bind_local(entry->record, entry->incarnation,
                                [self = shared_from_this(), slot, answer] {
                                  answer(self->region_.at(slot).endpoint.load());
                                });
  }
  const bool used = bound != Kind::kFree || entry != nullptr;
  if (used || asked.command == BKUP_BIND) return answer(EDVSSLOTUSED);
  EndpointRecord record = record_of(slot, thread->first, thread->second);
  record.replica = asked.command == REPLICA_BIND;
  const std::string own_name = name_of_thread(thread->second.host_tid);
  if (!own_name.empty()) record.name = own_name;
  if (!asked.name.empty()) record.name = asked.name;
  bindings_.bind(record, [answer](Result<int> bound_to) {
    const int failure =
        !bound_to.ok() && bound_to.error().code() == Code::kConflict ? EDVSSLOTUSED : EDVSRSCBUSY;
    answer(bound_to.ok() ? *bound_to : failure);
  });
}

// dvk_rmtbind. An endpoint that is not bound anywhere yet: senders wait for the directory's news.
int DcPart::name_remote(uint32_t slot, const Asked& asked) {
  const dvk::Descriptor& d = region_.at(slot);
  const Kind bound = dvk::load_kind(d);
  const bool known = bound == Kind::kRemote && static_cast<int>(d.node.load()) == asked.node;
  if (known) return d.endpoint.load();
  if (bound != Kind::kFree) return EDVSSLOTUSED;
  const int number = region_.number_of(slot);
  const auto node = static_cast<uint32_t>(asked.node);
  const dvk::Identity named{number, 0, 0, node, Kind::kRemote, 0, 0, asked.name};
  return dvk::bind(region_, slot, named) ? number : EDVSRSCBUSY;
}

void DcPart::serve_unbind(int endpoint, const Answer& answer) {
  const uint32_t slot = region_.slot_of(endpoint);
  const auto* entry = context_.cluster.endpoint(record_.name, slot);
  if (!region_.names(endpoint, slot)) return answer(EDVSENDPOINT);
  if (standbys_.count(slot) != 0) return end_standby(slot), answer(OK);
  if (entry != nullptr) {
    if (entry->record.node != context_.id) return answer(EDVSRMTPROC);
    if (participant_.is_stopping(entry->record.task)) return answer(dvk::kAskAgain);
    if (dvk::is_migrating(region_.at(slot))) return answer(EDVSMIGRATE);
  }
  // (Nobody may have it, but this node alone: dvk_rmtbind().)
  bindings_.unbind(slot, [self = shared_from_this(), answer](Result<bool> unbound) {
    const bool again = !unbound.ok() && unbound.error().code() == Code::kUnavailable;
    answer(unbound.ok() ? OK : again ? dvk::kAskAgain : EDVSRSCBUSY);
  });
}

// At the node of the endpoint, one bit is set; from another, that node is asked to.
void DcPart::serve_hardware_notify(int endpoint, const Answer& answer) {
  const uint32_t slot = region_.slot_of(endpoint);
  if (endpoint == HARDWARE) return answer(EDVSBADDEST);
  const int here = notify_from_hardware(endpoint);
  if (here != EDVSRMTPROC) return answer(here);
  const Json args = {{"dc", record_.name}, {"endpoint", endpoint}};
  context_.rpc->call(static_cast<NodeId>(region_.at(slot).node.load()), "notify.hardware", args,
                     std::chrono::seconds(10), [answer](Result<Json> told) {
                       auto rc = told.ok() ? json_get<int>(*told, "rc") : Result<int>(told.error());
                       answer(rc.ok() ? *rc : EDVSNOTCONN);
                     });
}

int DcPart::notify_from_hardware(int endpoint) {
  const uint32_t slot = region_.slot_of(endpoint);
  if (slot >= region_.slots()) return EDVSENDPOINT;
  dvk::Descriptor& d = region_.at(slot);
  const Kind kind = dvk::load_kind(d);
  if (dvk::is_gone(kind)) return EDVSDSTDIED;
  if (!region_.names(endpoint, slot)) return EDVSENDPOINT;
  if (!dvk::runs_here(kind)) return EDVSRMTPROC;
  if (dvk::is_migrating(d)) return EDVSMIGRATE;
  const uint32_t source = region_.slot_of(HARDWARE);
  if (!dvk::may_receive(d, source)) return EDVSTRAPDENIED;
  region_.notifies(slot).set(source);
  dvk::event_signal(d.event);
  return OK;
}

// A request of the task is being carried out.
bool DcPart::is_served(const std::string& task) const {
  return std::any_of(in_service_.begin(), in_service_.end(), [&](const auto& entry) {
    const auto thread = find_thread(region_.header().control[entry.first].tid.load());
    return thread.has_value() && thread->first == task;
  });
}

// A task that is stopped makes no requests: its threads are told to try again (kAskAgain), and the
// freeze catches them outside. Their next try is on the target.
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
