#include "mover/page_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include <algorithm>
#include <string>
#include <vector>

namespace dvs::mover {

Result<UniqueFd> open_pagemap(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + path);
  return fd;
}

namespace {

// An interrupted scan has protected pages and does not tell which.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsHeld() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

// The kernel's own word where it stopped (walk_end) is wrong when it was done after more than 512
// regions: then it is where its buffer was full before. A scan that was cut short has filled
// `regions`.
Status scan_pages(const UniqueFd& pagemap, const PageRanges& ranges, const ScanQuery& query,
                  const std::function<void(const kernel::ScannedRegion&)>& found) {
  if (ranges.empty()) return {};
  const SignalsHeld held;
  std::vector<kernel::ScannedRegion> regions(4096);
  for (const PageRange& range : ranges) {
    kernel::ScanArgument scan{};
    scan.size = sizeof scan;
    scan.flags = query.flags;
    scan.start = range.start;
    scan.end = range.end;
    scan.vec = reinterpret_cast<uint64_t>(regions.data());
    scan.vec_len = regions.size();
    scan.category_inverted = query.inverted;
    scan.category_mask = query.all_of;
    scan.category_anyof_mask = query.any_of;
    scan.return_mask = query.report;
    while (scan.start < range.end) {
      const int count = ::ioctl(pagemap.get(), kernel::kPagemapScan, &scan);
      if (count < 0 && errno == ESRCH) return Error(Code::kNotFound, "the process has ended");
      if (count < 0) return errno_error("cannot scan the pages of a process");
      const auto found_end = regions.begin() + count;
      std::for_each(regions.begin(), found_end, found);
      scan.start = found_end == regions.end() ? regions.back().end : range.end;
    }
  }
  return {};
}

}  // namespace dvs::mover
