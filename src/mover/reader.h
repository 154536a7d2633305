// Reads the memory of another process, which may run, be stopped or be frozen; it notices nothing.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mover/page_range.h"

namespace dvs::mover {

class Reader {
 public:
  // kNotFound: no such process. kDenied: CAP_SYS_PTRACE over it is needed.
  static Result<Reader> open(pid_t pid);

  // Reads `ranges`, one after the other without gaps, to `out`, which has room for
  // total_size(ranges). Also reads what the process itself may not (PROT_NONE). Returns the pages
  // that are not there any more; in `out` these are zeros. Pages that are written meanwhile may be
  // half old, half new: the tracker tells of them at the next look. Blocks for no longer than
  // copying (about 0.25 s per GB) and, where the system swaps, fetching takes.
  // kNotFound: the process has ended or executes another program; what was read is of no use.
  Result<PageRanges> read(const PageRanges& ranges, char* out) const;

 private:
  Reader(pid_t pid, UniqueFd mem) : pid_(pid), mem_(std::move(mem)) {}

  Result<size_t> copy(const PageRanges& pieces, size_t first, size_t count, char* out) const;
  size_t force(PageRange range, char* out) const;
  Status check_alive() const;

  pid_t pid_;
  UniqueFd mem_;  // /proc/PID/mem, of the memory the process had when it was opened
};

}  // namespace dvs::mover
