#include "mover/tracker.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "mover/injection.h"
#include "mover/kernel.h"
#include "mover/memory_map.h"
#include "mover/page_scan.h"
#include "mover/soft_dirty.h"

namespace dvs::mover {
namespace {

constexpr uint64_t kPopulated = kernel::kPagePresent | kernel::kPageSwapped;
constexpr uint64_t kEmpty = kernel::kPageZero | kernel::kPageGuard;
constexpr uint64_t kTableSpan = 2 << 20;  // of addresses below one page table

Status enable(const UniqueFd& uffd) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kernel::kFeatureWpAsync | kernel::kFeatureWpUnpopulated;
  if (::ioctl(uffd.get(), UFFDIO_API, &api) == 0) return {};
  return Error(Code::kUnsupported, "this kernel does not protect pages asynchronously (Linux 6.7)");
}

class WriteProtectTracker final : public Tracker {
 public:
  WriteProtectTracker(pid_t pid, InjectedFd injected, UniqueFd pagemap)
      : pid_(pid),
        uffd_(std::move(injected.fd)),
        stopped_ns_(injected.stopped_ns),
        pagemap_(std::move(pagemap)) {}

  Result<Look> look() override;
  Result<Look> last_look() override;
  int64_t stopped_ns() const override { return stopped_ns_; }

 private:
  Result<bool> register_range(PageRange range);
  Result<bool> register_all(const PageRanges& mapped);
  Result<PageRanges> unregistered_pages(const PageRanges& mapped);
  Result<PageRanges> unprotected_pages(const PageRanges& mapped);
  Result<PageRanges> pages_without_table(const PageRanges& pages);

  const pid_t pid_;
  const UniqueFd uffd_;
  const int64_t stopped_ns_;
  const UniqueFd pagemap_;
  PageRanges populated_;  // at the last look
};

// Registering what is registered already changes nothing. False: it was unmapped meanwhile, or
// replaced by something that cannot be registered.
Result<bool> WriteProtectTracker::register_range(PageRange range) {
  uffdio_register ask{};
  ask.range = {range.start, range.size()};
  ask.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(uffd_.get(), UFFDIO_REGISTER, &ask) == 0) return true;
  if (errno == EINVAL || errno == ENOMEM || errno == EPERM) return false;
  const std::string process = "process " + std::to_string(pid_);
  if (errno == ESRCH) return Error(Code::kNotFound, process + " has ended");
  if (errno == EBUSY) return Error(Code::kConflict, process + " uses userfaultfd itself");
  return errno_error("cannot watch the memory of " + process);
}

Result<bool> WriteProtectTracker::register_all(const PageRanges& mapped) {
  bool all = true;
  for (const PageRange& range : mapped) {
    DVS_ASSIGN(const bool registered, register_range(range));
    all &= registered;
  }
  return all;
}

Result<PageRanges> WriteProtectTracker::unregistered_pages(const PageRanges& mapped) {
  ScanQuery query;
  query.inverted = kernel::kPageWpAllowed | kEmpty;
  query.all_of = query.inverted;
  query.any_of = kPopulated;
  PageRanges pages;
  DVS_TRY(scan_pages(pagemap_, mapped, query, [&](const kernel::ScannedRegion& region) {
    append(pages, {region.start, region.end});
  }));
  return pages;
}

// What was mapped since the last look is not registered, and the kernel tells that page by page;
// that it lies where something else was, or was moved there with protected pages (mremap, before
// Linux 6.13), makes no difference.
Result<Look> WriteProtectTracker::look() {
  DVS_ASSIGN(const MemoryMap map, read_memory_map(pid_, MapDetail::kMaps));
  Look result;
  result.mapped = movable(map);
  DVS_ASSIGN(PageRanges fresh, unregistered_pages(result.mapped));
  DVS_ASSIGN(const bool all_registered, register_all(result.mapped));
  ScanQuery query;
  query.flags = kernel::kScanWriteProtect;
  query.inverted = kEmpty;
  query.all_of = kEmpty;
  query.any_of = kPopulated;
  query.report = kernel::kPageWritten;
  PageRanges written;
  DVS_TRY(scan_pages(pagemap_, result.mapped, query, [&](const kernel::ScannedRegion& region) {
    append(result.populated, {region.start, region.end});
    if (region.categories != 0) append(written, {region.start, region.end});
  }));
  if (!all_registered) {
    // That scan has passed over them; the next look finds them unregistered again.
    DVS_ASSIGN(const PageRanges missed, unregistered_pages(result.mapped));
    result.populated = unite(result.populated, missed);
    fresh = unite(fresh, missed);
  }
  // The pages of a process that has ended are just not there; this tells.
  if (!result.mapped.empty()) DVS_TRY(register_range(result.mapped.front()));
  result.changed =
      fresh.empty() ? std::move(written) : intersect(unite(written, fresh), result.populated);
  populated_ = result.populated;
  return result;
}

// Pages that are protected still hold what they held at the last look. The kernel passes over those
// quickly (0.5 ms per GB, a tenth of what it takes to tell whether a page holds something) and
// tells of all others for which there is a page table.
Result<PageRanges> WriteProtectTracker::unprotected_pages(const PageRanges& mapped) {
  ScanQuery query;
  query.all_of = kernel::kPageWritten;
  query.report = kernel::kPageWritten;
  PageRanges pages;
  DVS_TRY(scan_pages(pagemap_, mapped, query, [&](const kernel::ScannedRegion& region) {
    append(pages, {region.start, region.end});
  }));
  return pages;
}

// Of `pages`, which held something: those below page tables that are no more. One page tells for
// all of a table.
Result<PageRanges> WriteProtectTracker::pages_without_table(const PageRanges& pages) {
  PageRanges lost;
  for (const PageRange& range : pages) {
    for (uint64_t at = range.start; at < range.end;) {
      const uint64_t end = std::min(range.end, (at / kTableSpan + 1) * kTableSpan);
      uint64_t entry = 0;
      const auto offset = static_cast<off_t>(at / kPageSize * sizeof entry);
      if (::pread(pagemap_.get(), &entry, sizeof entry, offset) != sizeof entry) {
        return Error(Code::kNotFound, "process " + std::to_string(pid_) + " has ended");
      }
      const bool holds = (entry & (kernel::kEntryPresent | kernel::kEntrySwapped)) != 0;
      if (!holds) append(lost, {at, end});
      at = end;
    }
  }
  return lost;
}

Result<Look> WriteProtectTracker::last_look() {
  DVS_ASSIGN(const MemoryMap map, read_memory_map(pid_, MapDetail::kMaps));
  Look result;
  result.mapped = movable(map);
  DVS_ASSIGN(PageRanges doubtful, unprotected_pages(result.mapped));
  const PageRanges held = intersect(populated_, result.mapped);
  DVS_ASSIGN(const PageRanges lost, pages_without_table(subtract(held, doubtful)));
  doubtful = unite(doubtful, lost);
  ScanQuery query;
  query.inverted = kEmpty;
  query.all_of = kEmpty;
  query.any_of = kPopulated;
  DVS_TRY(scan_pages(pagemap_, intersect(doubtful, result.mapped), query,
                     [&](const kernel::ScannedRegion& region) {
                       append(result.changed, {region.start, region.end});
                     }));
  result.populated = unite(subtract(held, doubtful), result.changed);
  return result;
}

Result<std::unique_ptr<Tracker>> track_by_write_protect(pid_t pid, const Injector& injector) {
  if (!probe_tracking().write_protect) {
    return Error(Code::kUnsupported, "this kernel cannot track writes by PAGEMAP_SCAN (Linux 6.7)");
  }
  DVS_ASSIGN(InjectedFd injected, injector(pid));
  DVS_TRY(enable(injected.fd));
  DVS_ASSIGN(UniqueFd pagemap, open_pagemap(pid));
  return std::unique_ptr<Tracker>(
      std::make_unique<WriteProtectTracker>(pid, std::move(injected), std::move(pagemap)));
}

bool has_write_protect() {
  constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | kernel::kUserModeOnly;
  const UniqueFd uffd(static_cast<int>(::syscall(SYS_userfaultfd, kFlags)));
  if (!uffd.valid() || !enable(uffd).ok()) return false;
  auto pagemap = open_pagemap(::getpid());
  if (!pagemap.ok()) return false;
  ScanQuery query;
  query.any_of = kPopulated;
  return scan_pages(*pagemap, {{kPageSize, 2 * kPageSize}}, query, [](const auto&) {}).ok();
}

}  // namespace

TrackSupport probe_tracking() { return {has_write_protect(), has_soft_dirty()}; }

Result<Look> look_once(pid_t pid) {
  DVS_ASSIGN(const UniqueFd pagemap, open_pagemap(pid));
  DVS_ASSIGN(const MemoryMap map, read_memory_map(pid, MapDetail::kMaps));
  Look result;
  result.mapped = movable(map);
  ScanQuery query;
  query.inverted = kEmpty;
  query.all_of = kEmpty;
  query.any_of = kPopulated;
  DVS_TRY(scan_pages(pagemap, result.mapped, query, [&](const kernel::ScannedRegion& region) {
    append(result.populated, {region.start, region.end});
  }));
  result.changed = result.populated;
  return result;
}

Result<std::unique_ptr<Tracker>> track(pid_t pid, TrackMethod method, const Injector& injector) {
  return method == TrackMethod::kWriteProtect ? track_by_write_protect(pid, injector)
                                              : track_by_soft_dirty(pid);
}

}  // namespace dvs::mover
