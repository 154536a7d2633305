#include "migrate/participant.h"

#include <algorithm>

#include "base/log.h"

namespace dvs {
namespace {

constexpr auto kSayLimit = std::chrono::seconds(10);

// Of one who has no work of its own, by the last record that it has seen.
Phase phase_of(const MigrationRecord* before, Phase when_seen) {
  return before == nullptr ? Phase::kBegun : when_seen;
}

}  // namespace

Participant::Participant(const ParticipantServices& services, ParticipantHost& host, std::string dc)
    : scheduler_(services.scheduler),
      cluster_(services.cluster),
      faults_(services.faults),
      host_(host),
      dc_(std::move(dc)),
      here_(services.self.name),
      proposer_(std::make_shared<Proposer>(services.scheduler, services.store, services.cluster,
                                           services.faults, services.self)),
      reporter_(std::make_shared<Reporter>(services.scheduler, services.peers)),
      protocol_{services.scheduler, *proposer_, *reporter_, services.faults} {}

// Whoever waits for a moment to go on finds that there is nothing to do.
Participant::~Participant() {
  for (auto& [id, source] : sources_) source->abandon();
}

std::shared_ptr<Source> Participant::make_source(const MigrationRecord& record) {
  auto& source = sources_[record.id];
  source = std::make_shared<Source>(protocol_, host_, record);
  return source;
}

std::shared_ptr<Target> Participant::make_target(const MigrationRecord& record) {
  auto& target = targets_[record.id];
  target = std::make_shared<Target>(protocol_, host_, record);
  return target;
}

// ---- the record changes ----

bool Participant::migrates(const std::string& task, const std::string& other_than) const {
  const auto same = [&](const auto& entry) {
    return entry.first != other_than && entry.second->record().task == task;
  };
  const auto left = [&](const auto& entry) {
    return entry.first != other_than && entry.second == task;
  };
  return std::any_of(sources_.begin(), sources_.end(), same) ||
         std::any_of(targets_.begin(), targets_.end(), same) ||
         std::any_of(departed_.begin(), departed_.end(), left);
}

bool Participant::is_stopping(const std::string& task) const {
  return std::any_of(sources_.begin(), sources_.end(), [&](const auto& entry) {
    return entry.second->record().task == task && !entry.second->is_copying();
  });
}

bool Participant::may_have_left(const std::string& task) const {
  const bool leaving = std::any_of(sources_.begin(), sources_.end(), [&](const auto& entry) {
    return entry.second->record().task == task && entry.second->may_have_left();
  });
  return leaving || std::any_of(departed_.begin(), departed_.end(),
                                [&](const auto& entry) { return entry.second == task; });
}

// The next migration of a task may begin as soon as the last one is decided. What is to be done
// here for the last one comes first: it opens the gates that the next one closes.
void Participant::on_migration(const MigrationRecord& record, const MigrationRecord* before) {
  const bool settled = !is_open(record.state) && record.memory != OwedMemory::kOwed;
  if (settled) proposer_->on_settled(record.id);
  if (migrates(record.task, record.id)) {
    postponed_.emplace_back(record, before == nullptr ? std::nullopt : std::optional(*before));
    return;
  }
  if (!is_open(record.state)) {
    if (before == nullptr || is_open(before->state)) end(record, before);
  } else if (before == nullptr) {
    begin(record);
  } else if (before->state == MigrationState::kCopying && record.state == MigrationState::kActive) {
    activate(record);
  }
}

// Only what is over is removed; this node may have missed how it ended.
void Participant::on_forgotten(const MigrationRecord& before) {
  proposer_->on_settled(before.id);
  if (!is_open(before.state)) return;
  host_.open_gates(before);
  if (before.file_server != here_) return;
  step(MigrationRole::kKeeper, Phase::kReceiving, Event::kRolledBack);
  end_keeping(before.id);
}

void Participant::take_up_postponed() {
  scheduler_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    for (const auto& [record, before] : std::exchange(postponed_, {})) {
      on_migration(record, before.has_value() ? &*before : nullptr);
    }
  });
}

// As a bystander or keeper. Where it stands is what the record says.
void Participant::step(MigrationRole role, Phase from, Event on) {
  faults_.on_step(step_of(role, from, on));
}

bool Participant::is_bystander(const MigrationRecord& record) const {
  return record.source != here_ && record.target != here_;
}

void Participant::close_gates(const MigrationRecord& record) {
  host_.close_gates(record);
  if (is_bystander(record)) faults_.die_at(Fault::kBystanderDiesStarted);
}

void Participant::begin(const MigrationRecord& record) {
  const bool copies = record.state == MigrationState::kCopying;
  const Event opened = copies ? Event::kCopyingOpened : Event::kStarted;
  if (is_bystander(record)) step(MigrationRole::kBystander, Phase::kBegun, opened);
  if (is_bystander(record) && copies) faults_.die_at(Fault::kBystanderDiesCopying);
  if (!copies) close_gates(record);
  if (record.manual) return host_.begin_by_hand(record);
  if (record.target == here_) {
    faults_.die_at(Fault::kTargetDiesExpecting);
    const auto target = make_target(record);
    host_.expect_memory(record);
    look_for_source(*target);
  }
  if (record.file_server == here_) {
    step(MigrationRole::kKeeper, Phase::kBegun, Event::kCopyingOpened);  // nobody copies without it
    host_.keep_memory(record);
  }
  for (auto& done : std::exchange(expected_[record.id], {})) done(true);
  expected_.erase(record.id);
  if (record.source == here_) make_source(record)->start();
}

void Participant::activate(const MigrationRecord& record) {
  if (is_bystander(record)) step(MigrationRole::kBystander, Phase::kCopying, Event::kStarted);
  close_gates(record);
  if (auto found = targets_.find(record.id); found != targets_.end()) {
    found->second->on_active(record);
  }
  if (auto found = sources_.find(record.id); found != sources_.end()) {
    const auto source = found->second;
    source->on_active(record);
  }
}

void Participant::end(const MigrationRecord& record, const MigrationRecord* before) {
  const bool committed = record.state == MigrationState::kCommitted;
  const Event outcome = committed ? Event::kCommitted : Event::kRolledBack;
  if (is_bystander(record))
    step(MigrationRole::kBystander, phase_of(before, Phase::kWaiting), outcome);
  if (record.manual) return host_.end_by_hand(record);
  const auto source = sources_.find(record.id);
  const auto target = targets_.find(record.id);
  const bool departing = source != sources_.end();
  const bool arriving = target != targets_.end();
  if (departing) {
    const auto held = source->second;
    held->on_outcome(record);
  } else if (arriving) {
    const auto held = target->second;
    held->on_outcome(record);
  }
  if (record.file_server == here_) {
    step(MigrationRole::kKeeper, phase_of(before, Phase::kReceiving), outcome);
    if (committed) faults_.die_at(Fault::kKeeperDiesCommitted);
    end_keeping(record.id);
  }
  if (departing || (arriving && committed)) return;  // they open their gates themselves
  if (!arriving) faults_.die_at(Fault::kBystanderDiesDecided);
  // A bystander, or the target of a rollback: the place is in the endpoints' records.
  host_.open_gates(record);
}

// Once nobody is owed it any more.
void Participant::end_keeping(const std::string& migration) {
  proposer_->await_settled(migration, [this, alive = std::weak_ptr(alive_), migration] {
    if (alive.expired()) return;
    step(MigrationRole::kKeeper, Phase::kKeeping, Event::kCarriedOut);
    host_.end_keeping(migration);
  });
}

void Participant::forget_source(const std::string& migration) {
  sources_.erase(migration);
  take_up_postponed();
}

void Participant::forget_target(const std::string& migration) {
  targets_.erase(migration);
  take_up_postponed();
}

// ---- other nodes ----

// Migrations whose source and target are both gone are ended by whoever sees it.
void Participant::on_nodes_changed() {
  proposer_->look_for_lost_targets(dc_);
  for (auto& [id, source] : std::map(sources_)) look_for_target(*source);
  for (auto& [id, target] : std::map(targets_)) look_for_source(*target);
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    if (record.dc != dc_ || record.manual || !is_open(record.state)) continue;
    if (cluster_.node(record.source) == nullptr && cluster_.node(record.target) == nullptr) {
      proposer_->rollback(record, "source and target were lost");
    }
  }
}

void Participant::expect(const std::string& migration, Done<bool> done) {
  if (targets_.count(migration) != 0 || host_.keeps_memory(migration)) return done(true);
  const auto* entry = cluster_.migration(migration);
  if (entry != nullptr && !is_open(entry->record.state)) {
    return done(Error(Code::kConflict, "that migration has ended"));
  }
  expected_[migration].push_back(std::move(done));
}

bool Participant::on_image(const std::string& from, const std::string& migration,
                           std::string_view body) {
  const auto found = targets_.find(migration);
  if (found == targets_.end()) return false;
  const auto target = found->second;
  if (!target->is_receiving() || target->record().source != from) return false;
  target->on_image(body);
  return true;
}

void Participant::on_writable(const std::string& node) {
  for (auto& [id, source] : std::map(sources_)) {
    if (source->record().target == node) source->on_writable();
  }
}

void Participant::on_link_down(const std::string& node) {
  for (auto& [id, source] : std::map(sources_)) {
    if (source->record().target == node) {
      source->on_target_lost("the link to the target broke");
    } else if (source->record().file_server == node) {
      source->on_target_lost("the link to the file server broke");
    }
  }
  for (auto& [id, target] : std::map(targets_)) {
    if (target->record().source == node) target->on_source_lost("the link to the source broke");
  }
}

void Participant::look_for_target(Source& source) const {
  const MigrationRecord& record = source.record();
  if (cluster_.node(record.target) == nullptr) source.on_target_lost("the target was lost");
  if (record.file_server.empty() || cluster_.node(record.file_server) != nullptr) return;
  source.on_target_lost("the file server was lost");
}

void Participant::look_for_source(Target& target) const {
  if (cluster_.node(target.record().source) == nullptr) {
    target.on_source_lost("the source was lost");
  }
}

void Participant::hurry(const std::string& migration, const std::string& why) {
  if (auto found = sources_.find(migration); found != sources_.end()) found->second->hurry(why);
}

// ---- after a restart ----

void Participant::recover() {
  recover_images();
  recover_sources();
  recover_without_images();
  recover_departed();
  recover_gates();
}

// Images left by migrations in which this node was source, target or file server.
void Participant::recover_images() {
  for (const std::string& id : host_.migrations_with_images()) {
    const auto* entry = cluster_.migration(id);
    if (entry == nullptr) {
      host_.remove_images(id);
      continue;
    }
    const MigrationRecord& record = entry->record;
    if (record.file_server == here_) {
      if (is_open(record.state)) continue;
      end_keeping(id);
    }
    if (record.target != here_) continue;
    auto target = make_target(record);
    if (auto held = host_.find_held(record)) target->adopt(std::move(held));
    if (!is_open(record.state)) {
      scheduler_.post([target, record] { target->on_outcome(record); });
    } else {
      proposer_->rollback(record, "the target's dvsd was restarted");
    }
  }
}

void Participant::recover_sources() {
  const std::vector<std::string> tasks = host_.tasks();
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    const bool mine = record.dc == dc_ && !record.manual && record.source == here_;
    if (!mine || !is_open(record.state)) continue;
    if (std::find(tasks.begin(), tasks.end(), record.task) != tasks.end()) {
      make_source(record)->on_target_lost("the source's dvsd was restarted");
      continue;
    }
    // It went with this node. The target may have all of it, and is to have time to say so.
    scheduler_.after(kSayLimit, [proposer = std::weak_ptr(proposer_), record] {
      if (auto still = proposer.lock()) still->rollback(record, "the source was lost");
    });
  }
}

// As the target of migrations of which nothing is here: the whole node was lost, and is back before
// anybody has missed it.
void Participant::recover_without_images() {
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    const bool mine = record.dc == dc_ && !record.manual && record.target == here_;
    if (!mine || targets_.count(id) != 0) continue;
    if (is_open(record.state)) {
      proposer_->rollback(record, "the target was restarted");
    } else if (record.memory == OwedMemory::kOwed) {
      proposer_->settle_memory(id, OwedMemory::kLost,
                               "node " + here_ + " was lost, and the process with it");
    }
  }
}

// The last one that took the task away from here, tried to, or brought it here. Not the last of
// all: the process may have gone on since from where it went, and its frozen copy be here still.
// By the directory's order, not by the clocks of the nodes that coordinated.
const MigrationRecord* Participant::last_here(const std::string& task) const {
  const MigrationRecord* last = nullptr;
  uint64_t begun = 0;
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    const bool arrived = record.target == here_ && record.state == MigrationState::kCommitted;
    const bool concerns =
        record.dc == dc_ && record.task == task && (record.source == here_ || arrived);
    if (!concerns || record.manual || entry.incarnation < begun) continue;
    last = &record;
    begun = entry.incarnation;
  }
  return last;
}

// Tasks whose processes are still here, frozen: of a migration that ended while dvsd was away.
void Participant::recover_departed() {
  for (const std::string& task : host_.tasks()) recover_task(task);
}

void Participant::recover_task(const std::string& task) {
  const MigrationRecord* last = last_here(task);
  if (last == nullptr || last->source != here_) {
    host_.thaw_if_frozen(task);
  } else if (is_open(last->state)) {
    return;  // recover_sources() has seen to it
  } else {
    // It must not come back before its copy is gone from here, which takes as long as it is owed
    // memory. And its coordinator may be waiting for this node.
    departed_[last->id] = task;
    auto done = [this, alive = std::weak_ptr(alive_), reporter = reporter_,
                 record = *last](Result<bool>) {
      reporter->done(record, {{"role", "source"}});
      if (alive.expired()) return;
      departed_.erase(record.id);
      take_up_postponed();
    };
    if (last->state == MigrationState::kCommitted) return let_go(host_, protocol_, *last, done);
    host_.go_on(*last, std::move(done));
  }
  host_.look_whether_ended(task);
}

// Gates that this node closed at a START and whose outcome came while dvsd was away: nobody else
// would open them, and senders here would wait for ever. And the other way round.
void Participant::recover_gates() {
  std::set<uint32_t> busy;
  for (const auto& [id, entry] : cluster_.migrations()) {
    const MigrationRecord& record = entry.record;
    const bool arriving = targets_.count(id) != 0 && record.state == MigrationState::kCommitted;
    if (record.dc != dc_) continue;
    if (record.state == MigrationState::kActive) host_.close_gates(record);
    if (arriving || record.state == MigrationState::kActive) {
      busy.insert(record.slots.begin(), record.slots.end());
    }
  }
  host_.open_gates_except(busy);
}

}  // namespace dvs
