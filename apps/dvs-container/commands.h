// The subcommands of dvs-container. Each returns the program's exit status.
#pragma once

#include "options.h"

namespace dvs::helper {

// Creates the namespaces and their first process, which stays; prints {"pid": N} or an error.
int run_init(const Options& options);

// Runs options.command inside and passes on how it ended; see Container::enter_prefix().
int run_enter(const Options& options);

// Starts a program that outlives this helper. Reads what to start from descriptor 3 as
// null-terminated strings "arg=", "env=", "cgroup=" (a cgroup.procs file), "cwd=" and "log=",
// creates its process and prints {"host_pid": N, "dc_pid": N}; on the byte 'g' from stdin execs it
// and prints {"started": true}; on anything else ends it. Errors are printed instead of either
// line, and nothing of the program is left then.
int run_program(const Options& options);

}  // namespace dvs::helper
