#include "dvsd.h"

#include <algorithm>

#include "wire/operation.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kJoinAgainNs = 500 * kMs;

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
  world_.trace("{} {}: {} --{}--> {}", world_.machine(node_).name, role_name(step.role),
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
      scheduler_(world.events(), life_),
      faults_(world, machine.id),
      store_(world.store().connect(machine.id, life_)),
      cluster_(scheduler_, *store_, "sim"),
      presence_(scheduler_, *store_, machine.lease),
      coordinator_(scheduler_, *store_, cluster_, *this, faults_, machine.name,
                   world.events().random(1 << 20), 1 + world.events().random(8)) {}

Dvsd::~Dvsd() { world_.events().end_life(life_); }

void Dvsd::start() {
  cluster_.load([this](Result<bool> loaded) {
    if (!loaded.ok()) return after(kJoinAgainNs, [this] { start(); });
    join();
  });
}

void Dvsd::join() {
  const int64_t earlier = machine_.lease;
  presence_.start(
      earlier,
      [this] {
        NodeRecord record;
        record.name = machine_.name;
        record.id = static_cast<NodeId>(machine_.id);
        record.port = 1;
        record.address = "10.0.0.1";
        presence_.put(cluster_.keys().node(machine_.name), to_text(to_json(record)));
        return Status();
      },
      [this](Result<bool> joined) {
        if (!joined.ok()) return after(kJoinAgainNs, [this] { join(); });
        begin();
      });
}

// As Conductor::start(): what an earlier dvsd left is taken up, then the news.
void Dvsd::begin() {
  for (PartState& state : machine_.parts) {
    parts_.push_back(std::make_unique<Part>(
        NodeServices{world_, machine_, life_, scheduler_, *store_, cluster_, *this, faults_},
        state));
  }
  world_.network().attach(machine_.id, *this, life_);
  for (const auto& part : parts_) part->open();
  cluster_.follow(*this);
}

bool Dvsd::has_closed_gates() const {
  return std::any_of(parts_.begin(), parts_.end(),
                     [](const auto& part) { return part->has_closed_gates(); });
}

Part* Dvsd::part_named(const std::string& dc) const {
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (dc_name(i) == dc) return parts_[i].get();
  }
  return nullptr;
}

void Dvsd::migrate(MigrationRequest request) {
  if (!joined()) return;
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
               Change::remove(cluster_.keys().lock(record.dc, record.task))},
              [](Result<TxnResult>) {});
}

// ---- the directory's news ----

void Dvsd::on_node(const std::string&) {
  for (const auto& part : parts_) part->update_nodes();
}

void Dvsd::on_endpoint(const std::string& dc, uint32_t slot) {
  if (Part* part = part_named(dc)) part->place(slot);
}

void Dvsd::on_migration(const std::string& id, const MigrationRecord* before) {
  const auto* entry = cluster_.migration(id);
  if (entry == nullptr) {
    if (before != nullptr) part_named(before->dc)->participant().on_forgotten(*before);
    return;
  }
  if (!is_open(entry->record.state)) {
    world_.note_outcome(id, entry->record.state == MigrationState::kCommitted);
  }
  coordinator_.on_record(entry->record, entry->revision);
  part_named(entry->record.dc)->participant().on_migration(entry->record, before);
}

// ---- links ----

void Dvsd::on_link_up(int peer) {
  world_.trace("{} is linked with {}", machine_.name, world_.machine(peer).name);
  for (const auto& part : parts_) part->on_link_up(peer);
}

void Dvsd::on_link_down(int peer) {
  const std::string name = world_.machine(peer).name;
  world_.trace("{} is not linked with {} any more", machine_.name, name);
  for (auto& [id, call] : std::map(calls_)) {
    if (call.node != name) continue;
    calls_.erase(id);
    call.done(Error(Code::kUnavailable, "the link broke"));
  }
  for (const auto& part : parts_) part->on_link_down(peer);
}

void Dvsd::on_frame(int peer, const std::string& frame) {
  const std::string body = frame.substr(1);
  if (frame[0] == kOperationFrame) {
    const auto operation = wire::decode_operation(Bytes(body));
    if (!operation.ok()) return world_.fail("an operation that makes no sense");
    parts_[static_cast<size_t>(operation->dcid)]->on_operation(peer, *operation);
  } else if (frame[0] == kImageFrame) {
    const auto id = transfer_id(body);
    if (!id.ok()) return world_.fail("an image that makes no sense");
    for (const auto& part : parts_) {
      part->participant().on_image(world_.machine(peer).name, *id, body);
    }
  } else if (frame[0] == kRequestFrame) {
    on_request(peer, *parse_json(body));
  } else if (frame[0] == kAnswerFrame) {
    on_answer(*parse_json(body));
  }
}

void Dvsd::on_request(int peer, const Json& request) {
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
}

void Dvsd::on_answer(const Json& answer) {
  auto found = calls_.extract(answer["id"].get<uint64_t>());
  if (found.empty()) return;
  if (answer.contains("result")) return found.mapped().done(answer["result"]);
  found.mapped().done(
      Error(static_cast<Code>(answer["code"].get<int>()), answer["error"].get<std::string>()));
}

// ---- requests ----

void Dvsd::call(const std::string& node, const std::string& call, Json args,
                std::chrono::milliseconds timeout, Done<Json> done) {
  const auto member = cluster_.members().find(node);
  if (member == cluster_.members().end())
    return after(0, [done] { done(Error(Code::kNotFound, "there is no such node")); });
  const int to = static_cast<int>(member->second);
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
  if (call == "migrate.phase") coordinator_.on_phase(id, args["phase"]);
  if (call == "migrate.round") coordinator_.on_round(id, args);
  if (call == "migrate.done") coordinator_.on_done(id, args);
  const auto dc = args.find("dc");
  if (dc == args.end()) return reply(Json::object());
  Part* part = part_named(*dc);
  if (part == nullptr) return reply(Error(Code::kNotFound, "there is no such DC"));
  serve_part(*part, call, args, reply);
}

void Dvsd::serve_part(Part& part, const std::string& call, const Json& args,
                      const Done<Json>& reply) {
  const std::string id = args.value("id", "");
  if (call == "migrate.describe") return part.serve_describe(args, reply);
  if (call == "migrate.check") return part.serve_check(args, reply);
  if (call == "migrate.expect") {
    return part.participant().expect(id, [reply](Result<bool> ready) {
      if (!ready.ok()) return reply(ready.error());
      reply(Json::object());
    });
  }
  if (call == "migrate.keep") {
    if (Status kept = part.serve_keep(id); !kept.ok()) return reply(kept.error());
  }
  if (call == "migrate.hurry") part.participant().hurry(id, "it is time");
  reply(Json::object());
}

}  // namespace dvs::sim
