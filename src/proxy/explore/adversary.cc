// Migrations as dvsd makes them, and who decides what goes wrong.
#include <sys/mman.h>

#include "base/check.h"
#include "proxy/explore/node.h"

namespace dvs::explore {

// ---- migration ----------------------------------------------------------------------------------

Migration* World::start_migration(Process& process, NodeId target) {
  auto migration = std::make_unique<Migration>();
  migration->process = &process;
  migration->source = process.node;
  migration->target = target;
  migration->epoch = raw(nodes_[process.node]->region.at(process.threads[0].slot).epoch) + 1;
  process.migration = migration.get();
  log_.push_back({News::What::kStart, 0, {}, migration.get()});
  migrations_.push_back(std::move(migration));
  return migrations_.back().get();
}

void World::decide(Migration& migration, bool commit) {
  migration.decided = true;
  log_.push_back({commit ? News::What::kCommit : News::What::kRollback, 0, {}, &migration});
}

bool World::source_can_step(const Node& node, const Migration& migration) const {
  return migration.source == node.id && migration.gate_closed && !migration.decided &&
         migration.capsule.empty();
}

// Settles, then freezes, then extracts, each at a moment of its own.
void World::step_source(Node& node, Migration& migration) {
  const std::vector<uint32_t> slots = migration.process->slots();
  if (!migration.frozen) {
    if (!dvk::settle(node.region, slots) || migration.decided) return;
    migration.frozen = migration.process->frozen = true;
    trace("process " + std::to_string(migration.process->id) + " is frozen");
    return;
  }
  const std::string capsule = dvk::encode_capsule(dvk::extract(node.region, slots));
  if (!migration.decided) migration.capsule = capsule;
}

bool World::apply_commit(Node& node, Migration& migration) {
  const std::vector<uint32_t> slots = migration.process->slots();
  if (node.id == migration.target) {
    auto capsule = dvk::decode_capsule(migration.capsule, node.region.slots());
    DVS_CHECK(capsule.ok());
    // It was restored here before, and is held.
    if (migration.process->node != node.id) move_view(*migration.process, node);
    if (!dvk::commit_here(node.region, *capsule, node.id, migration.epoch)) return false;
    if (!migration.thawed) migration.process->frozen = false;
    migration.thawed = true;
  } else if (node.id == migration.source) {
    dvk::commit_away(node.region, slots, migration.target, migration.epoch);
  } else {
    for (uint32_t slot : slots) {
      dvk::Identity identity = dvk::identity_of(node.region, slot);
      identity.node = migration.target;
      identity.epoch = migration.epoch;
      if (!dvk::bind(node.region, slot, identity)) return false;
      dvk::open_gate(node.region, slot);
    }
  }
  return true;
}

void World::move_view(Process& process, const Node& to) {
  dvk::RegionHeader& header = process.view.header();
  void* mapped = ::mmap(&header, header.total_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        to.fd.get(), 0);
  DVS_CHECK(mapped == &header);
  process.node = to.id;
}

// ---- the adversary

void World::migrate_somebody() {
  Process& process = *processes_[random(processes_.size())];
  const auto target = static_cast<NodeId>(random(nodes_.size()));
  if (process.alive && process.may_migrate && process.migration == nullptr &&
      target != process.node) {
    --options_.migrations;
    start_migration(process, target);
  }
}

void World::act_as_adversary() {
  const auto a = static_cast<NodeId>(random(nodes_.size()));
  const auto b = static_cast<NodeId>(random(nodes_.size()));
  switch (random(7)) {
    case 0:
      if (a != b && options_.link_losses > 0 && link_is_up(a, b)) {
        --options_.link_losses;
        drop_link(a, b);
      }
      break;
    case 1:
      if (a != b) raise_link(a, b);
      break;
    case 2:
      if (options_.restarts > 0) {
        --options_.restarts;
        restart_dvsd(a);
      }
      break;
    case 3:
    case 4:
      if (options_.migrations > 0) migrate_somebody();
      break;
    case 5:
      if (!migrations_.empty()) {
        Migration& migration = *migrations_[random(migrations_.size())];
        if (!migration.decided) decide(migration, !migration.capsule.empty() && chance(800));
      }
      break;
    default: {
      if (options_.kills == 0) break;
      Process& process = *processes_[random(processes_.size())];
      if (!process.alive || !process.may_be_killed || process.migration != nullptr) break;
      --options_.kills;
      kill(process);
    }
  }
}

}  // namespace dvs::explore
