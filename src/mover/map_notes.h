// /proc/PID/smaps of a frozen process without the time it takes.
//
// The kernel walks all page tables for it (18 ms per GB of 4 KiB pages), also when only the flags
// of the mappings are wanted. So they are noted while the process runs, and when it is frozen only
// the list of its mappings is read. A mapping that was not noted makes it necessary to read
// everything.
//
// What this cannot see: advice (madvise) given to a mapping that was there before, between the note
// and the freeze.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"

namespace dvs::mover {

class MapNotes {
 public:
  // kNotFound: no such process, or it has ended. Blocks for 18 ms per GB.
  static Result<MapNotes> take(pid_t pid);
  explicit MapNotes(std::string_view smaps);
  MapNotes() = default;

  // The text of smaps, as far as it says what is mapped and how, for a list of mappings as of
  // /proc/PID/maps. Empty: there is one that was not noted.
  std::string annotate(std::string_view maps) const;
  // Of locked mappings, KiB.
  uint64_t locked_kib() const { return locked_kib_; }

 private:
  std::unordered_map<std::string, std::string> flags_;  // by a mapping's line
  uint64_t locked_kib_ = 0;
};

// Of a frozen process. `notes`: of a moment ago, if there are any.
Result<std::string> read_smaps(pid_t pid, const MapNotes* notes);

}  // namespace dvs::mover
