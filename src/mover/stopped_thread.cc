#include "mover/stopped_thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string>
#include <utility>

#include "base/clock.h"
#include "base/file.h"
#include "mover/kernel.h"
#include "mover/memory_map.h"

namespace dvs::mover {
namespace {

constexpr int64_t kStopLimitNs = 1'000'000'000;
constexpr int64_t kSpinNs = 200'000;  // most stops come in 10 microseconds
constexpr long kPauseNs = 20'000;
constexpr uint64_t k64BitCode = 0x33;  // the code segment
constexpr int kSystemCallStop = SIGTRAP | 0x80;

// Interrupted, these give EINTR even when nobody handled a signal, and may be called again.
constexpr std::array kNotRestarted = {SYS_epoll_wait,   SYS_epoll_pwait,   SYS_epoll_pwait2,
                                      SYS_semop,        SYS_semtimedop,    SYS_rt_sigtimedwait,
                                      SYS_io_getevents, SYS_io_uring_enter};

std::string name(pid_t tid) { return "process " + std::to_string(tid); }

Error gone(pid_t tid) { return Error(Code::kNotFound, name(tid) + " has ended"); }

// A line "Key:\tvalue" of /proc/PID/status as a number.
long status_field(const std::string& status, const std::string& key) {
  const size_t at = status.find("\n" + key + ":");
  return at == std::string::npos ? 0 : std::strtol(&status[at + key.size() + 2], nullptr, 10);
}

Error cannot_trace(pid_t tid, int err) {
  if (err == ESRCH) return gone(tid);
  const auto status = read_file("/proc/" + std::to_string(tid) + "/status");
  if (!status.ok()) return gone(tid);
  if (const long tracer = status_field(*status, "TracerPid"); tracer != 0) {
    return Error(Code::kConflict,
                 name(tid) + " is being traced by process " + std::to_string(tracer));
  }
  if (status->find("\nState:\tZ") != std::string::npos) return gone(tid);
  return errno_error("cannot trace " + name(tid), err);
}

bool read_remote(pid_t tid, uint64_t address, void* to, size_t size) {
  const iovec local{to, size};
  const iovec remote{reinterpret_cast<void*>(address), size};
  return ::process_vm_readv(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

}  // namespace

StoppedThread::StoppedThread(StoppedThread&& other) noexcept
    : tid_(std::exchange(other.tid_, 0)),
      saved_(other.saved_),
      saved_mask_(other.saved_mask_),
      syscall_at_(other.syscall_at_),
      saved_valid_(other.saved_valid_),
      in_system_call_(other.in_system_call_) {}

StoppedThread::~StoppedThread() { static_cast<void>(let_go().ok()); }

Status StoppedThread::request(int what, uint64_t address, void* data, const char* doing) {
  if (::ptrace(static_cast<__ptrace_request>(what), tid_, address, data) >= 0) return {};
  if (errno == ESRCH) return gone(tid_);
  return errno_error(std::string("cannot ") + doing + " " + name(tid_));
}

Status StoppedThread::resume(int what, int signal) {
  return request(what, 0, reinterpret_cast<void*>(static_cast<long>(signal)), "resume");
}

Result<StoppedThread> StoppedThread::stop(pid_t tid) {
  const auto status = read_file("/proc/" + std::to_string(tid) + "/status");
  if (!status.ok()) return gone(tid);
  // A filter of system calls could answer ours by killing the process.
  const int options = PTRACE_O_TRACESYSGOOD |
                      (status_field(*status, "Seccomp") != 0 ? kernel::kTraceSuspendSeccomp : 0);
  if (::ptrace(PTRACE_SEIZE, tid, 0, options) != 0) return cannot_trace(tid, errno);
  StoppedThread thread(tid);
  DVS_TRY(thread.request(PTRACE_INTERRUPT, 0, nullptr, "interrupt"));
  DVS_TRY(thread.await(Stop::kTrap, PTRACE_CONT));
  DVS_TRY(thread.prepare());
  return thread;
}

// Waits until the tracee stops as wanted; other stops on the way (a signal that is delivered, a
// SIGSTOP that takes effect) are passed on with `what`. An end is left for the parent to fetch.
Status StoppedThread::await(Stop wanted, int what) {
  const int64_t began = monotonic_ns();
  for (;;) {
    siginfo_t info{};
    constexpr int kLook = WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL;
    if (::waitid(P_PID, static_cast<id_t>(tid_), &info, kLook) != 0) return gone(tid_);
    if (info.si_pid == 0) {
      const int64_t waited = monotonic_ns() - began;
      if (waited > kStopLimitNs) {
        return Error(Code::kTimeout, name(tid_) + " cannot be stopped now");
      }
      if (waited < kSpinNs) {
        ::sched_yield();
        continue;
      }
      const timespec pause{0, kPauseNs};
      ::nanosleep(&pause, nullptr);
      continue;
    }
    if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED) {
      return gone(tid_);
    }
    ::waitid(P_PID, static_cast<id_t>(tid_), &info, WSTOPPED | WNOHANG | __WALL);
    const int event = info.si_status >> 8;
    const int signal = info.si_status & 0xff;
    if (wanted == Stop::kSystemCall && event == 0 && signal == kSystemCallStop) return {};
    if (wanted == Stop::kTrap && event == PTRACE_EVENT_STOP) return {};
    const bool deliver = event == 0 && signal != kSystemCallStop;
    DVS_TRY(resume(what, deliver ? signal : 0));
  }
}

Status StoppedThread::prepare() {
  DVS_TRY(request(PTRACE_GETREGS, 0, &saved_, "read the registers of"));
  if (saved_.cs != k64BitCode) return Error(Code::kUnsupported, name(tid_) + " is not of 64 bits");
  DVS_TRY(find_syscall());
  DVS_TRY(request(PTRACE_GETSIGMASK, sizeof saved_mask_, &saved_mask_, "read the signals of"));
  const auto number = static_cast<long>(saved_.orig_rax);
  if (static_cast<long>(saved_.rax) == -EINTR &&
      std::find(kNotRestarted.begin(), kNotRestarted.end(), number) != kNotRestarted.end()) {
    saved_.rax = static_cast<uint64_t>(-kernel::kRestartUnlessHandled);
  }
  DVS_TRY(leave_rseq());
  saved_valid_ = true;
  uint64_t all = ~0ull;
  return request(PTRACE_SETSIGMASK, sizeof all, &all, "hold the signals of");
}

// The vdso always has one, for the calls it cannot answer itself.
Status StoppedThread::find_syscall() {
  DVS_ASSIGN(const MemoryMap map, read_memory_map(tid_, MapDetail::kMaps));
  for (const Mapping& mapping : map) {
    if (mapping.name != "[vdso]") continue;
    std::string code(mapping.range.size(), '\0');
    if (!read_remote(tid_, mapping.range.start, code.data(), code.size())) return gone(tid_);
    const size_t at = code.find("\x0f\x05");
    if (at == std::string::npos) break;
    syscall_at_ = mapping.range.start + at;
    return {};
  }
  return Error(Code::kUnsupported, name(tid_) + " has no vdso with a system call in it");
}

// Stopped inside a restartable sequence it would be aborted when it goes on. The kernel looks for
// that where our system calls are, finds none and forgets it: so the abort is done here.
Status StoppedThread::leave_rseq() {
  kernel::RseqConfiguration rseq{};
  const auto what = static_cast<__ptrace_request>(kernel::kTraceGetRseq);
  if (::ptrace(what, tid_, sizeof rseq, &rseq) < 0 || rseq.address == 0) return {};
  constexpr uint64_t kSectionField = 8;
  uint64_t section = 0;
  if (!read_remote(tid_, rseq.address + kSectionField, &section, sizeof section)) return {};
  struct {
    uint32_t version, flags;
    uint64_t start, length, abort;
  } bounds{};
  if (section == 0 || !read_remote(tid_, section, &bounds, sizeof bounds)) return {};
  if (saved_.rip - bounds.start < bounds.length) saved_.rip = bounds.abort;
  return {};
}

Result<long> StoppedThread::call(long number, long first, long second) {
  user_regs_struct regs = saved_;
  regs.rax = static_cast<uint64_t>(number);
  regs.orig_rax = ~0ull;  // not in a system call that might be restarted
  regs.rdi = static_cast<uint64_t>(first);
  regs.rsi = static_cast<uint64_t>(second);
  regs.rip = syscall_at_;
  DVS_TRY(request(PTRACE_SETREGS, 0, &regs, "set the registers of"));
  in_system_call_ = true;
  for (int stop = 0; stop < 2; ++stop) {  // at its beginning, at its end
    DVS_TRY(resume(PTRACE_SYSCALL));
    DVS_TRY(await(Stop::kSystemCall, PTRACE_SYSCALL));
  }
  DVS_TRY(request(PTRACE_GETREGS, 0, &regs, "read the registers of"));
  return static_cast<long>(regs.rax);
}

// The kernel restarts an interrupted system call only on the way out of a trap: so from the end of
// our own call it is brought to one first.
Status StoppedThread::let_go() {
  if (tid_ == 0) return {};
  if (saved_valid_) {
    if (in_system_call_) {
      DVS_TRY(request(PTRACE_INTERRUPT, 0, nullptr, "interrupt"));
      DVS_TRY(resume(PTRACE_CONT));
      DVS_TRY(await(Stop::kTrap, PTRACE_CONT));
    }
    DVS_TRY(request(PTRACE_SETREGS, 0, &saved_, "set the registers of"));
    DVS_TRY(request(PTRACE_SETSIGMASK, sizeof saved_mask_, &saved_mask_, "restore the signals of"));
  }
  DVS_TRY(request(PTRACE_DETACH, 0, nullptr, "let go of"));
  tid_ = 0;
  return {};
}

}  // namespace dvs::mover
