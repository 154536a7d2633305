// The calls of dvk.h that tell something, and those of permission records: all are reads and
// writes of the region, no daemon is asked.
#include <sched.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "dvk/self.h"

namespace dvs::dvk {
namespace {

template <size_t N>
void copy_name(char (&to)[N], const char (&from)[N]) {
  std::memcpy(to, from, N);
  to[N - 1] = 0;
}

timespec to_timespec(int64_t ns) { return {ns / 1'000'000'000, ns % 1'000'000'000}; }

constexpr uint32_t kBitmapNodes = 64;
unsigned long node_bit(uint32_t node) { return node < kBitmapNodes ? 1UL << node : 0; }

dvk_cpumask_t cpus_of(int pid) {
  dvk_cpumask_t mask{};
  static_assert(sizeof mask == sizeof(cpu_set_t));
  cpu_set_t set;
  if (sched_getaffinity(pid, sizeof set, &set) == 0) std::memcpy(&mask, &set, sizeof mask);
  return mask;
}

int check_info(int dcid, const void* info) {
  if (my_region() == nullptr) return EDVSDVSINIT;
  if (dcid != -1 && dcid != my_region()->header().dcid) return EDVSBADDCID;
  return info == nullptr ? EDVSINVAL : OK;
}

// ---- descriptors ----

uint32_t peer_of(const Region& region, const Descriptor& d) {
  return load_tx(d).phase == TxPhase::kIdle ? region.slots() : region.slot_of(d.tx_peer.load());
}

bool waits_for_migration(const Region& region, const Descriptor& d) {
  const uint32_t peer = peer_of(region, d);
  return peer < region.slots() && is_migrating(region.at(peer));
}

bool is_carried(const Region& region, const Descriptor& d) {
  const uint32_t peer = peer_of(region, d);
  return runs_here(load_kind(d)) && peer < region.slots() &&
         is_elsewhere(load_kind(region.at(peer)));
}

unsigned long rts_flags(const Region& region, const Descriptor& d) {
  const TxPhase tx = load_tx(d).phase;
  const RxPhase rx = load_rx(d).phase;
  const bool receiving =
      rx == RxPhase::kWaiting || rx == RxPhase::kParked || rx == RxPhase::kFilling;
  unsigned long flags = 0;
  if (load_kind(d) == Kind::kFree) flags |= SLOT_FREE;
  if (is_elsewhere(load_kind(d))) flags |= REMOTE;
  if (is_migrating(d)) flags |= MIGRATE;
  if (tx == TxPhase::kPosted) flags |= SENDING;
  if (receiving) flags |= RECEIVING;
  if (d.touching[0].load() != 0) flags |= ONCOPY;
  if (is_carried(region, d)) flags |= RMTOPER;
  if (waits_for_migration(region, d)) flags |= WAITMIGR;
  return flags;
}

unsigned long misc_flags(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  unsigned long flags = 0;
  if (load_kind(d) == Kind::kBackup) flags |= MIS_RMTBACKUP;
  if (load_kind(d) == Kind::kReplica) flags |= MIS_REPLICATED;
  if ((d.flags.load() & kWokenUp) != 0) flags |= MIS_WOKENUP;
  if (d.pid.load() != 0 && d.pid.load() == d.tid.load()) flags |= MIS_GRPLEADER;
  if (region.notifies(slot).find(0) < region.slots()) flags |= MIS_NOTIFY;
  return flags;
}

int receives_from(const Region& region, const Descriptor& d) {
  const RxWord rx = load_rx(d);
  if (rx.phase == RxPhase::kIdle) return NONE;
  if (rx.filter == kAnySlot) return ANY;
  return rx.filter < region.slots() ? region.at(rx.filter).endpoint.load() : NONE;
}

void describe(const Region& region, uint32_t slot, proc_usr_t& info) {
  const Descriptor& d = region.at(slot);
  const bool here = belongs_here(d);
  info = proc_usr_t{};
  info.p_nr = region.number_of(slot);
  info.p_endpoint = d.endpoint.load();
  info.p_dcid = region.header().dcid;
  info.p_rts_flags = rts_flags(region, d);
  info.p_misc_flags = misc_flags(region, slot);
  info.p_vpid = info.p_lpid = here ? d.pid.load() : PROC_NO_PID;
  info.p_nodeid = static_cast<int>(d.node.load());
  info.p_nodemap = node_bit(d.node.load()) | (here ? node_bit(region.header().local_node) : 0);
  info.p_epoch = d.epoch.load();
  info.p_getfrom = receives_from(region, d);
  info.p_sendto = peer_of(region, d) < region.slots() ? d.tx_peer.load() : NONE;
  info.p_waitmigr = waits_for_migration(region, d) ? d.tx_peer.load() : NONE;
  info.p_waitunbind = NONE;
  info.p_proxy =
      is_carried(region, d) ? static_cast<int>(region.at(peer_of(region, d)).node.load()) : NONE;
  info.p_lclsent = d.local_sent.load();
  info.p_rmtsent = d.remote_sent.load();
  info.p_lclcopy = d.local_copied.load();
  info.p_rmtcopy = d.remote_copied.load();
  d.name.load(info.p_name);
  if (here) info.p_cpumask = cpus_of(d.tid.load());
}

// An endpoint whose descriptor is kept on this node. SELF is the caller's.
int find_local(int endpoint, uint32_t& slot) {
  const Region& region = *my_region();
  if (endpoint == SELF) {
    slot = my_slot(region);
    return slot < region.slots() ? OK : EDVSNOTBIND;
  }
  if (int rc = find_slot(endpoint, slot); rc != OK) return rc;
  const Kind kind = load_kind(region.at(slot));
  if (is_gone(kind)) return EDVSDSTDIED;
  if (!region.names(endpoint, slot)) return EDVSENDPOINT;
  return kind == Kind::kRemote ? EDVSRMTPROC : OK;
}

}  // namespace
}  // namespace dvs::dvk

using namespace dvs::dvk;  // NOLINT(google-build-using-namespace): this file is the bridge to C

int dvk_open(void) { return my_region() != nullptr ? OK : EDVSDVSINIT; }

int dvk_getdvsinfo(dvs_usr_t* info) {
  if (int rc = check_info(-1, info); rc != OK) return rc;
  const Region& region = *my_region();
  const RegionHeader& header = region.header();
  *info = dvs_usr_t{};
  std::memcpy(info->d_name, header.cluster, sizeof info->d_name - 1);
  info->d_nr_dcs = kDcIds;
  info->d_nr_nodes = kRegionNodes;
  info->d_nr_tasks = static_cast<int>(region.tasks());
  info->d_nr_procs = static_cast<int>(region.slots() - region.tasks());
  info->d_nr_sysprocs = static_cast<int>(region.sysprocs());
  info->d_max_copybuf = static_cast<int>(header.copy_chunk);
  info->d_max_copylen = static_cast<int>(header.max_copy_bytes);
  info->d_version = DVS_VERSION;
  info->d_flags = DVK_USERMODE | DVK_INITIALIZED;
  info->d_size_proc = sizeof(Descriptor);
  return static_cast<int>(header.local_node);
}

int dvk_getdcinfo(int dcid, dc_usr_t* info) {
  if (int rc = check_info(dcid, info); rc != OK) return rc;
  const Region& region = *my_region();
  const RegionHeader& header = region.header();
  *info = dc_usr_t{};
  info->dc_dcid = header.dcid;
  info->dc_flags = DC_RUNNING;
  info->dc_nr_tasks = static_cast<int>(region.tasks());
  info->dc_nr_procs = static_cast<int>(region.slots() - region.tasks());
  info->dc_nr_sysprocs = static_cast<int>(region.sysprocs());
  for (uint32_t node = 0; node < kRegionNodes; ++node) {
    if (header.nodes[node].state.load() == kNodeUnknown) continue;
    ++info->dc_nr_nodes;
    info->dc_nodes |= node_bit(node);
  }
  info->dc_warn2proc = header.warn_endpoint.load();
  info->dc_warnmsg = header.warn_type.load();
  info->dc_pid = 1;
  copy_name(info->dc_name, header.dc_name);
  info->dc_cpumask = cpus_of(0);
  return OK;
}

int dvk_getnodeinfo(int node, node_usr_t* info) {
  if (int rc = check_info(-1, info); rc != OK) return rc;
  const RegionHeader& header = my_region()->header();
  if (node < 0 || node >= static_cast<int>(kRegionNodes)) return EDVSBADNODEID;
  const NodeEntry& entry = header.nodes[node];
  const uint32_t state = entry.state.load();
  if (state == kNodeUnknown) return EDVSBADNODEID;
  *info = node_usr_t{};
  info->n_nodeid = info->n_proxies = node;
  info->n_flags = NODE_ATTACHED;
  if (state == kNodeUp) info->n_flags |= NODE_SCONNECTED | NODE_RCONNECTED;
  info->n_dcs = node_bit(static_cast<uint32_t>(header.dcid));
  info->n_stimestamp = to_timespec(entry.sent_at_ns.load());
  info->n_rtimestamp = to_timespec(entry.received_at_ns.load());
  info->n_pxsent = entry.sent.load();
  info->n_pxrcvd = entry.received.load();
  entry.name.load(info->n_name);
  return OK;
}

int dvk_getproxyinfo(int pxid, proc_usr_t* sender, proc_usr_t* receiver) {
  if (sender == nullptr || receiver == nullptr) return EDVSINVAL;
  node_usr_t node;
  if (int rc = dvk_getnodeinfo(pxid, &node); rc != OK) return rc;
  for (proc_usr_t* proxy : {sender, receiver}) {
    *proxy = proc_usr_t{};
    proxy->p_nr = proxy->p_nodeid = pxid;
    proxy->p_endpoint = proxy->p_getfrom = proxy->p_sendto = NONE;
    proxy->p_dcid = proxy->p_lpid = proxy->p_vpid = -1;
    proxy->p_waitmigr = proxy->p_waitunbind = proxy->p_proxy = NONE;
    proxy->p_misc_flags = MIS_PROXY;
    if ((node.n_flags & NODE_SCONNECTED) != 0) proxy->p_misc_flags |= MIS_CONNECTED;
    copy_name(proxy->p_name, node.n_name);
  }
  sender->p_rmtsent = node.n_pxsent;
  receiver->p_rmtsent = node.n_pxrcvd;
  return OK;
}

int dvk_getprocinfo(int dcid, int p_nr, proc_usr_t* info) {
  if (int rc = check_info(dcid, info); rc != OK) return rc;
  uint32_t slot = 0;
  if (int rc = find_slot(p_nr, slot); rc != OK) return rc;
  describe(*my_region(), slot, *info);
  return OK;
}

int dvk_getep(int pid) {
  const Region* region = my_region();
  if (region == nullptr) return EDVSDVSINIT;
  const uint32_t slot = slot_of_thread(*region, pid);
  return slot == region->slots() ? EDVSNOTBIND : region->at(slot).endpoint.load();
}

int dvk_proc_dump(int dcid) {
  if (int rc = check_dc(dcid); rc != OK) return rc;
  const Region& region = *my_region();
  std::fprintf(stderr, "%5s %10s %8s %4s %6s %6s %8s %s\n", "nr", "endpoint", "pid", "node", "rts",
               "misc", "epoch", "name");
  for (uint32_t slot = 0; slot < region.slots(); ++slot) {
    if (load_kind(region.at(slot)) == Kind::kFree) continue;
    proc_usr_t p;
    describe(region, slot, p);
    std::fprintf(stderr, "%5d %10d %8d %4d %6lx %6lx %8u %s\n", p.p_nr, p.p_endpoint, p.p_vpid,
                 p.p_nodeid, p.p_rts_flags, p.p_misc_flags, p.p_epoch, p.p_name);
  }
  return OK;
}

int dvk_dc_dump(void) {
  dc_usr_t dc;
  if (int rc = dvk_getdcinfo(-1, &dc); rc != OK) return rc;
  std::fprintf(stderr, "dcid %d name %s procs %d tasks %d sysprocs %d nodes %d (%lx) warn %d %d\n",
               dc.dc_dcid, dc.dc_name, dc.dc_nr_procs, dc.dc_nr_tasks, dc.dc_nr_sysprocs,
               dc.dc_nr_nodes, dc.dc_nodes, dc.dc_warn2proc, dc.dc_warnmsg);
  return OK;
}

int dvk_getpriv(int dcid, int ep, priv_usr_t* priv) {
  if (priv == nullptr) return EDVSINVAL;
  if (int rc = check_call(DVK_GETPRIV, dcid); rc != OK) return rc;
  uint32_t slot = 0;
  if (int rc = find_local(ep, slot); rc != OK) return rc;
  to_record(permissions_of(my_region()->at(slot)), slot, *priv);
  return OK;
}

int dvk_setpriv(int dcid, int ep, const priv_usr_t* priv) {
  if (priv == nullptr) return EDVSINVAL;
  if (int rc = check_call(DVK_SETPRIV, dcid); rc != OK) return rc;
  uint32_t slot = 0;
  if (int rc = find_local(ep, slot); rc != OK) return rc;
  Descriptor& d = my_region()->at(slot);
  set_permissions(d, from_record(*priv));
  // If it has begun to move meanwhile, what goes with it may be the old record.
  return is_migrating(d) || !belongs_here(d) ? EDVSMIGRATE : OK;
}
