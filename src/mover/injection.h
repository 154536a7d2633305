// A userfaultfd of another process, made by having it call userfaultfd(2) itself: only so does the
// descriptor work on its memory.
//
// The process's main thread is stopped by ptrace for some 100 microseconds, calls userfaultfd and
// close, and goes on where it was; system calls it was in are restarted. No memory of the process
// is written. Its other threads run on: if one of them forks in these microseconds, the child keeps
// a copy of the descriptor until it executes another program. Whoever calls must not be killed
// meanwhile: the thread would go on in the middle of nowhere. (So dvsd has it done by a process of
// its own, injection_helper.h.)
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs::mover {

struct InjectedFd {
  UniqueFd fd;             // close-on-exec, not blocking, UFFDIO_API not yet called
  int64_t stopped_ns = 0;  // how long the main thread did not run, measured from outside
};

// Needs CAP_SYS_PTRACE over the process; the process itself needs no privilege. Blocks for as long
// as the main thread takes to stop, at most a second. May be called on any thread.
// kNotFound: no such process, or it has ended, or it ends meanwhile. kConflict: something else
// traces it. kTimeout: its main thread cannot be stopped (waits for a vfork()ed child or a disk, or
// is in a frozen cgroup). kUnsupported: a process of 32 bits, or without a vdso, or the kernel
// refuses. kDenied. The process goes on unchanged then, too.
Result<InjectedFd> inject_userfaultfd(pid_t pid);

// That, or what does the same.
using Injector = std::function<Result<InjectedFd>(pid_t pid)>;

}  // namespace dvs::mover
