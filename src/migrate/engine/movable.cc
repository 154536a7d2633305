#include "migrate/engine/movable.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/file.h"
#include "container/process_ids.h"

namespace dvs {
namespace {

// Of the kernel's kinds of descriptors without a file the engine knows these.
constexpr std::array<std::string_view, 8> kKnownKinds = {
    "eventfd", "eventpoll", "inotify", "fanotify", "signalfd", "timerfd", "pidfd", "bpf-map"};
constexpr std::string_view kKindPrefix = "anon_inode:";

// Major numbers of character devices that every machine has: memory (null, zero, random) and
// terminals.
constexpr unsigned kMemory = 1;
constexpr unsigned kConsole = 4;
constexpr unsigned kTerminals = 5;
constexpr unsigned kFirstPty = 136;
constexpr unsigned kLastPty = 143;

std::string proc(pid_t pid, const std::string& name) {
  return "/proc/" + std::to_string(pid) + "/" + name;
}

bool is_everywhere(unsigned device_major) {
  return device_major == kMemory || device_major == kConsole || device_major == kTerminals ||
         (device_major >= kFirstPty && device_major <= kLastPty);
}

// What is wrong with a descriptor: what it is, and what to do. Empty: nothing.
std::string fault_of(const std::string& path, std::string_view target) {
  if (target.starts_with(kKindPrefix)) {
    std::string kind(target.substr(kKindPrefix.size()));
    std::erase_if(kind, [](char c) { return c == '[' || c == ']'; });
    if (std::find(kKnownKinds.begin(), kKnownKinds.end(), kind) != kKnownKinds.end()) return {};
    const char* advice = kind == "io_uring" ? ": let it use epoll" : "";
    return kind + "; the engine cannot move one" + advice;
  }
  struct stat info {};
  if (!target.starts_with("/dev/") || ::stat(path.c_str(), &info) != 0) return {};
  const bool device =
      S_ISBLK(info.st_mode) || (S_ISCHR(info.st_mode) && !is_everywhere(major(info.st_rdev)));
  return device ? "the device " + std::string(target) + "; devices stay with their machine" : "";
}

Status check_descriptors(const mover::ProcessId& process) {
  const std::string directory = proc(process.host_pid, "fd");
  const auto names = list_dir(directory);
  for (const std::string& name : names.ok() ? *names : std::vector<std::string>{}) {
    char target[PATH_MAX];
    const std::string path = directory + "/" + name;
    const ssize_t size = ::readlink(path.c_str(), target, sizeof target);
    if (size <= 0) continue;
    const std::string fault = fault_of(path, {target, static_cast<size_t>(size)});
    if (fault.empty()) continue;
    return Error(Code::kUnsupported, "descriptor " + name + " of process " +
                                         std::to_string(process.dc_pid) + " is " + fault);
  }
  return {};
}

Status check_state(const mover::ProcessId& process) {
  const std::string who = "process " + std::to_string(process.dc_pid);
  const auto status = read_file(proc(process.host_pid, "status"));
  if (!status.ok()) return {};
  const size_t tracer = status->find("\nTracerPid:\t");
  if (tracer != std::string::npos && (*status)[tracer + 12] != '0') {
    return Error(Code::kUnsupported, who + " is being traced by a debugger; detach it first");
  }
  const auto maps = read_file(proc(process.host_pid, "maps"));
  if (maps.ok() && maps->find(" /SYSV") != std::string::npos) {
    return Error(Code::kUnsupported,
                 who + " uses System V shared memory; the engine cannot move it: use a file");
  }
  return {};
}

// The engine follows the tree from its root; whose parent has ended is not in it any more.
Status check_parent(const mover::ProcessId& process, const std::vector<mover::ProcessId>& all,
                    pid_t root) {
  if (process.dc_pid == root) return {};
  const pid_t parent = parent_of(process.host_pid);
  const bool inside = std::any_of(all.begin(), all.end(),
                                  [&](const auto& each) { return each.host_pid == parent; });
  if (parent == 0 || inside) return {};
  return Error(Code::kUnsupported,
               "process " + std::to_string(process.dc_pid) +
                   " has lost its parent and does not belong to the tree that moves; end it, or "
                   "let its parent live");
}

}  // namespace

Status check_movable(const std::vector<mover::ProcessId>& processes, pid_t root) {
  for (const mover::ProcessId& process : processes) {
    DVS_TRY(check_state(process));
    DVS_TRY(check_descriptors(process));
    DVS_TRY(check_parent(process, processes, root));
  }
  return {};
}

}  // namespace dvs
