// Which pages of another process's movable memory changed since the last look, while it runs.
//
// Two methods. Write-protect (Linux 6.7): the kernel removes a page's protection at the first write
// and goes on, some 1 microsecond per page and look; nothing of the process waits for us.
// Soft-dirty (CONFIG_MEM_SOFT_DIRTY): for older kernels.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "mover/injection.h"
#include "mover/page_range.h"

namespace dvs::mover {

enum class TrackMethod { kWriteProtect, kSoftDirty };

struct TrackSupport {
  bool write_protect = false;
  bool soft_dirty = false;
};
// What this kernel has, found out by trying it on ourselves. Microseconds.
TrackSupport probe_tracking();

struct Look {
  // The movable mappings, one range each.
  PageRanges mapped;
  // Their pages that hold something. All others read as zeros, and have been dropped by the process
  // if they were populated before.
  PageRanges populated;
  // The populated pages that may differ from what they were at the last look: those written, and
  // all of mappings that are new. At the first look all.
  PageRanges changed;
};

// Not for several threads at a time. Its end, by destruction, or by the death of our
// own process, leaves the tracked process as it was: no mapping registered, no page protected, no
// descriptor. Children the process forks are not tracked.
class Tracker {
 public:
  virtual ~Tracker() = default;

  // Blocks for some 10 ms per GB that was written, some 0.5 ms per GB that was not. The process may
  // map, unmap, fork and write meanwhile: what changes during a look is in this one or the next.
  // REQUIRES for kSoftDirty: the process is frozen; writes during the look would be missed.
  // kNotFound: it has ended or executes another program. kConflict: it uses userfaultfd itself.
  virtual Result<Look> look() = 0;

  // The same for a frozen process, and the last: protects and registers nothing, and asks for what
  // has changed since the last look() only: 1 ms per GB that has not. `changed` has what holds
  // something. The tracker may stay until the process has ended or goes on.
  virtual Result<Look> last_look() { return look(); }

  // How long attaching kept the process from running.
  virtual int64_t stopped_ns() const { return 0; }
};

// What is there now, without tracking; `changed` is all of it. REQUIRES: the process is stopped or
// frozen. Blocks for some 5 ms per GB. kNotFound: it has ended.
Result<Look> look_once(pid_t pid);

// Attaches to a running, stopped or frozen process. kUnsupported: this kernel does not have the
// method; else as inject_userfaultfd() in injection.h. (kWriteProtect cannot attach to a process
// in a frozen cgroup, v1.) Nothing is left behind after an Error.
Result<std::unique_ptr<Tracker>> track(pid_t pid, TrackMethod method,
                                       const Injector& injector = inject_userfaultfd);

}  // namespace dvs::mover
