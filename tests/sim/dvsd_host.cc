// What a simulated node does for the protocol: the source's and the target's work, gates, what an
// earlier dvsd has left.
#include <algorithm>

#include "base/file.h"
#include "dvk/node_view.h"
#include "dvsd.h"
#include "migrate/memory_frames.h"

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kFetchNs = 20 * kMs;
constexpr int kFetchParts = 4;
constexpr const char* kCapsulePiece = "capsule";
constexpr uint64_t kMemoryStart = 1 << 20;

}  // namespace

// ---- the source's work ----

bool Dvsd::has_copy(const std::string& task, CopyState state) const {
  const auto& copies = world_.process(task).copies;
  const auto found = copies.find(machine_.id);
  return found != copies.end() && found->second == state;
}

void Dvsd::copy_memory(const MigrationRecord& record, Done<mover::Round> done) {
  const int64_t takes = ms(2, 40);
  after(takes, [this, record, takes, done] {
    if (world_.process(record.task).over) return done(Error(Code::kNotFound, "it has ended"));
    mover::Round round;
    round.populated_bytes = kMemory;
    round.changed_bytes = world_.events().random(kMemory);
    round.sent_bytes = round.changed_bytes;
    round.interval_ns = round.duration_ns = takes;
    done(round);
  });
}

void Dvsd::give_up_copying(const MigrationRecord&) {}

void Dvsd::copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) {
  auto owe = [this, record, budget, done] {
    mover::Round round;
    const bool owes = budget != mover::Copier::kAll || !record.file_server.empty();
    if (owes && world_.events().chance(800)) {
      const mover::PageRanges ranges = {{kMemoryStart, kMemoryStart + kMemory}};
      round.owed_bytes = kMemory;
      for (const std::string& body :
           encode_owed(record.id, world_.process(record.task).pid, ranges)) {
        if (!send(record, body)) return done(Error(Code::kUnavailable, "the link is down"));
      }
    }
    done(round);
  };
  after(ms(1, 10), [this, record, owe, done] {
    if (record.file_server.empty()) return owe();
    call(record.file_server, "migrate.keep", {{"id", record.id}}, std::chrono::seconds(10),
         [owe, done](Result<Json> kept) {
           if (!kept.ok()) return done(kept.error());
           owe();
         });
  });
}

bool Dvsd::is_being_bound(const std::string& task) const {
  return std::any_of(machine_.unbound.begin(), machine_.unbound.end(),
                     [&](const auto& entry) { return entry.second == task; });
}

std::optional<Proposer::Endpoints> Dvsd::endpoints_of(const MigrationRecord& record) {
  if (is_being_bound(record.task)) return std::nullopt;
  Proposer::Endpoints endpoints;
  for (const auto& [slot, task] : bound_) {
    if (task == record.task) endpoints[slot] = machine_.region.number_of(slot);
  }
  return endpoints;
}

Result<bool> Dvsd::settle(const MigrationRecord& record) {
  DVS_TRY(check_frozen(record));
  return dvk::settle(machine_.region, record.slots);
}

Status Dvsd::check_frozen(const MigrationRecord& record) {
  for (const auto& [slot, task] : bound_) {
    const bool named =
        std::find(record.slots.begin(), record.slots.end(), slot) != record.slots.end();
    if (named != (task == record.task)) return Error(Code::kConflict, "its endpoints changed");
  }
  for (const uint32_t slot : record.slots) {
    const auto* entry = cluster_.endpoint(kDc, slot);
    const auto bound = bound_.find(slot);
    if (bound == bound_.end() || bound->second != record.task || entry == nullptr ||
        entry->incarnation != machine_.region.at(slot).incarnation.load()) {
      return Error(Code::kConflict, "it is being bound again");
    }
  }
  if (is_being_bound(record.task)) return Error(Code::kConflict, "it is being bound again");
  return {};
}

void Dvsd::freeze(const MigrationRecord& record, Done<bool> done) {
  machine_after(ms(0, 3), [this, machine = &machine_, &world = world_, task = record.task] {
    static_cast<void>(this);
    SimProcess& process = world.process(task);
    const auto copy = process.copies.find(machine->id);
    if (copy != process.copies.end() && copy->second == CopyState::kRunning) {
      world.set_copy(process, machine->id, CopyState::kFrozen);
    }
  });
  after(ms(4, 6), [this, record, done] {
    if (has_copy(record.task, CopyState::kFrozen)) return done(true);
    done(Error(Code::kNotFound, "the process has ended"));
  });
}

void Dvsd::dump(const MigrationRecord& record, Done<DumpResult> done) {
  after(ms(2, 10), [this, record, done] {
    if (world_.events().chance(30)) return done(Error(Code::kInternal, "the dump failed"));
    done(DumpResult{100'000, 1});
  });
}

Result<std::vector<Piece>> Dvsd::collect(const MigrationRecord& record) {
  dvk::Capsule capsule = dvk::extract(machine_.region, record.slots);
  if (world_.has_bug(Bug::kDebtsForgotten)) capsule.debts.clear();
  std::vector<Piece> pieces;
  pieces.push_back({kCapsulePiece, 0, dvk::encode_capsule(capsule), {}});
  return pieces;
}

void Dvsd::await_target(const MigrationRecord& record, Done<bool> done) {
  const Json args = {{"id", record.id}};
  auto at_target = [this, record, args, done] {
    call(record.target, "migrate.expect", args, std::chrono::seconds(10),
         [done](Result<Json> ready) {
           if (!ready.ok()) return done(ready.error());
           done(true);
         });
  };
  if (record.file_server.empty()) return at_target();
  call(record.file_server, "migrate.expect", args, std::chrono::seconds(10),
       [at_target, done](Result<Json> ready) {
         if (!ready.ok()) return done(ready.error());
         at_target();
       });
}

bool Dvsd::send(const MigrationRecord& record, std::string_view body) {
  const int to = id_of(record.target);
  return to >= 0 &&
         world_.network().send(machine_.id, to, std::string(1, kImageFrame) + std::string(body));
}

void Dvsd::break_link(const MigrationRecord& record) {
  world_.network().break_link(machine_.id, id_of(record.target));
}

void Dvsd::go_on(const MigrationRecord& record, Done<bool> done) {
  thaw_if_frozen(record.task);
  open_gates(record);
  remove_images(record.id);
  after(0, [done] { done(true); });
}

void Dvsd::let_go(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) bound_.erase(slot);
  dvk::commit_away(machine_.region, record.slots, static_cast<uint32_t>(id_of(record.target)),
                   committed_epoch(cluster_, record));
  for (uint32_t slot : record.slots) place(slot);
  if (world_.has_bug(Bug::kEndedWhileOwed)) {
    world_.set_copy(world_.process(record.task), machine_.id, std::nullopt);
  }
}

void Dvsd::end_departed(const MigrationRecord& record, Done<bool> done) {
  machine_after(ms(0, 2), [machine = &machine_, &world = world_, task = record.task] {
    world.set_copy(world.process(task), machine->id, std::nullopt);
  });
  after(ms(3, 5), [this, record, done] {
    machine_.tasks.erase(record.task);
    remove_images(record.id);
    done(true);
  });
}

void Dvsd::on_source_finished(const MigrationRecord& record) {
  participant_->forget_source(record.id);
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
                           SimProcess& process = world.process(held->task);
                           world.set_copy(process, machine.id,
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

std::string Dvsd::image_directory(const MigrationRecord& record) {
  return machine_.dir + "/" + record.id;
}

void Dvsd::restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) {
  auto held = std::make_shared<Held>();
  held->task = record.task;
  machine_.held[record.id] = held;
  const bool fails = world_.events().chance(30) || has_copy(record.task, CopyState::kFrozen);
  const int64_t takes = ms(2, 10);
  machine_after(takes, [&world = world_, machine = &machine_, held, fails] {
    if (fails) {
      held->state = Held::State::kEnded;
      if (world.process(held->task).copies.empty()) world.lose(world.process(held->task));
      for (const Work& work : std::exchange(held->when_resumed, {})) work();
      return;
    }
    held->state = Held::State::kWaiting;
    world.set_copy(world.process(held->task), machine->id, CopyState::kHeld);
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

std::unique_ptr<HeldTree> Dvsd::find_held(const MigrationRecord& record) {
  const auto found = machine_.held.find(record.id);
  if (found == machine_.held.end() || found->second->state == Held::State::kEnded ||
      world_.has_bug(Bug::kHeldTreeForgotten)) {
    return nullptr;
  }
  if (world_.has_bug(Bug::kRestartCommits) && is_open(record.state)) {
    found->second->decision = true;
    SimHeldTree::act(world_, machine_, found->second);
  }
  return std::make_unique<SimHeldTree>(world_, machine_, life_, found->second);
}

void Dvsd::take_in(const MigrationRecord& record, Done<bool> done) {
  const auto held = machine_.held.find(record.id);
  if (held != machine_.held.end() && held->second->state == Held::State::kResumed) {
    return after(0, [done] { done(true); });
  }
  const auto bytes = read_file(image_directory(record) + "/" + kCapsulePiece);
  if (!bytes.ok()) return after(0, [done, error = bytes.error()] { done(error); });
  auto capsule = dvk::decode_capsule(*bytes, machine_.region.slots());
  if (!capsule.ok()) return after(0, [done, error = capsule.error()] { done(error); });
  machine_.tasks[record.task] = record.slots;
  commit_capsule(record, *capsule, std::move(done));
}

void Dvsd::commit_capsule(const MigrationRecord& record, const dvk::Capsule& capsule,
                          Done<bool> done) {
  const uint32_t lower = world_.has_bug(Bug::kEpochNotRaised) ? 1 : 0;
  if (!dvk::commit_here(machine_.region, capsule, node_id_,
                        committed_epoch(cluster_, record) - lower)) {
    return after(1 * kMs, [this, record, capsule, done = std::move(done)] {
      commit_capsule(record, capsule, done);
    });
  }
  for (uint32_t slot : record.slots) {
    if (cluster_.endpoint(kDc, slot) != nullptr) bound_[slot] = record.task;
  }
  after(0, [done] { done(true); });
}

void Dvsd::settle_in(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) {
    const auto* entry = cluster_.endpoint(kDc, slot);
    const bool here =
        entry != nullptr && entry->record.node == node_id_ && entry->record.task == record.task;
    if (here) bound_[slot] = record.task;
    if (bound_.count(slot) == 0) place(slot);
    ops_.on_place_changed(slot);
  }
  if (world_.process(record.task).over) process_died(record.task);
}

// What is owed comes in parts, as long as the one who keeps it has it and can be reached.
void Dvsd::await_memory(const MigrationRecord& record, Done<Json> done) {
  if (record.memory != OwedMemory::kOwed || machine_.fetched[record.id] == kFetchParts) {
    return after(ms(1, 5), [done] { done(Json::object()); });
  }
  fetch(record, world_.events().now_ns(), std::move(done));
}

void Dvsd::fetch(const MigrationRecord& record, int64_t last_came_ns, Done<Json> done) {
  after(kFetchNs, [this, record, last_came_ns, done] {
    SimProcess& process = world_.process(record.task);
    const int from = id_of(record.file_server.empty() ? record.source : record.file_server);
    Machine& keeper = world_.machine(from);
    const auto copy = process.copies.find(from);
    const bool kept = record.file_server.empty()
                          ? copy != process.copies.end() && copy->second == CopyState::kFrozen
                          : keeper.kept.count(record.id) != 0;
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
      if (++machine_.fetched[record.id] >= kFetchParts) return done(Json::object());
    } else if (world_.events().now_ns() - last_came_ns > record.patience_ms * kMs) {
      ++world_.tally().lost_memory;
      world_.lose(process);
      return done(Error(Code::kUnavailable, "no page came"));
    }
    fetch(record, came_ns, done);
  });
}

void Dvsd::clean_up(const MigrationRecord& record, Done<bool> done) {
  remove_images(record.id);
  machine_.held.erase(record.id);
  if (record.state != MigrationState::kCommitted) {
    const auto copy = world_.process(record.task).copies.find(machine_.id);
    if (copy != world_.process(record.task).copies.end() && copy->second == CopyState::kHeld) {
      world_.set_copy(world_.process(record.task), machine_.id, std::nullopt);
    }
  }
  after(ms(0, 2), [done] { done(true); });
}

void Dvsd::on_target_finished(const MigrationRecord& record) {
  participant_->forget_target(record.id);
}

void Dvsd::end_keeping(const std::string& migration) {
  keeping_.erase(migration);
  remove_images(migration);
}

// ---- gates, and what an earlier dvsd left ----

void Dvsd::close_gates(const MigrationRecord& record) {
  for (uint32_t slot : record.slots) dvk::close_gate(machine_.region, slot);
}

void Dvsd::open_gates(const MigrationRecord& record) {
  const bool looks_on = record.source != machine_.name && record.target != machine_.name;
  if (looks_on && world_.has_bug(Bug::kRollbackKeepsGates)) return;
  for (uint32_t slot : record.slots) {
    dvk::open_gate(machine_.region, slot);
    ops_.on_place_changed(slot);
  }
}

void Dvsd::open_gates_except(const std::set<uint32_t>& slots) {
  if (world_.has_bug(Bug::kGatesForgotten)) return;
  for (uint32_t slot = 0; slot < machine_.region.slots(); ++slot) {
    if (!dvk::is_migrating(machine_.region.at(slot)) || slots.count(slot) != 0) continue;
    dvk::open_gate(machine_.region, slot);
    ops_.on_place_changed(slot);
  }
}

std::vector<std::string> Dvsd::migrations_with_images() {
  auto names = list_dir(machine_.dir);
  return names.ok() ? *names : std::vector<std::string>{};
}

void Dvsd::remove_images(const std::string& migration) {
  machine_.kept.erase(migration);
  static_cast<void>(remove_tree(machine_.dir + "/" + migration));
}

std::vector<std::string> Dvsd::tasks() {
  std::vector<std::string> names;
  for (const auto& [task, slots] : machine_.tasks) {
    const bool frozen = has_copy(task, CopyState::kFrozen);
    if (frozen && world_.has_bug(Bug::kTaskForgotten)) continue;
    names.push_back(task);
  }
  return names;
}

void Dvsd::thaw_if_frozen(const std::string& task) {
  if (has_copy(task, CopyState::kFrozen)) {
    world_.set_copy(world_.process(task), machine_.id, CopyState::kRunning);
  }
}

}  // namespace dvs::sim
