// What a simulated node does for the protocol: the source's and the target's work, gates, what an
// earlier dvsd has left.
#include <algorithm>

#include "base/file.h"
#include "dvk/node_view.h"
#include "migrate/memory_frames.h"
#include "part.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kFetchNs = 20 * kMs;
constexpr int kFetchParts = 4;
constexpr const char* kCapsulePiece = "capsule";
constexpr uint64_t kMemoryStart = 1 << 20;

}  // namespace

// ---- the source's work ----

// What this node has of it.
std::optional<CopyState> Part::copy_of(const std::string& task) const {
  const auto& copies = process(task).copies;
  const auto found = copies.find(machine_.id);
  return found == copies.end() ? std::nullopt : std::optional(found->second);
}

void Part::copy_memory(const MigrationRecord& record, Done<mover::Round> done) {
  const int64_t takes = ms(2, 40);
  after(takes, [this, record, takes, done] {
    if (process(record.task).over) return done(Error(Code::kNotFound, "it has ended"));
    mover::Round round;
    round.populated_bytes = kMemory;
    round.changed_bytes = world_.events().random(kMemory);
    round.sent_bytes = round.changed_bytes;
    round.interval_ns = round.duration_ns = takes;
    done(round);
  });
}

void Part::give_up_copying(const MigrationRecord&) {}

void Part::copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) {
  auto owe = [this, record, budget, done] {
    mover::Round round;
    const bool owes = budget != mover::Copier::kAll || !record.file_server.empty();
    if (owes && world_.events().chance(800)) {
      const mover::PageRanges ranges = {{kMemoryStart, kMemoryStart + kMemory}};
      round.owed_bytes = kMemory;
      for (const std::string& body : encode_owed(record.id, process(record.task).pid, ranges)) {
        if (!send(record, body)) return done(Error(Code::kUnavailable, "the link is down"));
      }
    }
    done(round);
  };
  after(ms(1, 10), [this, record, owe, done] {
    if (record.file_server.empty()) return owe();
    const Json args = {{"dc", dc_}, {"id", record.id}};
    peers_.call(record.file_server, "migrate.keep", args, std::chrono::seconds(10),
                [owe, done](Result<Json> kept) {
                  if (!kept.ok()) return done(kept.error());
                  owe();
                });
  });
}

std::optional<Proposer::Endpoints> Part::endpoints_of(const MigrationRecord& record) {
  const bool busy = !bindings_.check_bound(record.task).ok() || !check_requests(record.task).ok();
  if (busy) return std::nullopt;
  Proposer::Endpoints endpoints;
  for (const uint32_t slot : bindings_.slots_of(record.task)) {
    endpoints[slot] = state_.region.at(slot).endpoint.load();
  }
  return endpoints;
}

Result<bool> Part::settle(const MigrationRecord& record) {
  DVS_TRY(bindings_.check(record.task, record.slots));
  if (!check_requests(record.task).ok()) return false;
  return dvk::settle(state_.region, record.slots);
}

Status Part::check_frozen(const MigrationRecord& record) { return check_requests(record.task); }

void Part::freeze(const MigrationRecord& record, Done<bool> done) {
  machine_after(ms(0, 3), [id = machine_.id, &world = world_, &process = process(record.task)] {
    const auto copy = process.copies.find(id);
    if (copy != process.copies.end() && copy->second == CopyState::kRunning) {
      world.set_copy(process, id, CopyState::kFrozen);
    }
  });
  after(ms(4, 6), [this, record, done] {
    if (copy_of(record.task) == CopyState::kFrozen) return done(true);
    done(Error(Code::kNotFound, "the process has ended"));
  });
}

void Part::dump(const MigrationRecord& record, Done<DumpResult> done) {
  after(ms(2, 10), [this, record, done] {
    if (world_.events().chance(30)) return done(Error(Code::kInternal, "the dump failed"));
    done(DumpResult{100'000, 1});
  });
}

Result<std::vector<Piece>> Part::collect(const MigrationRecord& record) {
  dvk::Capsule capsule = dvk::extract(state_.region, record.slots);
  if (world_.has_bug(Bug::kDebtsForgotten)) capsule.debts.clear();
  std::vector<Piece> pieces;
  pieces.push_back({kCapsulePiece, 0, dvk::encode_capsule(capsule), {}});
  return pieces;
}

void Part::await_target(const MigrationRecord& record, Done<bool> done) {
  const Json args = {{"dc", dc_}, {"id", record.id}};
  auto at_target = [this, record, args, done] {
    peers_.call(record.target, "migrate.expect", args, std::chrono::seconds(10),
                [done](Result<Json> ready) {
                  if (!ready.ok()) return done(ready.error());
                  done(true);
                });
  };
  if (record.file_server.empty()) return at_target();
  peers_.call(record.file_server, "migrate.expect", args, std::chrono::seconds(10),
              [at_target, done](Result<Json> ready) {
                if (!ready.ok()) return done(ready.error());
                at_target();
              });
}

bool Part::send(const MigrationRecord& record, std::string_view body) {
  const int to = id_of(record.target);
  return to >= 0 &&
         world_.network().send(machine_.id, to, std::string(1, kImageFrame) + std::string(body));
}

void Part::break_link(const MigrationRecord& record) {
  world_.network().break_link(machine_.id, id_of(record.target));
}

void Part::go_on(const MigrationRecord& record, Done<bool> done) {
  thaw_if_frozen(record.task);
  open_gates(record);
  remove_images(record.id);
  after(0, [done] { done(true); });
}

void Part::let_go(const MigrationRecord& record) {
  bindings_.leave(record.task, record.slots, static_cast<NodeId>(id_of(record.target)),
                  committed_epoch(cluster_, record));
  if (world_.has_bug(Bug::kEndedWhileOwed)) {
    world_.set_copy(process(record.task), machine_.id, std::nullopt);
  }
}

void Part::end_departed(const MigrationRecord& record, Done<bool> done) {
  machine_after(ms(0, 2), [id = machine_.id, &world = world_, &process = process(record.task)] {
    world.set_copy(process, id, std::nullopt);
  });
  after(ms(3, 5), [this, record, done] {
    state_.tasks.erase(record.task);
    remove_images(record.id);
    done(true);
  });
}

void Part::on_source_finished(const MigrationRecord& record) {
  participant_.forget_source(record.id);
}

// ---- the target's work ----

namespace {

// See Held: what the gate's other side does is the machine's.
class SimHeldTree final : public HeldTree {
 public:
  SimHeldTree(World& world, Machine& machine, Life dvsd, std::shared_ptr<Held> held)
      : world_(world), machine_(machine), dvsd_(dvsd), held_(std::move(held)) {}

  void resume(Done<bool> done) override { decide(true, std::move(done)); }
  void kill(Done<bool> done) override { decide(false, std::move(done)); }

  static void act(World& world, Machine& machine, const std::shared_ptr<Held>& held) {
    if (held->state != Held::State::kWaiting || !held->decision.has_value()) return;
    const bool runs = *held->decision;
    world.events().after(world.events().between_ns(200'000, 3 * kMs), machine.power,
                         [&world, &machine, held, runs] {
                           if (held->state != Held::State::kWaiting) return;
                           held->state = runs ? Held::State::kResumed : Held::State::kEnded;
                           world.set_copy(*held->process, machine.id,
                                          runs ? std::optional(CopyState::kRunning) : std::nullopt);
                           for (const Work& work : std::exchange(held->when_resumed, {})) work();
                         });
  }

 private:
  void decide(bool runs, Done<bool> done) {
    if (!held_->decision.has_value()) held_->decision = runs;
    auto told = [&events = world_.events(), life = dvsd_, done = std::move(done)] {
      events.after(0, life, [done] { done(true); });
    };
    const bool over = held_->state == Held::State::kResumed || held_->state == Held::State::kEnded;
    if (over) return told();
    held_->when_resumed.push_back(told);
    act(world_, machine_, held_);
  }

  World& world_;
  Machine& machine_;
  const Life dvsd_;
  const std::shared_ptr<Held> held_;
};

}  // namespace

std::string Part::image_directory(const MigrationRecord& record) { return dir_of(record.id); }

void Part::restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) {
  auto held = std::make_shared<Held>();
  held->process = &process(record.task);
  state_.held[record.id] = held;
  const bool fails = world_.events().chance(30) || copy_of(record.task) == CopyState::kFrozen;
  const int64_t takes = ms(2, 10);
  machine_after(takes, [&world = world_, machine = &machine_, held, fails] {
    if (fails) {
      held->state = Held::State::kEnded;
      if (held->process->copies.empty()) world.lose(*held->process);
      for (const Work& work : std::exchange(held->when_resumed, {})) work();
      return;
    }
    held->state = Held::State::kWaiting;
    world.set_copy(*held->process, machine->id, CopyState::kHeld);
    if (world.has_bug(Bug::kResumedBeforeTheOutcome)) held->decision = true;
    SimHeldTree::act(world, *machine, held);
  });
  after(takes + 1, [this, held, done] {
    if (held->state == Held::State::kEnded) {
      return done(Error(Code::kInternal, "the restore failed"));
    }
    done(std::unique_ptr<HeldTree>(std::make_unique<SimHeldTree>(world_, machine_, life_, held)));
  });
}

std::unique_ptr<HeldTree> Part::find_held(const MigrationRecord& record) {
  const auto found = state_.held.find(record.id);
  if (found == state_.held.end() || found->second->state == Held::State::kEnded ||
      world_.has_bug(Bug::kHeldTreeForgotten)) {
    return nullptr;
  }
  if (world_.has_bug(Bug::kRestartCommits) && is_open(record.state)) {
    found->second->decision = true;
    SimHeldTree::act(world_, machine_, found->second);
  }
  return std::make_unique<SimHeldTree>(world_, machine_, life_, found->second);
}

void Part::take_in(const MigrationRecord& record, Done<bool> done) {
  const auto held = state_.held.find(record.id);
  if (held != state_.held.end() && held->second->state == Held::State::kResumed) {
    return after(0, [done] { done(true); });
  }
  const auto bytes = read_file(image_directory(record) + "/" + kCapsulePiece);
  if (!bytes.ok()) return after(0, [done, error = bytes.error()] { done(error); });
  auto capsule = dvk::decode_capsule(*bytes, state_.region.slots());
  if (!capsule.ok()) return after(0, [done, error = capsule.error()] { done(error); });
  state_.tasks[record.task] = record.slots;
  const uint32_t lower = world_.has_bug(Bug::kEpochNotRaised) ? 1 : 0;
  bindings_.arrive(record.task, record.slots, *capsule, committed_epoch(cluster_, record) - lower,
                   [this, done = std::move(done)] { after(0, [done] { done(true); }); });
}

void Part::settle_in(const MigrationRecord& record) {
  bindings_.settle_in(record.task, record.slots);
  if (process(record.task).over) process_died(record.task);
}

// What is owed comes in parts, as long as the one who keeps it has it and can be reached.
void Part::await_memory(const MigrationRecord& record, Done<Json> done) {
  if (record.memory != OwedMemory::kOwed || state_.fetched[record.id] == kFetchParts) {
    return after(ms(1, 5), [done] { done(Json::object()); });
  }
  fetch(record, world_.events().now_ns(), std::move(done));
}

void Part::fetch(const MigrationRecord& record, int64_t last_came_ns, Done<Json> done) {
  after(kFetchNs, [this, record, last_came_ns, done] {
    SimProcess& process = this->process(record.task);
    const int from = id_of(record.file_server.empty() ? record.source : record.file_server);
    Machine& keeper = world_.machine(from);
    const auto copy = process.copies.find(from);
    const bool kept = record.file_server.empty()
                          ? copy != process.copies.end() && copy->second == CopyState::kFrozen
                          : keeper.parts[state_.dc].kept.count(record.id) != 0;
    int64_t came_ns = last_came_ns;
    if (process.over) return done(Json::object());
    if (keeper.on && world_.network().is_up(machine_.id, from)) {
      if (!kept) {
        ++world_.tally().lost_memory;
        // Unless it went with its machine, or this one was taken for lost.
        const auto now =
            migration_record(world_.store().keys().at(cluster_.keys().migration(record.id)).value);
        const bool given_up = now.ok() && now->memory == OwedMemory::kLost;
        if (keeper.boots == 1 && !given_up) {
          world_.fail(process.task + ": memory was thrown away while owed");
        }
        world_.lose(process);
        return done(Error(Code::kUnavailable, "it is not kept any more"));
      }
      came_ns = world_.events().now_ns();
      if (++state_.fetched[record.id] >= kFetchParts) return done(Json::object());
    } else if (world_.events().now_ns() - last_came_ns > record.patience_ms * kMs) {
      ++world_.tally().lost_memory;
      world_.lose(process);
      return done(Error(Code::kUnavailable, "no page came"));
    }
    fetch(record, came_ns, done);
  });
}

void Part::clean_up(const MigrationRecord& record, Done<bool> done) {
  remove_images(record.id);
  state_.held.erase(record.id);
  if (record.state != MigrationState::kCommitted) {
    if (copy_of(record.task) == CopyState::kHeld) {
      world_.set_copy(process(record.task), machine_.id, std::nullopt);
    }
  }
  after(ms(0, 2), [done] { done(true); });
}

void Part::on_target_finished(const MigrationRecord& record) {
  participant_.forget_target(record.id);
}

void Part::end_keeping(const std::string& migration) {
  keeping_.erase(migration);
  remove_images(migration);
}

// ---- gates, and what an earlier dvsd left ----

void Part::close_gates(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) dvk::close_gate(state_.region, slot);
}

void Part::open_gates(const MigrationRecord& record) {
  const bool looks_on = record.source != machine_.name && record.target != machine_.name;
  if (looks_on && world_.has_bug(Bug::kRollbackKeepsGates)) return;
  for (uint32_t slot : record.slots) {
    dvk::open_gate(state_.region, slot);
    ops_.on_place_changed(slot);
  }
}

void Part::open_gates_except(const std::set<uint32_t>& slots) {
  if (world_.has_bug(Bug::kGatesForgotten)) return;
  for (uint32_t slot = 0; slot < state_.region.slots(); ++slot) {
    if (!dvk::is_migrating(state_.region.at(slot)) || slots.count(slot) != 0) continue;
    dvk::open_gate(state_.region, slot);
    ops_.on_place_changed(slot);
  }
}

std::vector<std::string> Part::migrations_with_images() {
  auto names = list_dir(state_.dir);
  return names.ok() ? *names : std::vector<std::string>{};
}

void Part::remove_images(const std::string& migration) {
  state_.kept.erase(migration);
  static_cast<void>(remove_tree(dir_of(migration)));
}

std::vector<std::string> Part::tasks() {
  std::vector<std::string> names;
  for (const auto& [task, slots] : state_.tasks) {
    const bool frozen = copy_of(task) == CopyState::kFrozen;
    if (frozen && world_.has_bug(Bug::kTaskForgotten)) continue;
    names.push_back(task);
  }
  return names;
}

void Part::thaw_if_frozen(const std::string& task) {
  if (copy_of(task) == CopyState::kFrozen) {
    world_.set_copy(process(task), machine_.id, CopyState::kRunning);
  }
}

}  // namespace dvs::sim
