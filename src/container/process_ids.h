// What /proc tells about processes of a container, seen from outside.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace dvs {

// Process ids as different namespaces see them, from /proc/PID/task/TID/status.
struct ThreadIds {
  pid_t host_pid = 0;  // process, as dvsd sees it
  pid_t host_tid = 0;  // thread, as dvsd sees it
  pid_t dc_pid = 0;    // the same two, as the DC sees them
  pid_t dc_tid = 0;
};

// Every thread of the processes listed in a cgroup's cgroup.procs file. A thread that ends
// meanwhile is left out; the list is exact only when the group is frozen.
Result<std::vector<ThreadIds>> threads_of_cgroup(const std::string& cgroup_dir);

// Field 22 of /proc/PID/stat: with the pid it names one process for as long as the machine is up.
// kNotFound when there is no such process.
Result<uint64_t> process_start_time(pid_t host_pid);

// Its parent as the host sees it; 0: none, or no such process.
pid_t parent_of(pid_t host_pid);

// The wait status of a process that has ended and is not reaped yet.
std::optional<int> status_of_zombie(pid_t host_pid);

// What a thread is called (its comm), every byte that is not printable ASCII as '?': a program may
// call itself anything. Empty when there is no such thread.
std::string name_of_thread(pid_t host_tid);

// Where to begin to give out ids of first..last, when these are in use elsewhere (in any order;
// others are passed over): in the largest gap, and not right behind an id, since children and
// threads of a process have the ids that follow it. Its margin is 1,024, or half the gap.
pid_t next_pid_beside(const std::vector<pid_t>& used, pid_t first, pid_t last);

// The process ids in the text of a cgroup.procs file; those of other pid namespaces (0) left out.
std::vector<pid_t> parse_pids(const std::string& text);

}  // namespace dvs
