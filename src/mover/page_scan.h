// What is in the pages of another process, as the kernel tells it (PAGEMAP_SCAN).
#pragma once

#include <sys/types.h>

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mover/kernel.h"
#include "mover/page_range.h"

namespace dvs::mover {

// /proc/PID/pagemap. It stays with the memory the process has now: after an exec it knows nothing.
Result<UniqueFd> open_pagemap(pid_t pid);

struct ScanQuery {
  uint64_t flags = 0;
  uint64_t inverted = 0;  // these categories are negated before they are compared
  uint64_t all_of = 0;
  uint64_t any_of = 0;
  uint64_t report = 0;  // the categories told of what was found
};
// Calls `found` for each region of equal categories in `ranges`, ascending. Does not stop the
// process, but holds its mmap lock for some microseconds at a time. kNotFound: it has ended or
// executes another program.
Status scan_pages(const UniqueFd& pagemap, const PageRanges& ranges, const ScanQuery& query,
                  const std::function<void(const kernel::ScannedRegion&)>& found);

}  // namespace dvs::mover
