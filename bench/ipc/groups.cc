#include "ipc/groups.h"

#include <utility>

#include "dvk/node_view.h"
#include "ipc/die.h"

namespace dvs::bench {
namespace {

constexpr uint32_t kServerSlot = NR_TASKS + 11;
constexpr uint32_t kFirstUserSlot = NR_TASKS + 64;
constexpr int kMostProcesses = 4'194'304;  // no process has an id above that

void bind_slot(const dvk::Region& region, uint32_t slot, pid_t pid) {
  dvk::Identity identity;
  identity.endpoint = _ENDPOINT(region.is_user(slot) ? 1 : 0, region.number_of(slot));
  identity.incarnation = 1;
  identity.epoch = 1;
  identity.kind = dvk::Kind::kLocal;
  identity.pid = identity.tid = pid;
  identity.name = "bench";
  dvk::bind(region, slot, identity);
}

}  // namespace

GroupRegion make_region(const std::string& directory, int group, uint32_t slots, int bound) {
  const std::string path = directory + "/region." + std::to_string(group);
  dvk::RegionSpec spec;
  spec.slots = slots;
  spec.sysprocs = slots - 1;  // every call is measured
  auto made = dvk::Region::create(path, spec);
  if (!made.ok()) die_plainly(made.error().message());
  GroupRegion result{path, std::move(*made)};
  // From the end: the workers' slots are at the beginning.
  for (int i = 0; i < bound; ++i) {
    bind_slot(result.region, slots - 1 - static_cast<uint32_t>(i), kMostProcesses + 1 + i);
  }
  return result;
}

void bind_worker(const GroupRegion& group, int index, pid_t pid) {
  const uint32_t slot = index < 0 ? kServerSlot : kFirstUserSlot + static_cast<uint32_t>(index);
  bind_slot(group.region, slot, pid);
}

}  // namespace dvs::bench
