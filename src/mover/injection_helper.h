// inject_userfaultfd() by a process of its own (apps/dvs-tracer): whatever becomes of the caller,
// that one lives on until the other process goes on where it was.
#pragma once

#include <string>

#include "mover/injection.h"

namespace dvs::mover {

// dvsd: runs `program` for process `pid`. Blocks, and fails, as inject_userfaultfd(), and some
// milliseconds for the start; kInternal: the helper did not answer.
Result<InjectedFd> inject_by_helper(const std::string& program, pid_t pid);

// The helper: does it, and answers over `socket`. False: it cannot answer.
bool answer_injection(int socket, pid_t pid);

}  // namespace dvs::mover
