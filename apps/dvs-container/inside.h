// Getting into a container, and small things done there.
#pragma once

#include "base/unique_fd.h"
#include "options.h"

namespace dvs::helper {

// Moves the calling process into the container's mount, time and ipc namespaces, with the root
// directory of its first process; children born from now on are in its pid namespace.
// kNotFound when the first process is gone.
Status enter_container(const Options& options);

// For a process just born inside: when the id after its own would not be one of the node's, the
// next ids come from the start of the range again.
Status keep_pid_counter(const PidRange& pids);
// The next process gets the first id of the range that is free.
Status reset_pid_counter(const PidRange& pids);

// A descriptor that becomes readable when the process ends. kNotFound when it does not exist.
Result<UniqueFd> open_process(pid_t pid);

}  // namespace dvs::helper
