// What a process has mapped, and which of it the mover moves.
//
// The mover moves exactly what the engine leaves out of a dump with lazy pages: private anonymous
// memory that is not locked, not of huge page files and not the kernel's own (heap, stacks, bss,
// arenas). All else is the engine's: shared memory, files and the pages of private file mappings
// that were written. The engine also carries the page each thread's stack pointer is in; the mover
// carries it as well, with the same content.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mover/page_range.h"

namespace dvs::mover {

enum class MemoryKind : uint8_t {
  kAnonymous,    // private: the mover's
  kPrivateFile,  // of a file (or memfd, or /dev/zero), copied on write
  kShared,       // of a file, memfd or shmem
  kLocked,       // private and mlock()ed: the engine must populate it
  kHugetlb,      // pages of a hugetlbfs
  kKernel,       // vdso, vvar, vsyscall; shadow stacks; device memory; what the kernel may drop
};

struct Mapping {
  PageRange range;
  MemoryKind kind = MemoryKind::kAnonymous;
  bool readable = false;
  bool writable = false;
  bool grows_down = false;
  std::string name;  // "[heap]", "[stack]", a path, or empty
  bool operator==(const Mapping&) const = default;
};

// Ascending, without overlap.
using MemoryMap = std::vector<Mapping>;

// The text of /proc/PID/maps or smaps. Only smaps tells of kLocked and of some of kKernel: with
// maps these are kAnonymous. kCorrupt: it is no such text, or a part of one.
Result<MemoryMap> parse_memory_map(std::string_view text);

// maps takes microseconds, whatever the size of the memory. smaps walks every page table of the
// process while its mmap lock is held: some ms per GB.
enum class MapDetail { kMaps, kSmaps };
// kNotFound: no such process, or it has ended.
Result<MemoryMap> read_memory_map(pid_t pid, MapDetail detail);

// The ranges of kAnonymous, one for each mapping.
PageRanges movable(const MemoryMap& map);

}  // namespace dvs::mover
