#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "check/probes.h"
#include "container/cgroup.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

namespace dvs::probe {

Feature freezer() {
  const auto cgroups = Cgroups::detect();
  if (cgroups.ok()) {
    return ok("freezer", std::string(cgroups->v2() ? "cgroup v2" : "cgroup v1 freezer") + " at " +
                             cgroups->mount_point());
  }
  return missing("freezer", cgroups.error().message(),
                 "mount a cgroup hierarchy: mount -t cgroup2 none /sys/fs/cgroup");
}

Feature pidfd() {
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!self.valid()) {
    return missing("pidfd", std::string("pidfd_open: ") + std::strerror(errno),
                   "use Linux 5.6 or later, and a sandbox that lets it through");
  }
  const UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, self.get(), self.get(), 0)));
  if (copy.valid()) return ok("pidfd", "pidfd_open and pidfd_getfd work");
  return degraded("pidfd", std::string("pidfd_getfd: ") + std::strerror(errno),
                  "use Linux 5.6 or later, and a sandbox that lets it through");
}

Feature futex_waitv() {
  ::syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, 0);
  if (errno != ENOSYS && errno != EPERM) return ok("futex-waitv", "works");
  return degraded("futex-waitv", "a thread cannot wait for several words at once",
                  "use Linux 5.16 or later");
}

Feature process_vm() {
  char from[] = "page", to[sizeof(from)] = {};
  const iovec local{to, sizeof(to)}, remote{from, sizeof(from)};
  if (::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0) == ssize_t{sizeof(from)} &&
      std::memcmp(from, to, sizeof(from)) == 0) {
    return ok("process-vm-readv", "works");
  }
  return missing(
      "process-vm-readv", std::string("it fails: ") + std::strerror(errno),
      "use a kernel with CONFIG_CROSS_MEMORY_ATTACH, and a sandbox that lets it through");
}

}  // namespace dvs::probe
