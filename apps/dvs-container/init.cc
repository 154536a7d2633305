#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "commands.h"
#include "inside.h"
#include "report.h"
#include "view.h"

namespace dvs::helper {
namespace {

constexpr const char* kExits = "/run/dvs/dc/exits";
constexpr const char* kReady = "ready";

// --- the launching side ---

Status set_clock_offset(int64_t offset_ns) {
  int64_t seconds = offset_ns / 1'000'000'000;
  int64_t rest = offset_ns % 1'000'000'000;
  if (rest < 0) {
    seconds -= 1;
    rest += 1'000'000'000;
  }
  const std::string offset = " " + std::to_string(seconds) + " " + std::to_string(rest) + "\n";
  auto written =
      write_control_file("/proc/self/timens_offsets", "monotonic" + offset + "boottime" + offset);
  return written ? written : written.error().context("cannot set the container's clock");
}

Status unshare_namespaces(const Options& options) {
  if (::unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME | CLONE_NEWIPC) != 0) {
    return errno_error("cannot create pid, mount, time and ipc namespaces");
  }
  return set_clock_offset(options.monotonic_offset_ns);
}

// --- the first process: the rest of its set-up ---

Status start_pid_counter(PidRange pids, pid_t next_pid) {
  DVS_ASSIGN(const std::string text, read_file("/proc/sys/kernel/pid_max"));
  const long pid_max = std::strtol(text.c_str(), nullptr, 10);
  if (pids.last >= pid_max) {
    return Error(Code::kUnsupported, "process ids up to " + std::to_string(pids.last) +
                                         " need a kernel.pid_max above that, it is " +
                                         std::to_string(pid_max) + ": raise it with sysctl");
  }
  if (pids.contains(next_pid)) pids.first = next_pid;
  return reset_pid_counter(pids);
}

// Stdio from the container's own mount namespace; `control` stays open until it was used.
Status replace_stdio() {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return errno_error("cannot open /dev/null");
  for (int fd : {0, 1, 2}) {
    if (::dup2(null.get(), fd) < 0) return errno_error("cannot replace stdio");
  }
  return {};
}

Status set_up(const Options& options) {
  DVS_TRY(build_view(options));
  DVS_TRY(start_pid_counter(options.pids, options.next_pid));
  DVS_TRY(replace_stdio());
  if (::setsid() < 0 || ::chdir("/") != 0) return errno_error("cannot leave the session");
  ::umask(022);
  ::prctl(PR_SET_NAME, "dvs-init");
  // Programs inside may read /proc/1/environ; dvsd's environment is none of their business.
  for (char** entry = environ; *entry != nullptr; ++entry)
    std::memset(*entry, 0, std::strlen(*entry));
  return {};
}

// --- the first process: its life ---

int wait_status(const siginfo_t& info) {
  if (info.si_code == CLD_EXITED) return (info.si_status & 0xff) << 8;
  return info.si_status | (info.si_code == CLD_DUMPED ? 0x80 : 0);
}

// Opened anew each time: whoever follows the file may move it away. Programs inside can put
// anything in its place, which must not stop this process.
void record_exit(const siginfo_t& info) {
  UniqueFd file(
      ::open(kExits, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644));
  if (!file.valid()) return;
  write_line(file.get(), std::to_string(info.si_pid) + " " + std::to_string(wait_status(info)));
}

// A child stays a zombie until its record is written: once its id is gone the record is there.
[[noreturn]] void reap_forever() {
  sigset_t child_ended;
  ::sigemptyset(&child_ended);
  ::sigaddset(&child_ended, SIGCHLD);
  for (;;) {
    siginfo_t info{};
    while (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0) {
      record_exit(info);
      ::waitpid(info.si_pid, nullptr, 0);
      info = {};
    }
    ::sigwaitinfo(&child_ended, nullptr);
  }
}

// Lives on only when the launching side answers, that is after it has reported our id.
[[noreturn]] void first_process(const Options& options, int control) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  ::signal(SIGCHLD, SIG_DFL);
  auto done = set_up(options);
  write_line(control, done ? kReady : error_line(done.error()));
  char answer = 0;
  if (!done || ::read(control, &answer, 1) != 1) ::_exit(1);
  ::close_range(3, ~0U, 0);
  reap_forever();
}

}  // namespace

int run_init(const Options& options) {
  int control[2];
  ::signal(SIGPIPE, SIG_IGN);
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0) {
    write_line(1, error_line(errno_error("cannot create a socket pair")));
    return 1;
  }
  if (auto unshared = unshare_namespaces(options); !unshared) {
    write_line(1, error_line(unshared.error()));
    return 1;
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(control[0]);
    first_process(options, control[1]);
  }
  ::close(control[1]);
  char report[16384];
  const ssize_t length = child < 0 ? 0 : ::read(control[0], report, sizeof report);
  const std::string line(report, length > 0 ? static_cast<size_t>(length - 1) : 0);
  if (line != kReady) {
    const Error died(Code::kInternal, "the container's first process ended while being set up");
    write_line(1, line.empty() ? error_line(died) : line);
    return 1;
  }
  write_line(1, to_text(Json{{"pid", child}}));
  return ::write(control[0], "k", 1) == 1 ? 0 : 1;
}

}  // namespace dvs::helper
