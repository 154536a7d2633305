#include "mover/page_scan.h"

#include <errno.h>
#include <fcntl.h>

#include <string>
#include <vector>

namespace dvs::mover {

Result<UniqueFd> open_pagemap(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/pagemap";
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + path);
  return fd;
}

Status scan_pages(const UniqueFd& pagemap, const PageRanges& ranges, const ScanQuery& query,
                  const std::function<void(const kernel::ScannedRegion&)>& found) {
  if (ranges.empty()) return {};
  std::vector<kernel::ScannedRegion> regions(4096);
  for (const PageRange& range : ranges) {
    kernel::ScanArgument scan{};
    scan.size = sizeof scan;
    scan.flags = query.flags;
    scan.end = range.end;
    scan.vec = reinterpret_cast<uint64_t>(regions.data());
    scan.vec_len = regions.size();
    scan.category_inverted = query.inverted;
    scan.category_mask = query.all_of;
    scan.category_anyof_mask = query.any_of;
    scan.return_mask = query.report;
    for (uint64_t at = range.start; at < range.end; at = scan.walk_end) {
      scan.start = at;
      const int count = ::ioctl(pagemap.get(), kernel::kPagemapScan, &scan);
      if (count < 0 && errno == EINTR) {
        scan.walk_end = at;
        continue;
      }
      if (count < 0 && errno == ESRCH) return Error(Code::kNotFound, "the process has ended");
      if (count < 0) return errno_error("cannot scan the pages of a process");
      for (int i = 0; i < count; ++i) found(regions[static_cast<size_t>(i)]);
    }
  }
  return {};
}

}  // namespace dvs::mover
