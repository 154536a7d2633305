// The C API of dvk.h: finds the region and the caller's endpoint, then leaves the work to
// dvk/caller.h and dvk/control.h.
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <mutex>

#include "dvk/caller.h"
#include "dvk/control.h"
#include "dvk/dvk.h"

namespace dvs::dvk {
namespace {

constexpr int64_t kControlMs = 30'000;
constexpr int64_t kNapMs = 100;

// The calling thread's endpoint as last found. Checked against the descriptor at every use.
struct Self {
  int tid = 0;
  uint32_t slot = 0;
  bool known = false;
};
thread_local Self self;

void forget_self() { self = Self{}; }

// The mapping lives as long as the process: threads may be in a call when it exits.
const Region* region() {
  static const Region* mapped = []() -> const Region* {
    const char* path = std::getenv("DVK_REGION");
    auto opened = Region::open(path != nullptr ? path : kRegionPath);
    if (!opened.ok()) return nullptr;
    pthread_atfork(nullptr, nullptr, forget_self);
    return new Region(std::move(*opened));
  }();
  return mapped;
}

int my_tid() {
  if (self.tid == 0) self.tid = static_cast<int>(syscall(SYS_gettid));
  return self.tid;
}

bool belongs_here(const Descriptor& d) {
  return runs_here(load_kind(d)) || load_kind(d) == Kind::kBackup;
}

// The slot bound to a thread; slots() when there is none.
uint32_t slot_of_thread(const Region& region, int tid) {
  for (uint32_t slot = 0; slot < region.slots(); ++slot) {
    if (region.at(slot).tid.load() == tid && belongs_here(region.at(slot))) return slot;
  }
  return region.slots();
}

// The calling thread's slot, or its main thread's.
uint32_t my_slot(const Region& region) {
  const int tid = my_tid();
  if (self.known && self.slot < region.slots()) {
    const Descriptor& d = region.at(self.slot);
    const int owner = d.tid.load();
    if (belongs_here(d) && (owner == tid || owner == getpid())) return self.slot;
  }
  uint32_t slot = slot_of_thread(region, tid);
  if (slot == region.slots() && tid != getpid()) slot = slot_of_thread(region, getpid());
  self.known = slot < region.slots();
  self.slot = slot;
  return slot;
}

Deadline deadline_of(long timeout_ms) {
  return timeout_ms == TIMEOUT_NOWAIT ? Deadline::at_ns(0) : Deadline::after_ms(timeout_ms);
}

// Runs `call` with the caller's endpoint.
template <typename Call>
int with_caller(Call call) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  const uint32_t slot = my_slot(*mapped);
  if (slot == mapped->slots()) return EDVSNOTBIND;
  Caller caller(*mapped, slot, static_cast<uint32_t>(my_tid()));
  if (caller.status() != OK) return caller.status();
  return call(caller);
}

int check_dc(const Region* mapped, int dcid) {
  if (mapped == nullptr) return EDVSDVSINIT;
  return dcid == mapped->header().dcid ? OK : EDVSBADDCID;
}

int ask_dvsd(int dcid, ControlRequest request) {
  if (int rc = check_dc(region(), dcid); rc != OK) return rc;
  if (region()->slot_of(request.endpoint) == region()->slots()) return EDVSENDPOINT;
  return control_call(*region(), my_tid(), request, Deadline::after_ms(kControlMs));
}

int wait_for_bind(const Region& mapped, bool bound, uint32_t slot, Deadline deadline) {
  RegionHeader& header = mapped.header();
  const bool for_self = slot == mapped.slots();
  for (;;) {
    const uint32_t prepared = event_prepare(header.bind_event);
    const uint32_t found = for_self ? my_slot(mapped) : slot;
    const bool is_bound = found < mapped.slots() && load_kind(mapped.at(found)) != Kind::kFree;
    if (is_bound == bound) return bound ? mapped.at(found).endpoint.load() : OK;
    if (deadline.when_ns() == 0) return EDVSAGAIN;
    // Not for long at a time: after a migration it is another region's event.
    event_sleep(header.bind_event, prepared,
                Deadline::earlier(deadline, Deadline::after_ms(kNapMs)));
    if (deadline.passed()) return EDVSTIMEDOUT;
  }
}

template <size_t N>
void copy_name(char (&to)[N], const char (&from)[N]) {
  std::memcpy(to, from, N);
  to[N - 1] = 0;
}

timespec to_timespec(int64_t ns) { return {ns / 1'000'000'000, ns % 1'000'000'000}; }

unsigned long rts_flags(const Descriptor& d) {
  unsigned long flags = 0;
  if (load_kind(d) == Kind::kFree) flags |= SLOT_FREE;
  if (is_elsewhere(load_kind(d))) flags |= REMOTE;
  if (is_migrating(d)) flags |= MIGRATE;
  if (load_tx(d).phase == TxPhase::kPosted) flags |= SENDING;
  const RxPhase rx = load_rx(d).phase;
  if (rx == RxPhase::kWaiting || rx == RxPhase::kParked || rx == RxPhase::kFilling)
    flags |= RECEIVING;
  if (d.touching[0].load() != 0) flags |= ONCOPY;
  return flags;
}

unsigned long misc_flags(const Descriptor& d) {
  unsigned long flags = 0;
  if (load_kind(d) == Kind::kBackup) flags |= MIS_RMTBACKUP;
  if (load_kind(d) == Kind::kReplica) flags |= MIS_REPLICATED;
  if ((d.flags.load() & kWokenUp) != 0) flags |= MIS_WOKENUP;
  return flags;
}

void describe(const Region& mapped, uint32_t slot, proc_usr_t& info) {
  const Descriptor& d = mapped.at(slot);
  info = proc_usr_t{};
  info.p_nr = mapped.number_of(slot);
  info.p_endpoint = d.endpoint.load();
  info.p_dcid = mapped.header().dcid;
  info.p_rts_flags = rts_flags(d);
  info.p_misc_flags = misc_flags(d);
  info.p_vpid = info.p_lpid = belongs_here(d) ? d.pid.load() : PROC_NO_PID;
  info.p_nodeid = static_cast<int>(d.node.load());
  info.p_epoch = d.epoch.load();
  const RxWord rx = load_rx(d);
  info.p_getfrom = rx.phase == RxPhase::kIdle ? NONE
                   : rx.filter == kAnySlot    ? ANY
                                              : mapped.number_of(rx.filter);
  info.p_sendto = load_tx(d).phase == TxPhase::kIdle ? NONE : d.tx_peer.load();
  info.p_lclsent = d.local_sent.load();
  info.p_rmtsent = d.remote_sent.load();
  info.p_lclcopy = d.local_copied.load();
  info.p_rmtcopy = d.remote_copied.load();
  d.name.load(info.p_name);
}

}  // namespace
}  // namespace dvs::dvk

using namespace dvs::dvk;  // NOLINT(google-build-using-namespace): this file is the bridge to C

int dvk_gettid(void) { return static_cast<int>(syscall(SYS_gettid)); }

int dvk_bind_X(int kind, int dcid, int pid, int ep, int node, const char* name) {
  if (kind < SELF_BIND || kind > REPLICA_BIND) return EDVSBINDTYPE;
  // The process is meant by its main thread; dvk_tbind gives the thread's own id.
  if (pid == PROC_NO_PID && kind != RMT_BIND) pid = getpid();
  if (name != nullptr && std::strlen(name) >= MAXPROCNAME) return EDVSNAMESIZE;
  return ask_dvsd(dcid, {ControlOp::kBind, kind, pid, ep, node, name});
}

int dvk_unbind_T(int dcid, int ep, long timeout_ms) {
  if (int rc = check_dc(region(), dcid); rc != OK) return rc;
  if (ep == SELF) {
    const uint32_t slot = my_slot(*region());
    if (slot == region()->slots()) return EDVSNOTBIND;
    ep = region()->at(slot).endpoint.load();
  }
  if (region()->slot_of(ep) == region()->slots()) return EDVSENDPOINT;
  const int64_t limit = timeout_ms < 0 ? kControlMs : timeout_ms;
  return control_call(*region(), my_tid(), {ControlOp::kUnbind, 0, 0, ep, 0, nullptr},
                      Deadline::after_ms(limit));
}

int dvk_wait4bindep_X(int what, int ep, long timeout_ms) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  if (what != WAIT_BIND && what != WAIT_UNBIND) return EDVSINVAL;
  uint32_t slot = mapped->slots();
  if (ep != SELF) {
    slot = mapped->slot_of(ep);
    if (slot == mapped->slots()) return EDVSENDPOINT;
  }
  return wait_for_bind(*mapped, what == WAIT_BIND, slot, deadline_of(timeout_ms));
}

int dvk_send_T(int dst, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller([&](Caller& caller) { return caller.send(dst, *m, deadline_of(timeout_ms)); });
}

int dvk_receive_T(int src, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller([&](Caller& caller) {
    return caller.receive(src, *m, deadline_of(timeout_ms), RxMode::kAny);
  });
}

int dvk_sendrec_T(int ep, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(
      [&](Caller& caller) { return caller.sendrec(ep, *m, deadline_of(timeout_ms)); });
}

int dvk_rcvrqst_T(message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller([&](Caller& caller) {
    return caller.receive(ANY, *m, deadline_of(timeout_ms), RxMode::kRequest);
  });
}

int dvk_reply_T(int dst, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(
      [&](Caller& caller) { return caller.reply(dst, *m, deadline_of(timeout_ms)); });
}

int dvk_notify_X(int src_nr, int dst, long value, long timeout_ms) {
  return with_caller(
      [&](Caller& caller) { return caller.notify(src_nr, dst, value, deadline_of(timeout_ms)); });
}

int dvk_vcopy_T(int src_ep, const void* src, int dst_ep, void* dst, size_t bytes, long timeout_ms) {
  return with_caller([&](Caller& caller) {
    return caller.vcopy(src_ep, src, dst_ep, dst, bytes, deadline_of(timeout_ms));
  });
}

int dvk_wakeup(int dcid, int ep) {
  if (int rc = check_dc(region(), dcid); rc != OK) return rc;
  const uint32_t slot = region()->slot_of(ep);
  if (slot == region()->slots()) return EDVSENDPOINT;
  Descriptor& d = region()->at(slot);
  if (load_kind(d) == Kind::kFree) return EDVSDSTDIED;
  if (is_elsewhere(load_kind(d))) return EDVSRMTPROC;
  if (is_migrating(d)) return EDVSMIGRATE;
  d.flags.fetch_or(kWokenUp);
  event_signal(d.event);
  return OK;
}

int dvk_migrate_X(int op, int pid, int dcid, int ep, int new_node) {
  if (op < MIGR_START || op > MIGR_ROLLBACK) return EDVSNOSYS;
  return ask_dvsd(dcid, {ControlOp::kMigrate, op, pid, ep, new_node, nullptr});
}

int dvk_getdvsinfo(dvs_usr_t* info) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  if (info == nullptr) return EDVSINVAL;
  const RegionHeader& header = mapped->header();
  *info = dvs_usr_t{};
  std::memcpy(info->d_name, header.cluster, sizeof info->d_name - 1);
  info->d_nr_nodes = kRegionNodes;
  info->d_nr_tasks = static_cast<int>(mapped->tasks());
  info->d_nr_procs = static_cast<int>(mapped->slots() - mapped->tasks());
  info->d_nr_sysprocs = static_cast<int>(mapped->sysprocs());
  info->d_max_copybuf = static_cast<int>(header.copy_chunk);
  info->d_max_copylen = static_cast<int>(header.max_copy_bytes);
  info->d_version = DVS_VERSION;
  info->d_size_proc = sizeof(Descriptor);
  return static_cast<int>(header.local_node);
}

int dvk_getdcinfo(int dcid, dc_usr_t* info) {
  const Region* mapped = region();
  if (dcid != -1) {
    if (int rc = check_dc(mapped, dcid); rc != OK) return rc;
  }
  if (mapped == nullptr) return EDVSDVSINIT;
  if (info == nullptr) return EDVSINVAL;
  const RegionHeader& header = mapped->header();
  *info = dc_usr_t{};
  info->dc_dcid = header.dcid;
  info->dc_nr_tasks = static_cast<int>(mapped->tasks());
  info->dc_nr_procs = static_cast<int>(mapped->slots() - mapped->tasks());
  info->dc_nr_sysprocs = static_cast<int>(mapped->sysprocs());
  for (const NodeEntry& node : header.nodes) info->dc_nr_nodes += node.state.load() != 0 ? 1 : 0;
  copy_name(info->dc_name, header.dc_name);
  return OK;
}

int dvk_getnodeinfo(int node, node_usr_t* info) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  if (info == nullptr) return EDVSINVAL;
  if (node < 0 || node >= static_cast<int>(kRegionNodes)) return EDVSBADNODEID;
  const NodeEntry& entry = mapped->header().nodes[node];
  const uint32_t state = entry.state.load();
  if (state == 0) return EDVSBADNODEID;
  *info = node_usr_t{};
  info->n_nodeid = node;
  info->n_flags = NODE_ATTACHED;
  if (state == 2) info->n_flags |= NODE_SCONNECTED | NODE_RCONNECTED;
  info->n_stimestamp = to_timespec(entry.sent_at_ns.load());
  info->n_rtimestamp = to_timespec(entry.received_at_ns.load());
  info->n_pxsent = entry.sent.load();
  info->n_pxrcvd = entry.received.load();
  copy_name(info->n_name, entry.name);
  return OK;
}

int dvk_getproxyinfo(int node, node_usr_t* sender, node_usr_t* receiver) {
  if (sender == nullptr || receiver == nullptr) return EDVSINVAL;
  if (int rc = dvk_getnodeinfo(node, sender); rc != OK) return rc;
  *receiver = *sender;
  return OK;
}

int dvk_getprocinfo(int dcid, int p_nr, proc_usr_t* info) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  if (dcid != -1 && dcid != mapped->header().dcid) return EDVSBADDCID;
  if (info == nullptr) return EDVSINVAL;
  const uint32_t slot = mapped->slot_of(p_nr);
  if (slot == mapped->slots()) return EDVSENDPOINT;
  describe(*mapped, slot, *info);
  return OK;
}

int dvk_getep(int pid) {
  const Region* mapped = region();
  if (mapped == nullptr) return EDVSDVSINIT;
  const uint32_t slot = slot_of_thread(*mapped, pid);
  return slot == mapped->slots() ? EDVSNOTBIND : mapped->at(slot).endpoint.load();
}
