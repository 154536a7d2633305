// The calls of dvk.h that do something: each finds the region and the caller's endpoint, then
// leaves the work to dvk/caller.h and dvk/control.h. What only tells something is in api_info.cc.
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "dvk/control.h"
#include "dvk/self.h"

namespace dvs::dvk {
namespace {

constexpr int64_t kControlMs = 30'000;
constexpr int64_t kNapMs = 100;

// REQUIRES: in a DC.
int ask_dvsd(const ControlRequest& request, int64_t limit_ms = kControlMs) {
  uint32_t slot = 0;
  if (int rc = find_slot(request.endpoint, slot); rc != OK) return rc;
  return control_call(*my_region(), my_tid(), request, Deadline::after_ms(limit_ms));
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

}  // namespace
}  // namespace dvs::dvk

using namespace dvs::dvk;  // NOLINT(google-build-using-namespace): this file is the bridge to C

int dvk_gettid(void) { return my_tid(); }

int dvk_bind_named(int kind, int dcid, int pid, int ep, int node, const char* name) {
  if (kind < SELF_BIND || kind > USERMODE_BIND) return EDVSBINDTYPE;
  if (name != nullptr && std::strlen(name) >= MAXPROCNAME) return EDVSNAMESIZE;
  if (int rc = check_call(DVK_BIND, dcid); rc != OK) return rc;
  if (kind == USERMODE_BIND) kind = LCL_BIND;
  // The process is meant by its main thread; dvk_tbind gives the thread's own id.
  if (pid == PROC_NO_PID && kind != RMT_BIND) pid = getpid();
  return ask_dvsd({ControlOp::kBind, kind, pid, ep, node, name});
}

int dvk_unbind_T(int dcid, int ep, long timeout_ms) {
  if (int rc = check_call(DVK_UNBIND, dcid); rc != OK) return rc;
  if (ep == SELF) {
    const uint32_t slot = my_slot(*my_region());
    if (slot == my_region()->slots()) return EDVSNOTBIND;
    ep = my_region()->at(slot).endpoint.load();
  }
  return ask_dvsd({ControlOp::kUnbind, 0, 0, ep, 0, nullptr},
                  timeout_ms < 0 ? kControlMs : timeout_ms);
}

int dvk_wait4bindep_X(int what, int ep, long timeout_ms) {
  const Region* mapped = my_region();
  if (mapped == nullptr) return EDVSDVSINIT;
  if (what != WAIT_BIND && what != WAIT_UNBIND) return EDVSINVAL;
  uint32_t slot = mapped->slots();
  if (ep != SELF) {
    if (int rc = find_slot(ep, slot); rc != OK) return rc;
  }
  return wait_for_bind(*mapped, what == WAIT_BIND, slot, deadline_of(timeout_ms));
}

int dvk_send_T(int dst, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(DVK_SEND, Uses::kSends, timeout_ms, [&](Caller& caller, Deadline deadline) {
    return caller.send(dst, *m, deadline);
  });
}

int dvk_receive_T(int src, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(DVK_RECEIVE, Uses::kReceives, timeout_ms,
                     [&](Caller& caller, Deadline deadline) {
                       return caller.receive(src, *m, deadline, RxMode::kAny);
                     });
}

int dvk_sendrec_T(int ep, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(
      DVK_SENDREC, Uses::kReceives, timeout_ms,
      [&](Caller& caller, Deadline deadline) { return caller.sendrec(ep, *m, deadline); });
}

int dvk_rcvrqst_T(message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(DVK_RCVRQST, Uses::kReceives, timeout_ms,
                     [&](Caller& caller, Deadline deadline) {
                       return caller.receive(ANY, *m, deadline, RxMode::kRequest);
                     });
}

int dvk_reply_T(int dst, message* m, long timeout_ms) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(DVK_REPLY, Uses::kSends, timeout_ms, [&](Caller& caller, Deadline deadline) {
    return caller.reply(dst, *m, deadline);
  });
}

int dvk_relay(int dst, message* m) {
  if (m == nullptr) return EDVSINVAL;
  return with_caller(
      DVK_RELAY, Uses::kSends, TIMEOUT_FOREVER,
      [&](Caller& caller, Deadline deadline) { return caller.relay(dst, *m, deadline); });
}

int dvk_notify_value_T(int src_nr, int dst, long value, long timeout_ms) {
  return with_caller(DVK_NOTIFY, Uses::kSends, timeout_ms, [&](Caller& caller, Deadline deadline) {
    return caller.notify(src_nr, dst, value, deadline);
  });
}

int dvk_hdw_notify(int dcid, int dst) {
  if (int rc = check_call(DVK_NOTIFY, dcid); rc != OK) return rc;
  return ask_dvsd({ControlOp::kHardwareNotify, 0, 0, dst, 0, nullptr});
}

int dvk_vcopy_T(int src_ep, const void* src, int dst_ep, void* dst, size_t bytes, long timeout_ms) {
  return with_caller(DVK_VCOPY, Uses::kSends, timeout_ms, [&](Caller& caller, Deadline deadline) {
    return caller.vcopy(src_ep, src, dst_ep, dst, bytes, deadline);
  });
}

int dvk_wakeup(int dcid, int ep) {
  if (int rc = check_call(DVK_WAKEUPEP, dcid); rc != OK) return rc;
  const Region& region = *my_region();
  uint32_t slot = my_slot(region);
  if (ep == SELF && slot == region.slots()) return EDVSNOTBIND;
  if (ep != SELF) {
    if (int rc = find_slot(ep, slot); rc != OK) return rc;
    if (is_gone(load_kind(region.at(slot)))) return EDVSDSTDIED;
    if (!region.names(ep, slot)) return EDVSENDPOINT;
  }
  return wake_up(region, slot);
}

int dvk_migrate_X(int op, int pid, int dcid, int ep, int new_node) {
  if (op < MIGR_START || op > MIGR_ROLLBACK) return EDVSNOSYS;
  if (int rc = check_call(DVK_MIGRATE, dcid); rc != OK) return rc;
  return ask_dvsd({ControlOp::kMigrate, op, pid, ep, new_node, nullptr});
}
