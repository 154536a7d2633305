// After a restart of dvsd: migrations in which this node takes part, and what they left here.
#include <set>

#include "base/file.h"
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {

// Images left by migrations in which this node was source or target, and tasks that have gone.
void DcPart::recover() {
  auto names = list_dir(paths::engine_dir(dir_));
  for (const std::string& id : names.ok() ? *names : std::vector<std::string>{}) {
    const auto* entry = context_.cluster.migration(id);
    if (entry == nullptr) {
      log::if_failed(remove_tree(paths::engine_dir(dir_) + "/" + id));
      continue;
    }
    const MigrationRecord& record = entry->record;
    if (record.file_server == context_.config.name) {
      if (!is_open(record.state)) keep_until_settled(record);
      continue;
    }
    if (record.target != context_.config.name) continue;
    auto target =
        std::make_shared<Target>(static_cast<TargetHost&>(*this), context_.faults, record);
    if (auto held = context_.engine.find_held(site(record.id)); held.ok() && *held != nullptr) {
      target->adopt(std::move(*held));
    }
    targets_[id] = target;
    if (!is_open(record.state)) {
      context_.later([target, record] { target->on_outcome(record); });
    } else {
      propose_rollback(record, "the target's dvsd was restarted");
    }
  }
  for (const auto& [id, entry] : context_.cluster.migrations()) {
    const MigrationRecord& record = entry.record;
    if (record.dc != record_.name || record.manual || record.source != context_.config.name)
      continue;
    if (tasks_.count(record.task) == 0) continue;
    if (is_open(record.state)) {
      auto source = std::make_shared<Source>(context_.executor, static_cast<SourceHost&>(*this),
                                             context_.faults, record);
      sources_[id] = source;
      source->on_target_lost("the source's dvsd was restarted");
    }
  }
  recover_departed();
  open_stale_gates();
}

// Gates that this node closed at a START and whose outcome came while dvsd was away: nobody else
// would open them, and senders here would wait for ever.
void DcPart::open_stale_gates() {
  std::set<uint32_t> busy;
  for (const auto& [id, entry] : context_.cluster.migrations()) {
    const MigrationRecord& record = entry.record;
    const bool arriving = targets_.count(id) != 0 && record.state == MigrationState::kCommitted;
    if (record.dc != record_.name) continue;
    if (arriving || record.state == MigrationState::kActive) {
      busy.insert(record.slots.begin(), record.slots.end());
    }
  }
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    if (!dvk::is_migrating(region_.at(slot)) || busy.count(slot) != 0) continue;
    dvk::open_gate(region_, slot);
    ops_->on_place_changed(slot);
  }
}

// Tasks whose processes are still here, frozen: of a migration that ended while dvsd was away.
void DcPart::recover_departed() {
  for (const auto& [id, task] : std::map(tasks_)) {
    if (task.ended || context_.cluster.lock_of(record_.name, id).has_value()) continue;
    // The newest by the directory's order, not by the clocks of the nodes that coordinated: taking
    // an older one for it would end a process that has come back since.
    const MigrationRecord* last = nullptr;
    uint64_t last_begun = 0;
    for (const auto& [migration, entry] : context_.cluster.migrations()) {
      if (entry.record.task != id || entry.record.manual || entry.incarnation < last_begun)
        continue;
      last = &entry.record;
      last_begun = entry.incarnation;
    }
    const bool frozen =
        context_.cgroups.frozen(cgroup_of(id)).ok() && *context_.cgroups.frozen(cgroup_of(id));
    if (last != nullptr && last->source == context_.config.name) {
      // Its coordinator may be waiting for this node.
      auto done = [self = shared_from_this(), record = *last](Result<bool>) {
        self->report_done(record, {{"role", "source"}});
      };
      if (last->state == MigrationState::kCommitted) {
        let_go(*last, std::move(done));
        continue;
      }
      go_on(*last, std::move(done));
    } else if (frozen) {
      log::if_failed(context_.cgroups.thaw(cgroup_of(id)));
    }
    task_may_have_ended(id);
  }
}

}  // namespace dvs
