// Memory that has arrived and is not in its process yet: one sparse file per process, on tmpfs, in
// which a page's offset is its address. A hole is zeros. So nothing has to be indexed, what comes
// later replaces what came before, and whoever has the directory can go on with it.
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

 private:
  explicit Store(std::string directory) : directory_(std::move(directory)) {}
  Result<int> file_of(pid_t pid);

  std::string directory_;
  std::map<pid_t, UniqueFd> files_;
};

std::string store_file(const std::string& directory, pid_t pid);
// The pages a store's file holds.
Result<PageRanges> stored_pages(const UniqueFd& file);

}  // namespace dvs::mover
