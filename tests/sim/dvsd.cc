#include "dvsd.h"

#include <algorithm>

#include "base/file.h"
#include "dvk/node_view.h"
#include "wire/operation.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr std::chrono::seconds kLeaseTtl{10};
constexpr int64_t kLeasePeriodNs = 3'000 * kMs;
constexpr int64_t kJoinAgainNs = 500 * kMs;

std::string describe(const wire::Operation& operation) {
  static const char* const kNames[] = {"",          "request",    "ack",     "answer",
                                       "moved",     "retry",      "cancel",  "copy-read",
                                       "copy-data", "copy-write", "copy-ack"};
  return fmt::format("{} of slot {} #{} to slot {} epoch {} rc {}",
                     kNames[static_cast<int>(operation.type)], operation.slot, operation.number,
                     operation.peer, operation.epoch, operation.rc);
}

constexpr char kOperationFrame = 'O';
constexpr char kRequestFrame = 'Q';
constexpr char kAnswerFrame = 'A';

}  // namespace

// ---- faults ----

bool SimFaults::fires(Fault fault) {
  auto& armed = world_.armed(node_);
  const auto found = armed.find(fault);
  if (found == armed.end() || found->second == 0) return false;
  --found->second;
  ++world_.tally().points[std::string(kFaultPoints[static_cast<size_t>(fault) - 1].name)];
  return true;
}

void SimFaults::die_at(Fault fault) {
  if (!fires(fault)) return;
  world_.alive_dvsd_ = node_;
  throw Crash{};
}

void SimFaults::on_step(const Step& step) {
  world_.trace("{} {}: {} --{}--> {}", world_.machine(node_).name, side_name(step.side),
               phase_name(step.from), event_name(step.on), phase_name(step.to));
  for (const Step& each : kSteps) {
    if (&each == &step) ++world_.tally().steps[&each];
  }
}

// ---- life ----

Dvsd::Dvsd(World& world, Machine& machine)
    : world_(world),
      machine_(machine),
      life_(world.events().begin_life()),
      node_id_(static_cast<NodeId>(machine.id)),
      scheduler_(world.events(), life_),
      faults_(world, machine.id),
      store_(world.store().connect(machine.id, life_)),
      cluster_(scheduler_, *store_, "sim"),
      ops_(machine.region, node_id_, *this),
      coordinator_(scheduler_, *store_, cluster_, *this, faults_, machine.name,
                   world.events().random(1 << 20), 1 + world.events().random(8)) {}

Dvsd::~Dvsd() { world_.events().end_life(life_); }

int Dvsd::id_of(const std::string& node) const {
  const auto found = cluster_.members().find(node);
  return found == cluster_.members().end() ? -1 : static_cast<int>(found->second);
}

void Dvsd::start() {
  cluster_.load([this](Result<bool> loaded) {
    if (!loaded.ok()) return after(kJoinAgainNs, [this] { start(); });
    take_lease();
  });
}

void Dvsd::take_lease() {
  auto grant = [this] {
    store_->grant_lease(kLeaseTtl, [this](Result<int64_t> lease) {
      if (!lease.ok()) return after(kJoinAgainNs, [this] { take_lease(); });
      machine_.lease = *lease;
      announce();
    });
  };
  if (machine_.lease == 0) return grant();
  store_->keep_alive(machine_.lease, [this, grant](Result<std::chrono::seconds> alive) {
    if (alive.ok()) return announce();
    if (alive.error().code() == Code::kNotFound) return grant();
    after(kJoinAgainNs, [this] { take_lease(); });
  });
}

void Dvsd::announce() {
  NodeRecord record;
  record.name = machine_.name;
  record.id = node_id_;
  record.port = 1;
  record.address = "10.0.0.1";
  store_->txn(
      {},
      {Change::put(cluster_.keys().node(machine_.name), to_text(to_json(record)), machine_.lease)},
      [this](Result<TxnResult> result) {
        if (!result.ok()) return after(kJoinAgainNs, [this] { take_lease(); });
        keep_lease();
        if (!std::exchange(joined_, true)) begin();
      });
}

void Dvsd::keep_lease() {
  after(kLeasePeriodNs, [this] {
    store_->keep_alive(machine_.lease, [this](Result<std::chrono::seconds> alive) {
      if (!alive.ok() && alive.error().code() == Code::kNotFound) return lease_lost();
      keep_lease();
    });
  });
}

void Dvsd::lease_lost() {
  world_.trace("{} has lost its lease", machine_.name);
  take_lease();
}

// As Conductor::start() and DcPart::open(): what an earlier dvsd left is taken up, then the news.
void Dvsd::begin() {
  world_.network().attach(machine_.id, *this, life_);
  for (const auto& [id, entry] : cluster_.migrations()) seen_[id] = entry.record;
  participant_ = std::make_unique<Participant>(
      ParticipantServices{
          scheduler_, *store_, cluster_, *this, faults_, {machine_.name, node_id_, machine_.lease}},
      static_cast<ParticipantHost&>(*this), kDc);
  participant_->recover();
  update_nodes();
  for (uint32_t slot = 0; slot < machine_.region.slots(); ++slot) {
    if (cluster_.endpoint(kDc, slot) != nullptr || bound_.count(slot) != 0 ||
        dvk::load_kind(machine_.region.at(slot)) != dvk::Kind::kFree) {
      place(slot);
    }
  }
  for (const auto& [task, slots] : std::map(machine_.tasks)) {
    if (world_.process(task).copies.count(machine_.id) == 0) process_died(task);
  }
  for (const auto& [slot, task] : std::map(machine_.unbound)) bind_again(slot, task);
  ops_.drive_all();
  cluster_.follow(*this);
}

void Dvsd::on_doorbell() {
  if (!joined_) return;
  ops_.on_doorbell();
}

bool Dvsd::has_closed_gates() const {
  for (uint32_t slot = 0; slot < machine_.region.slots(); ++slot) {
    if (dvk::is_migrating(machine_.region.at(slot))) return true;
  }
  return false;
}

void Dvsd::migrate(MigrationRequest request) {
  if (!joined_) return;
  ++world_.tally().migrations;
  coordinator_.run(
      std::move(request), [](const Json&) {},
      [this](Result<MigrationRecord> record) {
        if (!record.ok()) {
          return world_.trace("{}: refused: {}", machine_.name, record.error().message());
        }
        world_.trace("{}: migration {} is over: {}", machine_.name, record->id,
                     state_name(record->state));
      });
}

void Dvsd::cancel(const std::string& migration) {
  const auto* entry = cluster_.migration(migration);
  if (entry == nullptr || !is_open(entry->record.state)) return;
  MigrationRecord record = entry->record;
  record.state = MigrationState::kRolledBack;
  record.reason = "canceled";
  const std::string key = cluster_.keys().migration(migration);
  store_->txn({Compare::exists_at(key, entry->revision)},
              {Change::put(key, to_text(to_json(record))),
               Change::remove(cluster_.keys().lock(kDc, record.task))},
              [](Result<TxnResult>) {});
}

// ---- the directory's news ----

void Dvsd::update_nodes() {
  auto& entries = machine_.region.header().nodes;
  for (auto& entry : entries) entry.state.store(dvk::kNodeUnknown);
  for (const auto& [name, id] : cluster_.members()) {
    entries[id].state.store(cluster_.node(name) != nullptr ? dvk::kNodeUp : dvk::kNodeDown);
  }
  ops_.on_nodes_changed();
  participant_->on_nodes_changed();
}

void Dvsd::on_node(const std::string&) { update_nodes(); }

void Dvsd::on_endpoint(const std::string&, uint32_t slot) { place(slot); }

void Dvsd::on_migration(const std::string& id) {
  const auto* entry = cluster_.migration(id);
  if (entry == nullptr) {
    const auto forgotten = seen_.extract(id);
    if (!forgotten.empty()) participant_->on_forgotten(forgotten.mapped());
    return;
  }
  if (!is_open(entry->record.state)) {
    world_.note_outcome(id, entry->record.state == MigrationState::kCommitted);
  }
  const auto before = seen_.find(id);
  const bool known = before != seen_.end();
  const MigrationRecord previous = known ? before->second : MigrationRecord{};
  seen_[id] = entry->record;
  coordinator_.on_record(entry->record, entry->revision);
  participant_->on_migration(entry->record, known ? &previous : nullptr);
}

// ---- binding ----

dvk::Identity Dvsd::identity_of(const EndpointRecord& record, uint64_t incarnation) const {
  dvk::Identity identity;
  identity.endpoint = machine_.region.number_of(record.slot);
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

void Dvsd::place(uint32_t slot) {
  const auto* entry = cluster_.endpoint(kDc, slot);
  world_.trace("{} hears that slot {} is {}", machine_.name, slot,
               entry == nullptr ? "free" : fmt::format("at {}", entry->record.node));
  if (entry == nullptr) {
    on_record_gone(slot);
  } else if (entry->record.node == node_id_) {
    const dvk::Kind kind = dvk::load_kind(machine_.region.at(slot));
    const bool unanswered =
        kind == dvk::Kind::kFree && participant_ != nullptr && !migrates(entry->record.task);
    if (bound_.count(slot) == 0 && machine_.tasks.count(entry->record.task) != 0 &&
        (dvk::acts_here(kind) || unanswered)) {
      bind_local(entry->record, entry->incarnation);
    }
  } else if (bound_.count(slot) == 0) {
    show(slot, identity_of(entry->record, entry->incarnation));
  }
  ops_.on_place_changed(slot);
}

void Dvsd::show(uint32_t slot, const dvk::Identity& identity) {
  if (dvk::bind(machine_.region, slot, identity)) return ops_.on_place_changed(slot);
  after(1 * kMs, [this, slot, identity] {
    const auto* entry = cluster_.endpoint(kDc, slot);
    const bool holds = entry != nullptr && entry->incarnation == identity.incarnation &&
                       entry->record.node == identity.node;
    if (holds) show(slot, identity);
  });
}

void Dvsd::bind_local(const EndpointRecord& record, uint64_t incarnation) {
  show(record.slot, identity_of(record, incarnation));
  bound_[record.slot] = record.task;
  if (world_.process(record.task).over)
    after(0, [this, task = record.task] { process_died(task); });
}

// Its peers are released at once, the directory follows.
void Dvsd::process_died(const std::string& task) {
  for (const auto& [slot, its_task] : std::map(bound_)) {
    if (its_task != task) continue;
    bound_.erase(slot);
    dvk::bury(machine_.region, slot);
    remove_from_directory(slot);
  }
  machine_.tasks.erase(task);
}

void Dvsd::remove_from_directory(uint32_t slot) {
  const auto* entry = cluster_.endpoint(kDc, slot);
  if (entry == nullptr || entry->record.node != node_id_) return;
  const std::string key = cluster_.keys().endpoint(kDc, slot);
  store_->txn({Compare::exists_at(key, entry->revision)}, {Change::remove(key)},
              [this, slot](Result<TxnResult> result) {
                if (result.ok() && result->applied) return;
                after(200 * kMs, [this, slot] { remove_from_directory(slot); });
              });
}

// The endpoint went with a lease: everybody was told that its process is gone. If that lives here,
// it is bound anew.
void Dvsd::on_record_gone(uint32_t slot) {
  const SimProcess* process = world_.process_of(slot);
  const bool acts = dvk::load_kind(machine_.region.at(slot)) == dvk::Kind::kLocal;
  const bool lives =
      process != nullptr && !process->over && process->copies.count(machine_.id) != 0;
  const std::string task = acts && lives ? process->task : "";
  bound_.erase(slot);
  withdraw(slot);
  if (task.empty() || machine_.tasks.count(task) == 0) return;
  machine_.unbound[slot] = task;
  bind_again(slot, task);
}

void Dvsd::withdraw(uint32_t slot) {
  const uint64_t incarnation = machine_.region.at(slot).incarnation.load();
  const bool bound = dvk::load_kind(machine_.region.at(slot)) != dvk::Kind::kFree;
  if (!bound && !dvk::is_leaving(machine_.region, slot)) return;
  if (dvk::unbind(machine_.region, slot)) return;
  after(1 * kMs, [this, slot, incarnation] {
    if (machine_.region.at(slot).incarnation.load() != incarnation) return;
    withdraw(slot);
    ops_.on_place_changed(slot);
  });
}

// A thread of the process asks for it.
void Dvsd::bind_another(const std::string& task, uint32_t slot) {
  SimProcess& process = world_.process(task);
  if (!has_copy(task, CopyState::kRunning) || machine_.tasks.count(task) == 0) return;
  if (participant_->is_stopping(task)) return;
  world_.trace("{} binds slot {} too", task, slot);
  process.threads.emplace_back().slot = slot;
  machine_.tasks[task].push_back(slot);
  machine_.unbound[slot] = task;
  bind_again(slot, task);
}

void Dvsd::bind_again(uint32_t slot, const std::string& task) {
  if (world_.process(task).over || world_.process(task).copies.count(machine_.id) == 0) {
    machine_.unbound.erase(slot);
    return;
  }
  if (const auto* entry = cluster_.endpoint(kDc, slot)) {
    machine_.unbound.erase(slot);
    const bool bound = entry->record.node == node_id_ && entry->record.task == task;
    if (bound) bind_local(entry->record, entry->incarnation);
    return;
  }
  EndpointRecord record;
  record.slot = slot;
  record.node = node_id_;
  record.pid = world_.process(task).pid;
  record.tid = record.pid + static_cast<int>(slot);
  record.task = task;
  record.name = task;
  const std::string key = cluster_.keys().endpoint(kDc, slot);
  store_->txn({Compare::absent(key)}, {Change::put(key, to_text(to_json(record)), machine_.lease)},
              [this, record, slot, task](Result<TxnResult> result) {
                if (!result.ok() || !result->applied) {
                  return after(kJoinAgainNs, [this, slot, task] {
                    if (world_.process(task).copies.count(machine_.id) != 0) bind_again(slot, task);
                  });
                }
                const auto incarnation = static_cast<uint64_t>(result->revision);
                cluster_.book_endpoint(kDc, record, incarnation, result->revision);
                machine_.unbound.erase(slot);
                bind_local(record, incarnation);
                ops_.on_place_changed(slot);
              });
}

// ---- links ----

void Dvsd::on_link_up(int peer) {
  world_.trace("{} is linked with {}", machine_.name, world_.machine(peer).name);
  if (!world_.has_bug(Bug::kLinkUpIgnored)) ops_.on_link_up(static_cast<NodeId>(peer));
}

void Dvsd::on_link_down(int peer) {
  const std::string name = world_.machine(peer).name;
  world_.trace("{} is not linked with {} any more", machine_.name, name);
  for (auto& [id, call] : std::map(calls_)) {
    if (call.node != name) continue;
    calls_.erase(id);
    call.done(Error(Code::kUnavailable, "the link broke"));
  }
  if (world_.has_bug(Bug::kThawedOnLinkLoss)) {
    for (const std::string& task : tasks()) thaw_if_frozen(task);
  }
  participant_->on_link_down(name);
}

bool Dvsd::send(NodeId node, const wire::Operation& operation) {
  return world_.network().send(machine_.id, node,
                               std::string(1, kOperationFrame) + wire::encode_operation(operation));
}

void Dvsd::drive_later(uint32_t slot) {
  after(2 * kMs, [this, slot] { ops_.drive(slot); });
}

void Dvsd::on_frame(int peer, const std::string& frame) {
  const std::string body = frame.substr(1);
  if (frame[0] == kOperationFrame) {
    const auto operation = wire::decode_operation(Bytes(body));
    if (!operation.ok()) return world_.fail("an operation that makes no sense");
    world_.trace("{} <- {}: {}", machine_.name, world_.machine(peer).name, describe(*operation));
    ops_.on_operation(static_cast<NodeId>(peer), *operation);
  } else if (frame[0] == kImageFrame) {
    const auto id = transfer_id(body);
    if (id.ok()) participant_->on_image(world_.machine(peer).name, *id, body);
  } else if (frame[0] == kRequestFrame) {
    const Json request = *parse_json(body);
    serve(request["call"], request["args"], [this, peer, id = request["id"]](Result<Json> result) {
      Json answer = {{"id", id}};
      if (result.ok()) {
        answer["result"] = *result;
      } else {
        answer["code"] = static_cast<int>(result.error().code());
        answer["error"] = result.error().message();
      }
      world_.network().send(machine_.id, peer, std::string(1, kAnswerFrame) + to_text(answer));
    });
  } else if (frame[0] == kAnswerFrame) {
    const Json answer = *parse_json(body);
    auto found = calls_.extract(answer["id"].get<uint64_t>());
    if (found.empty()) return;
    if (answer.contains("result")) return found.mapped().done(answer["result"]);
    found.mapped().done(
        Error(static_cast<Code>(answer["code"].get<int>()), answer["error"].get<std::string>()));
  }
}

// ---- requests ----

void Dvsd::call(const std::string& node, const std::string& call, Json args,
                std::chrono::milliseconds timeout, Done<Json> done) {
  const int to = id_of(node);
  if (to < 0) return after(0, [done] { done(Error(Code::kNotFound, "there is no such node")); });
  if (to == machine_.id) {
    return after(0, [this, call, args, done] {
      serve(call, args,
            [this, done](Result<Json> result) { after(0, [done, result] { done(result); }); });
    });
  }
  const uint64_t id = ++next_call_;
  const Json request = {{"id", id}, {"call", call}, {"args", args}};
  if (!world_.network().send(machine_.id, to, std::string(1, kRequestFrame) + to_text(request))) {
    return after(0, [done] { done(Error(Code::kUnavailable, "no link")); });
  }
  calls_[id] = {node, std::move(done)};
  after(std::chrono::nanoseconds(timeout).count(), [this, id] {
    auto found = calls_.extract(id);
    if (!found.empty()) found.mapped().done(Error(Code::kTimeout, "no answer"));
  });
}

void Dvsd::serve(const std::string& call, const Json& args, const Done<Json>& reply) {
  const std::string id = args.value("id", "");
  if (call == "migrate.describe") return serve_describe(args, reply);
  if (call == "migrate.check") return serve_check(args, reply);
  if (call == "migrate.expect") {
    return participant_->expect(id, [reply](Result<bool> ready) {
      if (!ready.ok()) return reply(ready.error());
      reply(Json::object());
    });
  }
  if (call == "migrate.keep") {
    if (!keeps_memory(id)) return reply(Error(Code::kNotFound, "nothing is kept"));
    faults_.die_at(Fault::kKeeperDiesKeeping);
    faults_.die_at(Fault::kKeeperDiesSealed);
    machine_.kept.insert(id);
    static_cast<void>(make_dirs(machine_.dir + "/" + id));
  }
  if (call == "migrate.hurry") participant_->hurry(id, "it is time");
  if (call == "migrate.phase") coordinator_.on_phase(id, args["phase"]);
  if (call == "migrate.round") coordinator_.on_round(id, args);
  if (call == "migrate.done") coordinator_.on_done(id, args);
  reply(Json::object());
}

void Dvsd::serve_describe(const Json& args, const Done<Json>& reply) {
  const auto slot = args["slot"].get<uint32_t>();
  const auto bound = bound_.find(slot);
  if (bound == bound_.end()) return reply(Error(Code::kNotFound, "it is not here"));
  const std::string task = bound->second;
  if (participant_->migrates(task) || cluster_.lock_of(kDc, task).has_value()) {
    return reply(Error(Code::kConflict, "a migration of it is under way"));
  }
  if (is_being_bound(task)) return reply(Error(Code::kConflict, "it is being bound again"));
  Json description = {{"task", task}, {"pid", world_.process(task).pid}, {"memory_bytes", kMemory}};
  for (const auto& [each, its_task] : bound_) {
    if (its_task != task) continue;
    const auto* entry = cluster_.endpoint(kDc, each);
    description["slots"].push_back(each);
    description["endpoints"].push_back(machine_.region.number_of(each));
    description["revisions"].push_back(entry == nullptr ? 0 : entry->revision);
  }
  // Some kernels cannot track memory.
  if (world_.events().chance(50)) description["no_mover"] = "this kernel is too old";
  reply(description);
}

void Dvsd::serve_check(const Json& args, const Done<Json>& reply) {
  const std::string task = args["description"]["task"];
  if (faults_.fires(Fault::kPreflight)) return reply(Error(Code::kUnsupported, "refused"));
  if (participant_->migrates(task)) return reply(Error(Code::kConflict, "still busy with it"));
  if (world_.process(task).copies.count(machine_.id) != 0) {
    return reply(Error(Code::kConflict, "its process id is taken"));
  }
  reply(Json::object());
}

}  // namespace dvs::sim
