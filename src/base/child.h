// Runs a program as a child process and tells, on the event loop, how it ended.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/executor.h"
#include "base/unique_fd.h"

namespace dvs {

// The child gets the descriptors named here and no others, and starts with default signal handling.
struct ChildOptions {
  std::vector<std::string> argv;  // argv[0] is a path or is looked up in PATH
  std::vector<std::string> env;   // "K=V", added to the parent's environment
  int stdin_fd = -1;              // -1: /dev/null
  int stdout_fd = -1;             // -1: /dev/null, unless capture_output
  int stderr_fd = -1;             // -1: /dev/null, unless capture_output
  // stdout and stderr together into ChildResult::output, of which the last 64 KiB are kept.
  bool capture_output = false;
  std::vector<std::pair<int, int>> pass_fds;  // {our descriptor, its number in the child}
  std::chrono::milliseconds timeout{0};       // SIGKILL after this; 0: never
};

struct ChildResult {
  int exit_code = -1;  // -1 when ended by a signal
  int signal = 0;      // 0 when it exited by itself
  bool timed_out = false;
  std::chrono::milliseconds elapsed{0};  // from the start to the end
  std::string output;
  bool ok() const { return exit_code == 0; }
  std::string describe() const;  // "exit status 3", "killed by signal 9", "timed out after ..."
};

// Starts the child; `done` gets the result when it has ended, was reaped and its captured output
// is complete. An Error from here means that it could not be started (done is then not called).
// Returns the pid. A program that does not exist is such an Error (kNotFound).
Result<pid_t> run_child(Executor& executor, ChildOptions options,
                        std::function<void(ChildResult)> done);

// The same, blocking; for main()-like programs without an event loop.
Result<ChildResult> run_child_blocking(ChildOptions options);

}  // namespace dvs
