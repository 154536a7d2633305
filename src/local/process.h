// Processes of a local cluster: born in new namespaces, or as plain programs with a log.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs::local {

constexpr int kChannelFd = 3;  // where a program started by start_self finds its channel

// Starts this same program again, with `args`, in new namespaces (CLONE_NEW... flags), with
// `channel` as kChannelFd and this process's stdio. Only for programs with one thread.
Result<pid_t> start_self(unsigned long namespaces, const std::vector<std::string>& args,
                         int channel);

// Starts a program with stdout and stderr appended to `log` and no other descriptor of ours. The
// caller reaps it. kNotFound: no such program.
Result<pid_t> start_logged(const std::vector<std::string>& argv, const std::string& log);

// Runs a program to its end; its output is in the error when it fails.
Status run_tool(const std::vector<std::string>& argv);

// A pidfd for a process that may be gone and its id taken by another: nothing unless it still has
// this start time.
Result<uint64_t> start_time(pid_t pid);
std::optional<UniqueFd> open_process(pid_t pid, uint64_t start_time);

// Waits for the end of a process, which need not be a child. kTimeout.
Status await_end(int pidfd, std::chrono::milliseconds limit);

// The ids, as the caller sees them, of the children of `parent`, each with the id that `parent`
// itself knows it by.
struct Child {
  pid_t pid = 0;
  pid_t inner_pid = 0;
};
std::vector<Child> children_of(pid_t parent);

}  // namespace dvs::local
