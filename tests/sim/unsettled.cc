// What is still to be done when the faults are over, seen from outside; in words.
#include "base/file.h"
#include "dvk/node_view.h"
#include "dvsd.h"

namespace dvs::sim {

// What takes longest to look at comes last.
std::string World::unsettled() {
  for (const auto& machine : machines_) {
    if (std::string open = unsettled_machine(*machine); !open.empty()) return open;
  }
  for (const auto& [name, process] : processes_) {
    if (std::string open = unsettled_process(*process); !open.empty()) return open;
  }
  for (const Ledger& ledger : ledgers_) {
    if (std::string open = ledger.unanswered(); !open.empty()) return open;
  }
  if (std::string open = unsettled_directory(); !open.empty()) return open;
  for (const auto& machine : machines_) {
    for (const PartState& part : machine->parts) {
      const auto left = machine->gone ? std::vector<std::string>{} : *list_dir(part.dir);
      if (!left.empty()) {
        return fmt::format("images of {} are left on {}", left.front(), machine->name);
      }
    }
  }
  return {};
}

std::string World::unsettled_directory() {
  for (const auto& [key, kv] : store_.keys()) {
    if (key.find("/locks/") != std::string::npos) return key + " is there";
    if (key.find("/migrations/") == std::string::npos || over_[key] == kv.mod_revision) continue;
    const auto record = migration_record(kv.value);
    if (!record.ok()) return key + " makes no sense";
    if (is_open(record->state)) return fmt::format("{} is {}", key, state_name(record->state));
    if (record->memory == OwedMemory::kOwed) return key + ": memory is owed";
    over_[key] = kv.mod_revision;
  }
  return {};
}

std::string World::unsettled_machine(const Machine& machine) const {
  if (machine.gone) return {};
  if (machine.dvsd == nullptr || !machine.dvsd->joined()) return machine.name + " has not joined";
  if (store_.keys().count(Keys("sim").node(machine.name)) == 0) {
    return machine.name + " is taken for dead";
  }
  if (machine.dvsd->has_closed_gates()) return "a gate is closed on " + machine.name;
  for (const PartState& part : machine.parts) {
    if (std::string open = unsettled_part(machine, part); !open.empty()) return open;
  }
  return {};
}

std::string World::unsettled_part(const Machine& machine, const PartState& part) const {
  if (!part.kept.empty()) return machine.name + " keeps memory for nobody";
  for (const auto& [task, slots] : part.tasks) {
    if (processes_.at({part.dc, task})->copies.count(machine.id) == 0) {
      return fmt::format("{} has a task {} without processes", machine.name, task);
    }
  }
  return {};
}

std::string World::unsettled_process(const SimProcess& process) const {
  if (process.over) {
    return process.copies.empty() ? "" : process.task + " is over, and has a copy";
  }
  if (process.copies.size() != 1) {
    return fmt::format("{} has {} copies", process.task, process.copies.size());
  }
  const auto& [node, state] = *process.copies.begin();
  if (state != CopyState::kRunning) return process.task + " does not run";
  const dvk::Region& region = machines_[static_cast<size_t>(node)]->parts[process.dc].region;
  const Keys keys("sim");
  for (const Thread& thread : process.threads) {
    const auto kv = store_.keys().find(keys.endpoint(dc_name(process.dc), thread.slot));
    if (thread.unbound) {
      if (kv == store_.keys().end()) continue;
      return fmt::format("{} has unbound slot {}, and has it", process.task, thread.slot);
    }
    if (kv == store_.keys().end()) return process.task + " is not bound";
    const auto record = endpoint_record(kv->second.value);
    if (!record.ok() || record->node != node) return process.task + " is elsewhere, it is said";
    if (dvk::load_kind(region.at(thread.slot)) != dvk::Kind::kLocal) {
      return process.task + " is not in its node's region";
    }
  }
  const Thread& first = process.threads[0];
  const bool asks = first.slot >= region.slot_of(kFirstClient);
  if (asks && !first.fiber->done()) return process.task + " waits for an answer";
  return {};
}

}  // namespace dvs::sim
