#include "part.h"

#include <algorithm>

#include "base/file.h"
#include "dvk/node_view.h"
#include "wire/operation.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;

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
      bindings_(
          {node.scheduler, node.store, node.cluster, state.region, node_id_, node.machine.lease},
          *this, dc_),
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
  serve_unbinds();
  bindings_.withdraw_what_leaves();
  bindings_.place_all();
  for (const auto& [task, slots] : std::map(state_.tasks)) {
    if (!copy_of(task).has_value()) process_died(task);
  }
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

void Part::place(uint32_t slot) {
  const auto* entry = cluster_.endpoint(dc_, slot);
  world_.trace("{} hears that slot {} of {} is {}", machine_.name, slot, dc_,
               entry == nullptr ? "free" : fmt::format("at {}", entry->record.node));
  bindings_.place(slot);
}

// Threads have the numbers that World::add_process() gives them.
std::optional<std::string> Part::task_of_thread(int tid) const {
  for (const auto& [task, slots] : state_.tasks) {
    const SimProcess& process = this->process(task);
    const bool lives = !process.over && copy_of(task).has_value();
    const bool has = std::any_of(
        process.threads.begin(), process.threads.end(),
        [&](const Thread& each) { return process.pid + static_cast<int>(each.slot) == tid; });
    if (lives && has) return task;
  }
  return std::nullopt;
}

void Part::watch(const EndpointRecord& record, uint64_t) {
  if (process(record.task).over) after(0, [this, task = record.task] { process_died(task); });
}

void Part::show_elsewhere(uint32_t slot, const dvk::Identity& primary) {
  bindings_.show(slot, primary, [this, slot] { ops_.on_place_changed(slot); });
}

bool Part::may_have_left(const std::string& task) const {
  return participant_.may_have_left(task) && !world_.has_bug(Bug::kBoundThoughLeft);
}

void Part::keep_unbound(const std::vector<EndpointRecord>& records) {
  std::string list;
  for (const EndpointRecord& each : records) list += fmt::format(" {} of {}", each.slot, each.task);
  world_.trace("{} has to bind in {}:{}", machine_.name, dc_, list);
  state_.unbound = records;
}

// Its peers are released at once, the directory follows.
void Part::process_died(const std::string& task) {
  for (const uint32_t slot : bindings_.slots_of(task)) {
    bindings_.forget(slot);
    dvk::bury(state_.region, slot);
    bindings_.remove_from_directory(slot);
  }
  state_.tasks.erase(task);
}

// ---- what processes ask ----

bool Part::may_ask(const std::string& task) const {
  return copy_of(task) == CopyState::kRunning && state_.tasks.count(task) != 0 &&
         !participant_.is_stopping(task);
}

void Part::bind_another(const std::string& task, uint32_t slot) {
  world_.trace("{} binds slot {} too", task, slot);
  state_.tasks[task].push_back(slot);
  EndpointRecord record;
  record.slot = slot;
  record.node = node_id_;
  record.pid = process(task).pid;
  record.tid = record.pid + static_cast<int>(slot);
  record.task = task;
  record.name = task;
  bindings_.bind_until_done(record);
}

void Part::unbind_another(const std::string& task, uint32_t slot) {
  world_.trace("{} unbinds slot {}", task, slot);
  state_.unbinding.emplace(slot, task);
  serve_unbind(slot);
}

// As DcPart::serve_requests(): also what an earlier dvsd has not answered.
void Part::serve_unbinds() {
  for (const auto& [slot, task] : std::map(state_.unbinding)) serve_unbind(slot);
}

// As DcPart::serve_unbind().
void Part::serve_unbind(uint32_t slot) {
  const auto asked = state_.unbinding.find(slot);
  if (asked == state_.unbinding.end() || in_service_.count(slot) != 0) return;
  const auto* entry = cluster_.endpoint(dc_, slot);
  if (copy_of(asked->second) != CopyState::kRunning) return end_unbind(slot, false);
  const bool may = entry == nullptr ||
                   (entry->record.node == node_id_ && !participant_.is_stopping(asked->second) &&
                    !dvk::is_migrating(state_.region.at(slot)));
  if (!may) return end_unbind(slot, false);
  in_service_.insert(slot);
  bindings_.unbind(slot, [this, slot](Result<bool> unbound) {
    in_service_.erase(slot);
    if (unbound.ok()) return end_unbind(slot, true);
    if (unbound.error().code() == Code::kUnavailable) return end_unbind(slot, false);
    after(20 * kMs, [this, slot] { serve_unbind(slot); });  // it tries again
  });
}

void Part::end_unbind(uint32_t slot, bool unbound) {
  const auto asked = state_.unbinding.extract(slot);
  if (asked.empty() || !unbound) return;
  world_.trace("slot {} of {} is unbound", slot, asked.mapped());
  for (Thread& thread : process(asked.mapped()).threads) {
    if (thread.slot == slot) thread.unbound = true;
  }
}

// As DcPart::refuse_requests_of().
Status Part::check_requests(const std::string& task) const {
  for (const auto& [slot, of] : state_.unbinding) {
    if (of == task) return Error(Code::kConflict, "it is just unbinding an endpoint");
  }
  return {};
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
  const auto of = bindings_.task_of(args["slot"].get<uint32_t>());
  if (!of.has_value()) return reply(Error(Code::kNotFound, "it is not here"));
  const std::string& task = *of;
  if (participant_.migrates(task) || cluster_.lock_of(dc_, task).has_value()) {
    return reply(Error(Code::kConflict, "a migration of it is under way"));
  }
  if (Status bound = bindings_.check_bound(task); !bound.ok()) return reply(bound.error());
  Json description = {{"task", task}, {"pid", process(task).pid}, {"memory_bytes", kMemory}};
  for (const uint32_t each : bindings_.slots_of(task)) {
    const auto* entry = cluster_.endpoint(dc_, each);
    description["slots"].push_back(each);
    description["endpoints"].push_back(state_.region.at(each).endpoint.load());
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
