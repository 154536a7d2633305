// What the mover uses of the kernel and older headers do not know (Linux 5.13 to 6.18), and how to
// call it. The only place where these numbers stand.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

namespace dvs::mover::kernel {

// userfaultfd(2) and its features.
constexpr int kUserModeOnly = 1;                        // flag; needs no privilege (5.11)
constexpr uint64_t kFeatureWpUnpopulated = 1ull << 13;  // 6.4
constexpr uint64_t kFeatureWpAsync = 1ull << 15;        // 6.7

// PAGEMAP_SCAN of /proc/PID/pagemap (6.7): what a page is, and what to do with it.
constexpr uint64_t kPageWpAllowed = 1 << 0;  // in a mapping registered for WP_ASYNC
constexpr uint64_t kPageWritten = 1 << 1;    // since it was write-protected
constexpr uint64_t kPagePresent = 1 << 3;
constexpr uint64_t kPageSwapped = 1 << 4;
constexpr uint64_t kPageZero = 1 << 5;   // the zero page of the kernel
constexpr uint64_t kPageGuard = 1 << 8;  // MADV_GUARD_INSTALL; told since 6.16
constexpr uint64_t kScanWriteProtect = 1 << 0;

struct ScannedRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};
struct ScanArgument {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;  // written by the kernel; not to be trusted, see scan_pages()
  uint64_t vec;
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArgument);

// Entries of /proc/PID/pagemap.
constexpr uint64_t kEntryPresent = 1ull << 63;
constexpr uint64_t kEntrySwapped = 1ull << 62;
constexpr uint64_t kEntrySoftDirty = 1ull << 55;

// ptrace(2).
constexpr int kTraceSuspendSeccomp = 1 << 21;
constexpr int kTraceGetRseq = 0x420f;  // 5.13
struct RseqConfiguration {
  uint64_t address;
  uint32_t size;
  uint32_t signature;
  uint32_t flags;
  uint32_t pad;
};

// How a system call that was interrupted asks the kernel to be started again.
constexpr long kRestartUnlessHandled = 514;  // ERESTARTNOHAND

}  // namespace dvs::mover::kernel
