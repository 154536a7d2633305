#include "inside.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "container/process_ids.h"

namespace dvs::helper {
namespace {

Status check_start_time(const Options& options) {
  if (options.init_start_time == 0) return {};
  DVS_ASSIGN(const uint64_t start_time, process_start_time(options.init));
  if (start_time == options.init_start_time) return {};
  return Error(Code::kNotFound, "the container's first process " + std::to_string(options.init) +
                                    " is gone, its id was used again");
}

}  // namespace

Status enter_container(const Options& options) {
  DVS_ASSIGN(UniqueFd init, open_process(options.init));
  DVS_TRY(check_start_time(options));
  const std::string root_path = "/proc/" + std::to_string(options.init) + "/root";
  UniqueFd root(::open(root_path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return errno_error("cannot open " + root_path);
  if (::setns(init.get(), CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME | CLONE_NEWIPC) != 0) {
    return errno_error("cannot enter the namespaces of process " + std::to_string(options.init));
  }
  if (::fchdir(root.get()) != 0 || ::chroot(".") != 0) {
    return errno_error("cannot change to the container's root directory");
  }
  return {};
}

Status keep_pid_counter(const PidRange& pids) {
  return pids.contains(::getpid() + 1) ? Status() : reset_pid_counter(pids);
}

Status reset_pid_counter(const PidRange& pids) {
  return write_control_file("/proc/sys/kernel/ns_last_pid", std::to_string(pids.first - 1));
}

Result<UniqueFd> open_process(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd.valid()) return errno_error("cannot open process " + std::to_string(pid));
  return fd;
}

}  // namespace dvs::helper
