#include "mover/injection.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>

#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "mover/kernel.h"
#include "mover/stopped_thread.h"

namespace dvs::mover {
namespace {

constexpr int kFlags = O_CLOEXEC | O_NONBLOCK | kernel::kUserModeOnly;

Error refused(pid_t pid, long result) {
  const std::string what = "process " + std::to_string(pid) + " cannot have a userfaultfd";
  const Error error = errno_error(what, static_cast<int>(-result));
  return result == -EPERM ? Error(Code::kUnsupported, error.message()) : error;
}

Result<UniqueFd> make_and_fetch(StoppedThread& thread, pid_t pid, const UniqueFd& pidfd) {
  DVS_ASSIGN(const long made, thread.call(SYS_userfaultfd, kFlags));
  if (made < 0) return refused(pid, made);
  UniqueFd fetched(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), made, 0)));
  const int fetch_errno = errno;
  DVS_ASSIGN(const long closed, thread.call(SYS_close, made));
  if (closed != 0) return refused(pid, closed);
  if (!fetched.valid()) return errno_error("cannot fetch the userfaultfd", fetch_errno);
  return fetched;
}

Result<InjectedFd> inject(pid_t pid) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return errno_error("cannot open process " + std::to_string(pid));
  const int64_t began = monotonic_ns();
  DVS_ASSIGN(StoppedThread thread, StoppedThread::stop(pid));
  auto fetched = make_and_fetch(thread, pid, pidfd);
  DVS_TRY(thread.let_go());
  if (!fetched.ok()) return fetched.error();
  return InjectedFd{std::move(*fetched), monotonic_ns() - began};
}

}  // namespace

// On a thread of its own: with its end the kernel lets go of the process, whatever went wrong.
Result<InjectedFd> inject_userfaultfd(pid_t pid) {
  std::optional<Result<InjectedFd>> result;
  std::thread worker([&] {
    sigset_t all;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, nullptr);
    result = inject(pid);
  });
  worker.join();
  return std::move(*result);
}

}  // namespace dvs::mover
