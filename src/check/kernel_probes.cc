#include <fcntl.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/file.h"
#include "check/probes.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

namespace dvs::probe {
namespace {

// What a new pid namespace counts up to on Linux >= 6.14; before, pid_max is the whole machine's.
constexpr long kWantedPidMax = 4194304;

Feature namespace_kind(const std::string& kind, int flag, const std::string& config,
                       const std::string& purpose, bool required) {
  const std::string name = kind + "-namespace";
  const int err = in_child([flag] { return ::unshare(flag) == 0 ? 0 : errno; });
  if (err == 0) return ok(name, "can be created");
  const std::string detail = std::string("cannot be created (") +
                             (err > 0 ? std::strerror(err) : "no process") + "): " + purpose;
  const std::string remedy = err == EPERM ? "run as root, outside of a restricted container"
                                          : "use a kernel with " + config;
  return required ? missing(name, detail, remedy) : degraded(name, detail, remedy);
}

// System calls only.
long read_pid_max() {
  char text[32] = {};
  const int fd = ::open("/proc/sys/kernel/pid_max", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const bool read = ::read(fd, text, sizeof(text) - 1) > 0;
  ::close(fd);
  return read ? std::strtol(text, nullptr, 10) : 0;
}

// Whether a new pid namespace has its own, large pid_max.
bool pid_max_is_per_namespace() {
  return in_child([] {
           if (::unshare(CLONE_NEWPID) != 0) return 1;
           return in_child([] { return read_pid_max() >= kWantedPidMax ? 0 : 1; });
         }) == 0;
}

}  // namespace

Feature root() {
  if (::geteuid() == 0) return ok("root", "running as root");
  return missing("root", "running as user " + std::to_string(::geteuid()),
                 "run as root: namespaces, cgroups and checkpoints need it");
}

Feature kernel() {
  utsname host{};
  int major = 0, minor = 0;
  if (::uname(&host) != 0 || std::sscanf(host.release, "%d.%d", &major, &minor) != 2) {
    return degraded("kernel", "its version is not understood", "use Linux 6.1 or later");
  }
  const std::string detail = std::string("Linux ") + host.release;
  const int version = major * 1000 + minor;
  if (version >= 6007) return ok("kernel", detail);
  if (version >= 5006) {
    return degraded("kernel", detail + " is older than what was tried",
                    "use Linux 6.7 or later for tracking of changed pages");
  }
  return missing("kernel", detail + " has no time namespaces", "use Linux 6.7 or later");
}

Feature architecture() {
  utsname host{};
  const std::string machine = ::uname(&host) == 0 ? host.machine : "unknown";
  if (machine == "x86_64") return ok("architecture", machine);
  if (sizeof(void*) == 8) {
    return degraded("architecture", machine + ": only x86_64 was tried", "report how it went");
  }
  return missing("architecture", machine + " is not 64-bit", "use a 64-bit machine");
}

Feature pid_namespace() {
  return namespace_kind("pid", CLONE_NEWPID, "CONFIG_PID_NS", "a DC needs one on each node", true);
}

Feature mount_namespace() {
  return namespace_kind("mount", CLONE_NEWNS, "namespaces", "a DC needs one on each node", true);
}

Feature network_namespace() {
  return namespace_kind("network", CLONE_NEWNET, "CONFIG_NET_NS",
                        "only a local cluster (`dvs up`) needs it", false);
}

Feature time_namespace() {
  return namespace_kind("time", CLONE_NEWTIME, "CONFIG_TIME_NS",
                        "a DC needs one so that moved processes see no clock jump", true);
}

Feature pid_max() {
  const long global = read_pid_max();
  if (global >= kWantedPidMax) return ok("pid-max", std::to_string(global));
  if (pid_max_is_per_namespace()) {
    return ok("pid-max",
              "4194304 in each pid namespace (the host's own: " + std::to_string(global) + ")");
  }
  return degraded("pid-max",
                  std::to_string(global) +
                      " for the whole machine: few process ids to share "
                      "between the nodes of a DC",
                  "sysctl -w kernel.pid_max=4194304");
}

}  // namespace dvs::probe
