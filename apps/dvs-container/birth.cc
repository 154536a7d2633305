#include "birth.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace dvs::helper {

Result<BirthGroups> BirthGroups::open(const std::vector<std::string>& procs_files) {
  BirthGroups groups;
  for (const auto& file : procs_files) {
    const std::string dir = file.substr(0, file.rfind('/'));
    UniqueFd tasks(::open((dir + "/tasks").c_str(), O_WRONLY | O_CLOEXEC));
    if (tasks.valid()) {
      groups.v1_tasks_.push_back(std::move(tasks));
      continue;
    }
    if (groups.v2_dir_.valid()) return Error(Code::kInvalid, "two v2 cgroups: " + file);
    groups.v2_dir_.reset(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!groups.v2_dir_.valid()) return errno_error("cannot open cgroup " + dir);
  }
  return groups;
}

Result<pid_t> BirthGroups::fork() const {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  if (v2_dir_.valid()) {
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = static_cast<uint64_t>(v2_dir_.get());
  }
  // clone3 knows of no buffers or locks of libc: none are in use in this one-threaded program.
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid < 0) return errno_error("cannot create a process");
  return static_cast<pid_t>(pid);
}

Status BirthGroups::join() const {
  for (const auto& tasks : v1_tasks_) {
    if (::write(tasks.get(), "0", 1) != 1) return errno_error("cannot join the cgroup");
  }
  return {};
}

}  // namespace dvs::helper
