#include "mover/soft_dirty.h"

#include <errno.h>
#include <sys/mman.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/file.h"
#include "mover/kernel.h"
#include "mover/memory_map.h"
#include "mover/page_scan.h"

namespace dvs::mover {
namespace {

constexpr size_t kEntriesPerRead = 64 * 1024;  // for 256 MiB

Status clear_refs(pid_t pid) {
  return write_control_file("/proc/" + std::to_string(pid) + "/clear_refs", "4");
}

Status read_entries(const UniqueFd& pagemap, PageRange range, std::vector<uint64_t>& entries,
                    Look& look) {
  entries.resize(kEntriesPerRead);
  for (uint64_t at = range.start; at < range.end;) {
    const size_t wanted = std::min<uint64_t>((range.end - at) / kPageSize, entries.size());
    const ssize_t size = ::pread(pagemap.get(), entries.data(), wanted * sizeof(uint64_t),
                                 static_cast<off_t>(at / kPageSize * sizeof(uint64_t)));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno_error("cannot read the pagemap of a process");
    const size_t count = static_cast<size_t>(size) / sizeof(uint64_t);
    if (count == 0) return Error(Code::kNotFound, "the process has ended");
    take_entries(entries.data(), count, at, look);
    at += count * kPageSize;
  }
  return {};
}

class SoftDirtyTracker final : public Tracker {
 public:
  SoftDirtyTracker(pid_t pid, UniqueFd pagemap) : pid_(pid), pagemap_(std::move(pagemap)) {}

  Result<Look> look() override {
    DVS_ASSIGN(const MemoryMap map, read_memory_map(pid_, MapDetail::kMaps));
    Look result;
    result.mapped = movable(map);
    for (const PageRange& range : result.mapped) {
      DVS_TRY(read_entries(pagemap_, range, entries_, result));
    }
    DVS_TRY(clear_refs(pid_));
    if (first_) result.changed = result.populated;  // whatever an earlier tracker has cleared
    first_ = false;
    return result;
  }

 private:
  const pid_t pid_;
  const UniqueFd pagemap_;
  std::vector<uint64_t> entries_;
  bool first_ = true;
};

}  // namespace

void take_entries(const uint64_t* entries, size_t count, uint64_t start, Look& look) {
  for (size_t i = 0; i < count; ++i) {
    if ((entries[i] & (kernel::kEntryPresent | kernel::kEntrySwapped)) == 0) continue;
    const PageRange page{start + i * kPageSize, start + (i + 1) * kPageSize};
    append(look.populated, page);
    if ((entries[i] & kernel::kEntrySoftDirty) != 0) append(look.changed, page);
  }
}

// A page just written has the bit only where the kernel keeps it.
bool has_soft_dirty() {
  void* page =
      ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return false;
  *static_cast<volatile char*>(page) = 1;
  Look look;
  std::vector<uint64_t> entries;
  const auto start = reinterpret_cast<uint64_t>(page);
  auto pagemap = open_pagemap(::getpid());
  const bool read =
      pagemap.ok() && read_entries(*pagemap, {start, start + kPageSize}, entries, look).ok();
  ::munmap(page, kPageSize);
  return read && !look.changed.empty();
}

Result<std::unique_ptr<Tracker>> track_by_soft_dirty(pid_t pid) {
  if (!has_soft_dirty()) {
    return Error(Code::kUnsupported, "this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)");
  }
  DVS_ASSIGN(UniqueFd pagemap, open_pagemap(pid));
  return std::unique_ptr<Tracker>(std::make_unique<SoftDirtyTracker>(pid, std::move(pagemap)));
}

}  // namespace dvs::mover
