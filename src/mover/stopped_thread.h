// A thread of another process, stopped by ptrace, that makes system calls for us.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>

#include "base/result.h"

namespace dvs::mover {

// Belongs to the thread that made it: the kernel knows tracers as threads, and lets go of the
// tracee when they end. Each call blocks until the tracee has done its part, at most kStopLimit.
class StoppedThread {
 public:
  // Stops the thread. Errors as inject_userfaultfd() in injection.h.
  static Result<StoppedThread> stop(pid_t tid);
  // Puts everything back, if not done yet, and lets it go.
  ~StoppedThread();
  StoppedThread(StoppedThread&& other) noexcept;
  StoppedThread(const StoppedThread&) = delete;
  StoppedThread& operator=(const StoppedThread&) = delete;
  StoppedThread& operator=(StoppedThread&&) = delete;

  // Has it make this system call; its result, negative errors as the kernel gives them. kNotFound:
  // it has died.
  Result<long> call(long number, long first, long second = 0);

  // Puts registers and signal mask back and lets it go on. After that it can only be destroyed.
  Status let_go();

 private:
  explicit StoppedThread(pid_t tid) : tid_(tid) {}
  enum class Stop { kTrap, kSystemCall };

  Status prepare();
  Status find_syscall();
  Status leave_rseq();
  Status resume(int request, int signal = 0);
  Status await(Stop wanted, int request);
  Status request(int what, uint64_t address, void* data, const char* doing);

  pid_t tid_;
  user_regs_struct saved_{};
  uint64_t saved_mask_ = 0;
  uint64_t syscall_at_ = 0;  // the address of a syscall instruction
  bool saved_valid_ = false;
  bool in_system_call_ = false;
};

}  // namespace dvs::mover
