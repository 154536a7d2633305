// Tracking by the soft-dirty bits of /proc/PID/pagemap, for kernels without PAGEMAP_SCAN.
#pragma once

#include <memory>

#include "mover/tracker.h"

namespace dvs::mover {

bool has_soft_dirty();  // tried on ourselves
Result<std::unique_ptr<Tracker>> track_by_soft_dirty(pid_t pid);

// Adds what an array of pagemap's entries, the first for the page at `start`, says to `look`.
void take_entries(const uint64_t* entries, size_t count, uint64_t start, Look& look);

}  // namespace dvs::mover
