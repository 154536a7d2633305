#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>

#include "base/unique_fd.h"
#include "check/probes.h"

// Newer than the libc headers of some distributions we build on.
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

namespace dvs::probe {
namespace {

// struct pm_scan_arg of linux/fs.h.
struct PagemapScan {
  uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct PageRegion {
  uint64_t start, end, categories;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, PagemapScan);
constexpr uint64_t kScanWpMatching = 1, kScanCheckWpAsync = 2, kPageIsWritten = 2;
constexpr size_t kPages = 8;

// A few private pages that have been written to.
class Pages {
 public:
  Pages() {
    memory_ = static_cast<char*>(
        ::mmap(nullptr, size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) memory_ = nullptr;
    for (size_t i = 0; memory_ != nullptr && i < kPages; ++i) touch(i);
  }
  ~Pages() {
    if (memory_ != nullptr) ::munmap(memory_, size());
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  bool valid() const { return memory_ != nullptr; }
  void touch(size_t i) { *const_cast<volatile char*>(memory_ + i * page()) = 1; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(memory_); }
  static size_t page() { return static_cast<size_t>(::sysconf(_SC_PAGESIZE)); }
  static size_t size() { return kPages * page(); }

 private:
  char* memory_;
};

UniqueFd open_userfaultfd(uint64_t features) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  uffdio_api api{.api = UFFD_API, .features = features, .ioctls = 0};
  if (fd.valid() && ::ioctl(fd.get(), UFFDIO_API, &api) != 0) return UniqueFd();
  return fd;
}

// The number of ranges written since the last scan, the first of them in `region`; -1: errno.
int scan_written(int pagemap, const Pages& pages, PageRegion& region) {
  PagemapScan scan{};
  scan.size = sizeof(scan);
  scan.flags = kScanWpMatching | kScanCheckWpAsync;
  scan.start = pages.address();
  scan.end = pages.address() + Pages::size();
  scan.vec = reinterpret_cast<uint64_t>(&region);
  scan.vec_len = 1;
  scan.category_mask = kPageIsWritten;
  scan.return_mask = kPageIsWritten;
  return ::ioctl(pagemap, kPagemapScan, &scan);
}

// Does what the tracker does: writes one page of several, and the next scan must name just that.
// The error, or nothing when it works.
std::optional<std::string> track_one_write() {
  const auto failed = [](const char* what) {
    return std::string(what) + ": " + std::strerror(errno);
  };
  Pages pages;
  const UniqueFd fd = open_userfaultfd(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
  if (!pages.valid() || !fd.valid()) return failed("userfaultfd WP_ASYNC");
  uffdio_register wanted{};
  wanted.range = {.start = pages.address(), .len = Pages::size()};
  wanted.mode = UFFDIO_REGISTER_MODE_WP;
  if (::ioctl(fd.get(), UFFDIO_REGISTER, &wanted) != 0) return failed("write protection");
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  PageRegion region{};
  if (scan_written(pagemap.get(), pages, region) < 0) return failed("PAGEMAP_SCAN");
  pages.touch(3);
  const int found = scan_written(pagemap.get(), pages, region);
  const uint64_t third = pages.address() + 3 * Pages::page();
  if (found == 1 && region.start == third && region.end == third + Pages::page()) return {};
  return "a written page was not reported as such";
}

}  // namespace

Feature userfaultfd() {
  if (open_userfaultfd(0).valid()) return ok("userfaultfd", "works");
  return degraded("userfaultfd", std::string(std::strerror(errno)) + ": no lazy memory",
                  "use a kernel with CONFIG_USERFAULTFD, as root");
}

Feature page_tracking() {
  const auto problem = track_one_write();
  if (!problem) return ok("page-tracking", "userfaultfd WP_ASYNC and PAGEMAP_SCAN work");
  return degraded("page-tracking", *problem + ": memory cannot be copied ahead of the freeze",
                  "use Linux 6.7 or later");
}

Feature soft_dirty() {
  Pages pages;
  const UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  uint64_t entry = 0;
  const auto offset = static_cast<off_t>(pages.address() / Pages::page() * sizeof(entry));
  const bool read = ::pread(pagemap.get(), &entry, sizeof(entry), offset) == sizeof(entry);
  if (read && (entry >> 55 & 1) != 0) return ok("soft-dirty", "works");
  return degraded("soft-dirty", "the kernel lacks CONFIG_MEM_SOFT_DIRTY",
                  "nothing, where page-tracking is ok");
}

}  // namespace dvs::probe
