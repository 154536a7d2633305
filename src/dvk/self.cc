#include "dvk/self.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

namespace dvs::dvk {
namespace {

// The calling thread, and its endpoint as last found: that is checked against the descriptor at
// every use. (Initial-exec: a signal's handler may be the first to touch it.)
struct Self {
  int tid = 0;
  int pid = 0;
  uint32_t slot = 0;
  bool known = false;
  uint32_t binds = 0;  // RegionHeader::bind_event then
};
__attribute__((tls_model("initial-exec"))) thread_local Self self;

void forget_self() { self = Self{}; }

Self& me() {
  if (self.tid == 0) {
    self.pid = getpid();
    self.tid = static_cast<int>(syscall(SYS_gettid));
  }
  return self;
}

}  // namespace

// The mapping lives as long as the process: threads may be in a call when it exits.
const Region* my_region() {
  static const Region* mapped = []() -> const Region* {
    const char* path = std::getenv("DVK_REGION");
    auto opened = Region::open(path != nullptr ? path : kRegionPath);
    if (!opened.ok()) return nullptr;
    pthread_atfork(nullptr, nullptr, forget_self);
    return new Region(std::move(*opened));
  }();
  return mapped;
}

int my_tid() { return me().tid; }

Thread my_thread() { return {static_cast<uint32_t>(me().tid), static_cast<uint32_t>(me().pid)}; }

bool belongs_here(const Descriptor& d) {
  return runs_here(load_kind(d)) || load_kind(d) == Kind::kBackup;
}

uint32_t slot_of_thread(const Region& region, int tid) {
  for (uint32_t slot = 0; slot < region.slots(); ++slot) {
    if (region.at(slot).tid.load() == tid && belongs_here(region.at(slot))) return slot;
  }
  return region.slots();
}

uint32_t my_slot(const Region& region) {
  Self& caller = me();
  const uint32_t binds = event_prepare(region.header().bind_event);
  if (caller.known && caller.slot < region.slots()) {
    const Descriptor& d = region.at(caller.slot);
    const int owner = d.tid.load();
    // Since a bind, a thread that used its process's endpoint may have one of its own.
    const bool mine = owner == caller.tid || (owner == caller.pid && caller.binds == binds);
    if (mine && belongs_here(d)) return caller.slot;
  }
  uint32_t slot = slot_of_thread(region, caller.tid);
  if (slot == region.slots() && caller.tid != caller.pid) {
    slot = slot_of_thread(region, caller.pid);
  }
  caller.known = slot < region.slots();
  caller.slot = slot;
  caller.binds = binds;
  return slot;
}

int check_dc(int dcid) {
  const Region* region = my_region();
  if (region == nullptr) return EDVSDVSINIT;
  return dcid == region->header().dcid ? OK : EDVSBADDCID;
}

int check_call(int call, int dcid) {
  if (int rc = check_dc(dcid); rc != OK) return rc;
  const Region& region = *my_region();
  const uint32_t slot = my_slot(region);
  return slot == region.slots() || may_call(region.at(slot), call) ? OK : EDVSBADCALL;
}

int find_slot(int endpoint, uint32_t& slot) {
  slot = my_region()->slot_of(endpoint);
  return slot < my_region()->slots() ? OK : EDVSENDPOINT;
}

}  // namespace dvs::dvk
