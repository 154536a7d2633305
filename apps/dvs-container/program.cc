#include "program.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "inside.h"
#include "report.h"

namespace dvs::helper {
namespace {

constexpr int kControlFd = 3;

// --- outside ---

Result<std::string> read_all(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0) return errno_error("cannot read what to start");
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
  }
}

bool set_field(Program& program, std::string_view name, std::string value) {
  if (name == "arg")
    program.argv.push_back(std::move(value));
  else if (name == "env")
    program.env.push_back(std::move(value));
  else if (name == "cgroup")
    program.cgroups.push_back(std::move(value));
  else if (name == "cwd")
    program.cwd = std::move(value);
  else if (name == "log")
    program.log = std::move(value);
  else
    return false;
  return true;
}

// --- inside ---

Status open_stdio(const std::string& log) {
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid()) return errno_error("cannot open /dev/null");
  UniqueFd out(::open(log.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644));
  if (!out.valid()) return errno_error("cannot open log file " + log);
  if (::dup2(null.get(), 0) < 0 || ::dup2(out.get(), 1) < 0 || ::dup2(out.get(), 2) < 0) {
    return errno_error("cannot replace stdio");
  }
  return {};
}

// By the system call: libc refuses to touch its own signals 32 and 33, yet its posix_spawn() lets
// the child ignore them.
void reset_signals() {
  const unsigned long default_action[4] = {};
  for (int signal = 1; signal < NSIG; ++signal) {
    ::syscall(SYS_rt_sigaction, signal, default_action, nullptr, NSIG / 8);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// What root in a DC may do: what concerns its own processes and files. Not what leads out of it:
// to mount (the node's files lie below what is mounted for the DC), to make devices, to open files
// by handle, to change the node's network or clock, to trace the DC's first process, which may.
// Each program's own limit: what enters a DC for DVS (criu, the next program) keeps all.
constexpr int kKept[] = {CAP_CHOWN,    CAP_DAC_OVERRIDE, CAP_FOWNER,           CAP_FSETID,
                         CAP_KILL,     CAP_SETGID,       CAP_SETUID,           CAP_SETPCAP,
                         CAP_SETFCAP,  CAP_SYS_CHROOT,   CAP_NET_BIND_SERVICE, CAP_NET_RAW,
                         CAP_LEASE,    CAP_IPC_LOCK,     CAP_IPC_OWNER,        CAP_AUDIT_WRITE,
                         CAP_SYS_NICE, CAP_SYS_RESOURCE};

Status limit_capabilities() {
  for (int capability = 0; capability <= CAP_LAST_CAP; ++capability) {
    const bool kept = std::find(std::begin(kKept), std::end(kKept), capability) != std::end(kKept);
    if (kept) continue;
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) {
      return errno_error("cannot give up a capability");
    }
  }
  return {};
}

Status prepare(const Program& program, const BirthGroups& groups) {
  DVS_TRY(groups.join());
  if (::setsid() < 0) return errno_error("cannot create a session");
  ::umask(022);
  DVS_TRY(open_stdio(program.log));
  if (::chdir(program.cwd.c_str()) != 0) return errno_error("cannot change to " + program.cwd);
  reset_signals();
  return limit_capabilities();
}

std::vector<char*> c_strings(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (auto& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

Error exec_program(Program& program) {
  auto argv = c_strings(program.argv);
  auto env = c_strings(program.env);
  environ = env.data();  // execvp looks PATH up there
  ::execvp(argv[0], argv.data());
  return errno_error("cannot execute " + program.argv[0]);
}

// Tells the helper its id inside (the kernel adds the one outside), then waits for the word. The
// control socket, closed by exec, tells how that went.
[[noreturn]] void become_program(Program& program, const BirthGroups& groups, int control) {
  if (auto prepared = prepare(program, groups); !prepared) {
    write_line(control, error_line(prepared.error()));
    ::_exit(127);
  }
  if (::dup3(control, kControlFd, O_CLOEXEC) < 0 && errno != EINVAL) ::_exit(127);
  ::close_range(kControlFd + 1, ~0U, 0);
  write_line(kControlFd, to_text(Json{{"dc_pid", ::getpid()}}));
  char word = 0;
  if (::read(kControlFd, &word, 1) != 1 || word != kGo) ::_exit(127);
  write_line(kControlFd, error_line(exec_program(program)));
  ::_exit(127);
}

}  // namespace

Result<Program> read_program(int fd) {
  DVS_ASSIGN(const std::string text, read_all(fd));
  ::close(fd);
  Program program;
  for (size_t at = 0; at < text.size();) {
    const std::string field = text.c_str() + at;
    at += field.size() + 1;
    const size_t equals = field.find('=');
    if (equals == field.npos ||
        !set_field(program, field.substr(0, equals), field.substr(equals + 1))) {
      return Error(Code::kInvalid, "cannot understand what to start: " + field);
    }
  }
  if (program.argv.empty() || program.log.empty()) {
    return Error(Code::kInvalid, "no program or no log file given");
  }
  return program;
}

Status fork_program(const Options& options, Program& program, const BirthGroups& groups,
                    int control) {
  DVS_TRY(keep_pid_counter(options.pids));
  for (int attempt = 0; attempt < 2; ++attempt) {
    DVS_ASSIGN(const pid_t pid, groups.fork());
    if (pid == 0 && options.pids.contains(::getpid())) become_program(program, groups, control);
    if (pid == 0) ::_exit(127);
    if (options.pids.contains(pid)) return {};
    ::waitpid(pid, nullptr, 0);
    DVS_TRY(reset_pid_counter(options.pids));
  }
  return Error(Code::kNoSpace, "all process ids of this node's range are in use");
}

}  // namespace dvs::helper
