#include "part.h"

#include <algorithm>

#include "base/file.h"
#include "dvk/node_view.h"
#include "wire/operation.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kBindAgainNs = 500 * kMs;

std::string describe(const wire::Operation& operation) {
  static const char* const kNames[] = {"",          "request",    "ack",     "answer",
                                       "moved",     "retry",      "cancel",  "copy-read",
                                       "copy-data", "copy-write", "copy-ack"};
  return fmt::format("{} of slot {} #{} to slot {} epoch {} rc {}",
                     kNames[static_cast<int>(operation.type)], operation.slot, operation.number,
                     operation.peer, operation.epoch, operation.rc);
}

}  // namespace

Part::Part(const NodeServices& node, PartState& state)
    : world_(node.world),
      machine_(node.machine),
      state_(state),
      life_(node.life),
      node_id_(static_cast<NodeId>(node.machine.id)),
      dc_(dc_name(state.dc)),
      store_(node.store),
      cluster_(node.cluster),
      peers_(node.peers),
      faults_(node.faults),
      ops_(state.region, node_id_, *this),
      participant_(ParticipantServices{node.scheduler,
                                       node.store,
                                       node.cluster,
                                       node.peers,
                                       node.faults,
                                       {machine_.name, node_id_, machine_.lease}},
                   static_cast<ParticipantHost&>(*this), dc_) {}

int Part::id_of(const std::string& node) const {
  const auto found = cluster_.members().find(node);
  return found == cluster_.members().end() ? -1 : static_cast<int>(found->second);
}

// As DcPart::open(): then the news.
void Part::open() {
  participant_.recover();
  update_nodes();
  for (uint32_t slot = 0; slot < state_.region.slots(); ++slot) {
    if (cluster_.endpoint(dc_, slot) != nullptr || bound_.count(slot) != 0 ||
        dvk::load_kind(state_.region.at(slot)) != dvk::Kind::kFree) {
      place(slot);
    }
  }
  for (const auto& [task, slots] : std::map(state_.tasks)) {
    if (!copy_of(task).has_value()) process_died(task);
  }
  for (const auto& [slot, task] : std::map(state_.unbound)) bind_again(slot, task);
  ops_.drive_all();
}

bool Part::has_closed_gates() const {
  for (uint32_t slot = 0; slot < state_.region.slots(); ++slot) {
    if (dvk::is_migrating(state_.region.at(slot))) return true;
  }
  return false;
}

void Part::update_nodes() {
  auto& entries = state_.region.header().nodes;
  for (auto& entry : entries) entry.state.store(dvk::kNodeUnknown);
  for (const auto& [name, id] : cluster_.members()) {
    entries[id].state.store(cluster_.node(name) != nullptr ? dvk::kNodeUp : dvk::kNodeDown);
  }
  ops_.on_nodes_changed();
  participant_.on_nodes_changed();
}

// ---- binding ----

dvk::Identity Part::identity_of(const EndpointRecord& record, uint64_t incarnation) const {
  dvk::Identity identity;
  identity.endpoint = state_.region.number_of(record.slot);
  identity.incarnation = incarnation;
  identity.epoch = record.epoch;
  identity.node = record.node;
  identity.kind = record.node == node_id_ ? dvk::Kind::kLocal : dvk::Kind::kRemote;
  identity.name = record.name;
  if (record.node == node_id_) {
    identity.pid = record.pid;
    identity.tid = record.tid;
  }
  return identity;
}

void Part::place(uint32_t slot) {
  const auto* entry = cluster_.endpoint(dc_, slot);
  world_.trace("{} hears that slot {} of {} is {}", machine_.name, slot, dc_,
               entry == nullptr ? "free" : fmt::format("at {}", entry->record.node));
  if (entry == nullptr) {
    on_record_gone(slot);
  } else if (entry->record.node == node_id_) {
    const dvk::Kind kind = dvk::load_kind(state_.region.at(slot));
    const bool unanswered = kind == dvk::Kind::kFree && !participant_.migrates(entry->record.task);
    if (bound_.count(slot) == 0 && state_.tasks.count(entry->record.task) != 0 &&
        (dvk::acts_here(kind) || unanswered)) {
      bind_local(entry->record, entry->incarnation);
    }
  } else if (bound_.count(slot) == 0) {
    show(slot, identity_of(entry->record, entry->incarnation));
  }
  ops_.on_place_changed(slot);
}

void Part::show(uint32_t slot, const dvk::Identity& identity) {
  if (dvk::bind(state_.region, slot, identity)) return ops_.on_place_changed(slot);
  after(1 * kMs, [this, slot, identity] {
    const auto* entry = cluster_.endpoint(dc_, slot);
    const bool holds = entry != nullptr && entry->incarnation == identity.incarnation &&
                       entry->record.node == identity.node;
    if (holds) show(slot, identity);
  });
}

void Part::bind_local(const EndpointRecord& record, uint64_t incarnation) {
  show(record.slot, identity_of(record, incarnation));
  bound_[record.slot] = record.task;
  if (process(record.task).over) after(0, [this, task = record.task] { process_died(task); });
}

// Its peers are released at once, the directory follows.
void Part::process_died(const std::string& task) {
  for (const auto& [slot, its_task] : std::map(bound_)) {
    if (its_task != task) continue;
    bound_.erase(slot);
    dvk::bury(state_.region, slot);
    remove_from_directory(slot);
  }
  state_.tasks.erase(task);
}

void Part::remove_from_directory(uint32_t slot) {
  const auto* entry = cluster_.endpoint(dc_, slot);
  if (entry == nullptr || entry->record.node != node_id_) return;
  const std::string key = cluster_.keys().endpoint(dc_, slot);
  store_.txn({Compare::exists_at(key, entry->revision)}, {Change::remove(key)},
             [this, slot](Result<TxnResult> result) {
               if (result.ok() && result->applied) return;
               after(200 * kMs, [this, slot] { remove_from_directory(slot); });
             });
}

// The endpoint went with a lease: everybody was told that its process is gone. If that lives here,
// it is bound anew.
void Part::on_record_gone(uint32_t slot) {
  const SimProcess* process = world_.process_of(state_.dc, slot);
  const bool acts = dvk::load_kind(state_.region.at(slot)) == dvk::Kind::kLocal;
  const bool lives =
      process != nullptr && !process->over && process->copies.count(machine_.id) != 0;
  const std::string task = acts && lives ? process->task : "";
  bound_.erase(slot);
  withdraw(slot);
  if (task.empty() || state_.tasks.count(task) == 0) return;
  state_.unbound[slot] = task;
  bind_again(slot, task);
}

void Part::withdraw(uint32_t slot) {
  const uint64_t incarnation = state_.region.at(slot).incarnation.load();
  const bool bound = dvk::load_kind(state_.region.at(slot)) != dvk::Kind::kFree;
  if (!bound && !dvk::is_leaving(state_.region, slot)) return;
  if (dvk::unbind(state_.region, slot)) return;
  after(1 * kMs, [this, slot, incarnation] {
    if (state_.region.at(slot).incarnation.load() != incarnation) return;
    withdraw(slot);
    ops_.on_place_changed(slot);
  });
}

// A thread of the process asks for it.
void Part::bind_another(const std::string& task, uint32_t slot) {
  SimProcess& process = this->process(task);
  if (copy_of(task) != CopyState::kRunning || state_.tasks.count(task) == 0) return;
  if (participant_.is_stopping(task)) return;
  world_.trace("{} binds slot {} too", task, slot);
  process.threads.emplace_back().slot = slot;
  state_.tasks[task].push_back(slot);
  state_.unbound[slot] = task;
  bind_again(slot, task);
}

void Part::bind_again(uint32_t slot, const std::string& task) {
  if (process(task).over || process(task).copies.count(machine_.id) == 0) {
    state_.unbound.erase(slot);
    return;
  }
  if (const auto* entry = cluster_.endpoint(dc_, slot)) {
    state_.unbound.erase(slot);
    const bool bound = entry->record.node == node_id_ && entry->record.task == task;
    if (bound) bind_local(entry->record, entry->incarnation);
    return;
  }
  const bool waits = participant_.may_have_left(task) && !world_.has_bug(Bug::kBoundThoughLeft);
  if (waits) return bind_again_later(slot, task);
  EndpointRecord record;
  record.slot = slot;
  record.node = node_id_;
  record.pid = process(task).pid;
  record.tid = record.pid + static_cast<int>(slot);
  record.task = task;
  record.name = task;
  const std::string key = cluster_.keys().endpoint(dc_, slot);
  store_.txn({Compare::absent(key)}, {Change::put(key, to_text(to_json(record)), machine_.lease)},
             [this, record, slot, task](Result<TxnResult> result) {
               if (!result.ok() || !result->applied) return bind_again_later(slot, task);
               const auto incarnation = static_cast<uint64_t>(result->revision);
               if (!cluster_.book_endpoint(dc_, record, incarnation, result->revision)) {
                 return bind_again_later(slot, task);
               }
               state_.unbound.erase(slot);
               bind_local(record, incarnation);
               ops_.on_place_changed(slot);
             });
}

void Part::bind_again_later(uint32_t slot, const std::string& task) {
  after(kBindAgainNs, [this, slot, task] { bind_again(slot, task); });
}

// ---- links ----

void Part::on_link_up(int peer) {
  if (!world_.has_bug(Bug::kLinkUpIgnored)) ops_.on_link_up(static_cast<NodeId>(peer));
}

void Part::on_link_down(int peer) {
  if (world_.has_bug(Bug::kThawedOnLinkLoss)) {
    for (const std::string& task : tasks()) thaw_if_frozen(task);
  }
  participant_.on_link_down(world_.machine(peer).name);
}

bool Part::send(NodeId node, const wire::Operation& operation) {
  wire::Operation addressed = operation;
  addressed.dcid = static_cast<int32_t>(state_.dc);
  return world_.network().send(machine_.id, node,
                               std::string(1, kOperationFrame) + wire::encode_operation(addressed));
}

void Part::drive_later(uint32_t slot) {
  after(2 * kMs, [this, slot] { ops_.drive(slot); });
}

void Part::on_operation(int peer, const wire::Operation& operation) {
  world_.trace("{} <- {}: {} in {}", machine_.name, world_.machine(peer).name, describe(operation),
               dc_);
  ops_.on_operation(static_cast<NodeId>(peer), operation);
}

// ---- requests ----

Status Part::serve_keep(const std::string& migration) {
  if (!keeps_memory(migration)) return Error(Code::kNotFound, "nothing is kept");
  faults_.die_at(Fault::kKeeperDiesKeeping);
  faults_.die_at(Fault::kKeeperDiesSealed);
  state_.kept.insert(migration);
  static_cast<void>(make_dirs(dir_of(migration)));
  return {};
}

void Part::serve_describe(const Json& args, const Done<Json>& reply) {
  const auto slot = args["slot"].get<uint32_t>();
  const auto bound = bound_.find(slot);
  if (bound == bound_.end()) return reply(Error(Code::kNotFound, "it is not here"));
  const std::string task = bound->second;
  if (participant_.migrates(task) || cluster_.lock_of(dc_, task).has_value()) {
    return reply(Error(Code::kConflict, "a migration of it is under way"));
  }
  if (is_being_bound(task)) return reply(Error(Code::kConflict, "it is being bound again"));
  Json description = {{"task", task}, {"pid", process(task).pid}, {"memory_bytes", kMemory}};
  for (const auto& [each, its_task] : bound_) {
    if (its_task != task) continue;
    const auto* entry = cluster_.endpoint(dc_, each);
    description["slots"].push_back(each);
    description["endpoints"].push_back(state_.region.number_of(each));
    description["revisions"].push_back(entry == nullptr ? 0 : entry->revision);
  }
  // Some kernels cannot track memory.
  if (world_.events().chance(50)) description["no_mover"] = "this kernel is too old";
  reply(description);
}

void Part::serve_check(const Json& args, const Done<Json>& reply) {
  const std::string task = args["description"]["task"];
  if (faults_.fires(Fault::kPreflight)) return reply(Error(Code::kUnsupported, "refused"));
  if (participant_.migrates(task)) return reply(Error(Code::kConflict, "still busy with it"));
  if (process(task).copies.count(machine_.id) != 0) {
    return reply(Error(Code::kConflict, "its process id is taken"));
  }
  reply(Json::object());
}

}  // namespace dvs::sim
