// Memory that has arrived and is not in its process yet: one sparse file per process, on tmpfs, in
// which a page's offset is its address. A hole is zeros. So nothing has to be indexed, what comes
// later replaces what came before, and whoever has the directory can go on with it. When all is
// there lists of the pages, and of those still owed, are written beside each file: to look for the
// holes takes some 10 ms per GB, just when a process waits for its memory.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mover/page_range.h"

namespace dvs::mover {

inline constexpr const char* kStoreName = "memory";  // of its directory, beside the images

class Store {
 public:
  // In `directory`, which is made here if it is not there.
  static Result<Store> open(std::string directory);

  // kCorrupt: no such address, or not whole pages. kNoSpace: the tmpfs is full.
  Status write(pid_t pid, uint64_t address, std::string_view bytes);
  // Zeros from now on.
  Status drop(pid_t pid, PageRange range);
  // What it has there is not right; what is right follows after seal().
  Status owe(pid_t pid, PageRange range);
  uint64_t owed_bytes() const;
  // Nothing comes any more but what is owed: writes the lists.
  Status seal() const;

 private:
  explicit Store(std::string directory) : directory_(std::move(directory)) {}
  struct Memory {
    UniqueFd file;
    PageSet pages;
    PageSet owed;
  };
  Result<Memory*> memory_of(pid_t pid);

  std::string directory_;
  std::map<pid_t, Memory> memories_;
};

// A process's part of a sealed store. For one that has no movable memory `file` is not valid.
struct StoredMemory {
  UniqueFd file;  // read and write
  PageRanges pages;
  PageRanges owed;
};
// kCorrupt: it is not sealed, or not by us.
Result<StoredMemory> open_stored(const std::string& directory, pid_t pid);

}  // namespace dvs::mover
