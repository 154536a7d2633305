// The command line of dvs-container: written by programs (src/container), not by people.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace dvs::helper {

// The process ids a DC hands out on this node.
struct PidRange {
  pid_t first = 300;
  pid_t last = 4194303;
  bool contains(pid_t pid) const { return pid >= first && pid <= last; }
};

struct Options {
  std::string dir;                    // --dir: the DC's directory on the node (init)
  PidRange pids;                      // --pids FIRST:LAST
  pid_t next_pid = 0;                 // --next-pid: that it begins with (init); 0: the first
  int64_t monotonic_offset_ns = 0;    // --monotonic-offset (init)
  std::vector<std::string> shown;     // --show, --writable, --hide: paths of the node (init), see
  std::vector<std::string> writable;  // ContainerSpec; each repeatable
  std::vector<std::string> hidden;
  pid_t init = 0;                    // --init: the container's first process (enter, run)
  uint64_t init_start_time = 0;      // --start: its start time, against reused ids; 0: not checked
  std::vector<std::string> cgroups;  // --cgroup: a cgroup.procs file; repeatable (enter)
  char** command = nullptr;          // after "--" (enter); ends with a null pointer
};

// `arguments`: what follows the subcommand, null-terminated.
Result<Options> parse_options(char** arguments);

}  // namespace dvs::helper
