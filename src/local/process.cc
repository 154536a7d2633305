#include "local/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "base/child.h"
#include "base/file.h"

namespace dvs::local {
namespace {

constexpr std::chrono::seconds kToolLimit{10};

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const auto& string : strings) result.push_back(const_cast<char*>(string.c_str()));
  result.push_back(nullptr);
  return result;
}

// Runs in the new process; dup2 to itself would leave the descriptor to be closed by exec.
[[noreturn]] void become(const std::vector<char*>& argv, int channel) {
  const bool placed = channel == kChannelFd ? ::fcntl(channel, F_SETFD, 0) == 0
                                            : ::dup2(channel, kChannelFd) == kChannelFd;
  if (placed) ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

// The numbers after "NSpid:" in /proc/PID/status: the id in each pid namespace, outermost first.
std::vector<pid_t> namespace_pids(pid_t pid) {
  std::vector<pid_t> pids;
  auto status = read_file("/proc/" + std::to_string(pid) + "/status");
  if (!status.ok()) return pids;
  const size_t at = status->find("\nNSpid:");
  if (at == std::string::npos) return pids;
  std::istringstream line(status->substr(at + 7, status->find('\n', at + 1) - at - 7));
  for (pid_t id; line >> id;) pids.push_back(id);
  return pids;
}

}  // namespace

Result<pid_t> start_self(unsigned long namespaces, const std::vector<std::string>& args,
                         int channel) {
  std::vector<std::string> strings = {"dvs-local"};
  strings.insert(strings.end(), args.begin(), args.end());
  const auto argv = pointers(strings);
  const long pid = ::syscall(SYS_clone, namespaces | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
  if (pid < 0) return errno_error("cannot create namespaces");
  if (pid == 0) become(argv, channel);
  return static_cast<pid_t>(pid);
}

Result<pid_t> start_logged(const std::vector<std::string>& argv, const std::string& log) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, log.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int err =
      ::posix_spawn(&pid, argv[0].c_str(), &actions, &attributes, pointers(argv).data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (err != 0) return errno_error("cannot start " + argv[0], err);
  return pid;
}

Status run_tool(const std::vector<std::string>& argv) {
  ChildOptions options;
  options.argv = argv;
  options.capture_output = true;
  options.timeout = kToolLimit;
  DVS_ASSIGN(const ChildResult result, run_child_blocking(options));
  if (result.ok()) return {};
  std::string command;
  for (const auto& argument : argv) command += (command.empty() ? "" : " ") + argument;
  return Error(Code::kInternal, "'" + command + "': " + result.describe() + ": " + result.output);
}

Result<uint64_t> start_time(pid_t pid) {
  DVS_ASSIGN(const std::string stat, read_file("/proc/" + std::to_string(pid) + "/stat"));
  // The fields after the command's name, which may hold anything, begin behind the last ')'.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string skipped;
  uint64_t time = 0;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  if (!(fields >> time)) return Error(Code::kCorrupt, "cannot read a process's start time");
  return time;
}

std::optional<UniqueFd> open_process(pid_t pid, uint64_t expected_start) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!pidfd.valid()) return std::nullopt;
  const auto time = start_time(pid);
  if (!time.ok() || *time != expected_start) return std::nullopt;
  return pidfd;
}

Status await_end(int pidfd, std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{pidfd, POLLIN, 0};
    const int ready = left.count() > 0 ? ::poll(&waiting, 1, static_cast<int>(left.count())) : 0;
    if (ready > 0) return {};
    if (ready == 0) return Error(Code::kTimeout, "a killed process does not end");
    if (errno != EINTR) return errno_error("cannot wait for a process");
  }
}

std::vector<Child> children_of(pid_t parent) {
  std::vector<Child> children;
  const auto level = namespace_pids(parent).size();
  const std::string id = std::to_string(parent);
  auto list = read_file("/proc/" + id + "/task/" + id + "/children");
  if (!list.ok()) return children;
  std::istringstream ids(*list);
  for (pid_t pid; ids >> pid;) {
    const auto pids = namespace_pids(pid);
    if (level > 0 && pids.size() >= level) children.push_back({pid, pids[level - 1]});
  }
  return children;
}

}  // namespace dvs::local
