// A library that dvs-criu has criu load for a dump apart (migrate/engine/memory_apart.h): it hides
// the pages of movable memory from criu, which would otherwise look at each of them, and copy them,
// while the process is frozen.
//
// In the directory $DVS_IMAGES there are, per process, kMapFile.PID, which is given to criu instead
// of /proc/PID/smaps, and kMovableFile.PID, the ranges in which PAGEMAP_SCAN shall find nothing.
// Without them everything is as ever. C++ without its library: nothing is brought along into criu.
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "migrate/engine/filter_files.h"
#include "mover/kernel.h"
#include "mover/page_range.h"

namespace {

using dvs::mover::PageRange;
using dvs::mover::kernel::ScanArgument;

constexpr size_t kPathSize = 512;

int open_file(int directory, const char* path, int flags, mode_t mode = 0) {
  return static_cast<int>(::syscall(SYS_openat, directory, path, flags, mode));
}

// The process whose directory in /proc, or whose file there, this is; 0: none.
int process_of(int fd) {
  char link[64];
  char path[kPathSize];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  const char* found = strstr(path, "/proc/");
  return found == nullptr ? atoi(path + 1) : atoi(found + strlen("/proc/"));
}

int open_prepared(const char* name, int pid) {
  const char* images = getenv("DVS_IMAGES");
  if (images == nullptr || pid <= 0) return -1;
  char path[kPathSize];
  snprintf(path, sizeof path, "%s/%s.%d", images, name, pid);
  return open_file(AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
}

// The movable memory of the process that was asked for last.
struct Movable {
  int pid = 0;
  const PageRange* ranges = nullptr;
  size_t count = 0;
};
Movable last;

void load(int pid) {
  if (last.ranges != nullptr) {
    ::munmap(const_cast<PageRange*>(last.ranges), last.count * sizeof(PageRange));
  }
  last = {pid, nullptr, 0};
  const int fd = open_prepared(dvs::kMovableFile, pid);
  struct stat info {};
  if (fd >= 0 && ::fstat(fd, &info) == 0 && info.st_size > 0) {
    const auto size = static_cast<size_t>(info.st_size);
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (mapped != MAP_FAILED) {
      last.ranges = static_cast<const PageRange*>(mapped);
      last.count = size / sizeof(PageRange);
    }
  }
  if (fd >= 0) ::close(fd);
}

int scan(int fd, ScanArgument* argument) {
  return static_cast<int>(::syscall(SYS_ioctl, fd, dvs::mover::kernel::kPagemapScan, argument));
}

// Scans up to the first movable range, or past it: the caller goes on from walk_end.
int scan_visible(int fd, ScanArgument* argument) {
  if (const int pid = process_of(fd); pid != last.pid) load(pid);
  ScanArgument part = *argument;
  for (size_t i = 0; i < last.count && part.start < argument->end; ++i) {
    const PageRange& hidden = last.ranges[i];
    if (hidden.end <= part.start) continue;
    if (hidden.start > part.start) {
      part.end = hidden.start < argument->end ? hidden.start : argument->end;
      break;
    }
    part.start = hidden.end < argument->end ? hidden.end : argument->end;
  }
  argument->walk_end = part.start;
  if (part.start == argument->end) return 0;
  const int found = scan(fd, &part);
  if (found >= 0) argument->walk_end = part.walk_end;
  return found;
}

}  // namespace

// Tells whoever wants to know which program it was loaded into.
__attribute__((constructor)) static void tell() {
  const char* probe = getenv(dvs::kFilterProbe);
  if (probe != nullptr) dprintf(atoi(probe), "%s\n", program_invocation_short_name);
}

extern "C" {

int openat64(int directory, const char* path, int flags, ...) {
  mode_t mode = 0;
  if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
    va_list rest;
    va_start(rest, flags);
    mode = va_arg(rest, mode_t);
    va_end(rest);
  }
  if (strcmp(path, "smaps") == 0) {
    const int prepared = open_prepared(dvs::kMapFile, process_of(directory));
    if (prepared >= 0) return prepared;
  }
  return open_file(directory, path, flags, mode);
}

int ioctl(int fd, unsigned long request, ...) {
  va_list rest;
  va_start(rest, request);
  void* argument = va_arg(rest, void*);
  va_end(rest);
  if (request == dvs::mover::kernel::kPagemapScan) {
    auto* asked = static_cast<ScanArgument*>(argument);
    const bool for_pages = (asked->category_anyof_mask & dvs::mover::kernel::kPagePresent) != 0;
    if (for_pages) return scan_visible(fd, asked);
  }
  return static_cast<int>(::syscall(SYS_ioctl, fd, request, argument));
}

}  // extern "C"
