// Processes that descend from a command we started, through /proc: for ending a command together
// with whatever it has made so far, and for waiting until the last of it is gone.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "base/executor.h"
#include "base/unique_fd.h"

namespace dvs {

// `root` and all its descendants, each handed to `visit` BEFORE its children are listed. So when
// `visit` moves a process to another cgroup or stops it, no child can slip through: it is born
// afterwards in the new state, or is in the list.
void visit_tree(pid_t root, const std::function<void(pid_t)>& visit);

// Handles of processes that stay valid when their pids are given to others.
using ProcessHandles = std::vector<UniqueFd>;
ProcessHandles open_tree(pid_t root);  // in visit_tree()'s order

// Ends `root` and all its descendants: stops every one first, so that none can start another.
ProcessHandles kill_tree(pid_t root);

// Field 22 of /proc/PID/stat: with the pid it names one process for ever. nullopt: no
// such process, or a zombie.
std::optional<uint64_t> start_time(pid_t pid);

enum class Until {
  kEnded,   // it does nothing any more
  kReaped,  // its pid is free, too
};

// `done(true)` when all of them are there, `done(false)` when `limit` has passed before that.
void await_processes(Executor& executor, ProcessHandles handles, Until until,
                     std::chrono::milliseconds limit, std::function<void(bool)> done);

}  // namespace dvs
