#include "view.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"
#include "container/paths.h"

namespace dvs::helper {
namespace {

struct Device {
  const char* path;
  unsigned minor;
};

struct Link {
  const char* path;
  const char* target;
};

// Each DC has its own, empty at first.
constexpr const char* kPrivate[] = {"/tmp", "/var/tmp", "/run", "/dev"};
constexpr Device kMemoryDevices[] = {
    {"/dev/null", 3}, {"/dev/zero", 5}, {"/dev/full", 7}, {"/dev/random", 8}, {"/dev/urandom", 9}};
constexpr Link kDeviceLinks[] = {{"/dev/fd", "/proc/self/fd"},
                                 {"/dev/stdin", "/proc/self/fd/0"},
                                 {"/dev/stdout", "/proc/self/fd/1"},
                                 {"/dev/stderr", "/proc/self/fd/2"},
                                 {"/dev/ptmx", "pts/ptmx"}};
// What concerns the whole machine, and root may write without any capability.
constexpr const char* kReadOnly[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/bus", "/proc/fs",
                                     "/proc/irq"};
// The same that other container engines hide, and the cgroups: they name other DCs and are how
// these are frozen.
constexpr const char* kHidden[] = {"/proc/acpi",
                                   "/proc/asound",
                                   "/proc/interrupts",
                                   "/proc/kcore",
                                   "/proc/keys",
                                   "/proc/latency_stats",
                                   "/proc/sched_debug",
                                   "/proc/scsi",
                                   "/proc/timer_list",
                                   "/proc/timer_stats",
                                   "/sys/devices/virtual/powercap",
                                   "/sys/firmware",
                                   "/sys/fs/cgroup"};
// Writing it needs a capability that only what enters a DC for DVS has.
constexpr const char* kLastPid = "/proc/sys/kernel/ns_last_pid";

Status mount_on(const char* type, const std::string& target, unsigned long flags,
                const char* options) {
  if (::mount(type, target.c_str(), type, flags, options) == 0) return {};
  return errno_error("cannot mount " + target);
}

Result<UniqueFd> detached_copy(const std::string& path) {
  UniqueFd tree(
      ::open_tree(AT_FDCWD, path.c_str(), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE));
  if (!tree.valid()) return errno_error("cannot take " + path + " into the container");
  return tree;
}

Status make_read_only(const UniqueFd& tree) {
  mount_attr attributes{};
  attributes.attr_set = MOUNT_ATTR_RDONLY;
  if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
                      sizeof attributes) == 0) {
    return {};
  }
  return errno_error("cannot make the node's files read-only");
}

Status attach(const UniqueFd& tree, const std::string& target) {
  if (::move_mount(tree.get(), "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) == 0)
    return {};
  return errno_error("cannot mount " + target);
}

bool is_real_directory(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_below(const std::string& path, const std::string& dir) {
  return path == dir || path.starts_with(dir + "/");
}

bool is_private(const std::string& path) {
  return std::any_of(std::begin(kPrivate), std::end(kPrivate),
                     [&](const char* dir) { return is_below(path, dir); });
}

// Something of the node, taken before it is covered.
struct Piece {
  UniqueFd tree;
  std::string path;
};
using Pieces = std::vector<Piece>;

Result<Pieces> take_pieces(const Options& options) {
  Pieces pieces;
  DVS_ASSIGN(UniqueFd shared, detached_copy(paths::shared_dir(options.dir)));
  pieces.push_back({std::move(shared), paths::kDcShared});
  for (const std::string& path : options.shown) {
    if (!is_private(path)) continue;  // it is in sight
    DVS_ASSIGN(UniqueFd tree, detached_copy(path));
    DVS_TRY(make_read_only(tree));
    pieces.push_back({std::move(tree), path});
  }
  for (const std::string& path : options.writable) {
    DVS_ASSIGN(UniqueFd tree, detached_copy(path));
    pieces.push_back({std::move(tree), path});
  }
  return pieces;
}

Status make_private_directories() {
  for (const char* dir : kPrivate) {
    if (!is_real_directory(dir)) continue;
    const bool for_all = std::string_view(dir).ends_with("tmp");
    const unsigned long flags = MS_NOSUID | (std::string_view(dir) == "/dev" ? 0 : MS_NODEV);
    DVS_TRY(mount_on("tmpfs", dir, flags, for_all ? "mode=1777" : "mode=755"));
  }
  return {};
}

Status make_node(const char* path, unsigned major, unsigned minor) {
  // Not by mknod's mode alone: the creator's umask takes bits away from that.
  if (::mknod(path, S_IFCHR | 0666, makedev(major, minor)) == 0 && ::chmod(path, 0666) == 0) {
    return {};
  }
  return errno_error(std::string("cannot create ") + path);
}

// The node's own would let root in here read and write its disks.
Status make_devices() {
  for (const Device& device : kMemoryDevices) DVS_TRY(make_node(device.path, 1, device.minor));
  DVS_TRY(make_node("/dev/tty", 5, 0));
  for (const char* dir : {"/dev/pts", "/dev/shm", "/dev/mqueue"}) DVS_TRY(make_dirs(dir));
  DVS_TRY(
      mount_on("devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620"));
  DVS_TRY(mount_on("tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777"));
  DVS_TRY(mount_on("mqueue", "/dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr));
  for (const Link& link : kDeviceLinks) {
    if (::symlink(link.target, link.path) != 0) {
      return errno_error(std::string("cannot create ") + link.path);
    }
  }
  return {};
}

Status hide(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  if (S_ISDIR(info.st_mode)) {
    return mount_on("tmpfs", path, MS_RDONLY | MS_NOSUID | MS_NODEV, "size=4k,mode=755");
  }
  if (::mount("/dev/null", path.c_str(), nullptr, MS_BIND, nullptr) == 0) return {};
  return errno_error("cannot cover " + path);
}

Status protect(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return {};
  DVS_ASSIGN(const UniqueFd tree, detached_copy(path));
  DVS_TRY(make_read_only(tree));
  return attach(tree, path);
}

Status mount_proc() {
  DVS_TRY(mount_on("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr));
  DVS_ASSIGN(const UniqueFd last_pid, detached_copy(kLastPid));
  for (const char* path : kReadOnly) DVS_TRY(protect(path));
  return attach(last_pid, kLastPid);
}

// A node that keeps its files elsewhere than below /run: its other containers' directories
// (RUN/dcs, see paths.h) are still in sight, unless covered too.
std::string directories_of_containers(const std::string& dir) {
  const std::string parent = dir.substr(0, dir.rfind('/'));
  return parent.ends_with("/dcs") ? parent : std::string();
}

Status hide_all(const Options& options) {
  for (const char* path : kHidden) DVS_TRY(hide(path));
  for (const std::string& path : options.hidden) DVS_TRY(hide(path));
  return hide(directories_of_containers(options.dir));
}

Status attach_pieces(const Pieces& pieces) {
  for (const Piece& piece : pieces) {
    if (is_private(piece.path)) DVS_TRY(make_dirs(piece.path));
    DVS_TRY(attach(piece.tree, piece.path));
  }
  return {};
}

}  // namespace

Status build_view(const Options& options) {
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_error("cannot make the container's mounts private");
  }
  DVS_ASSIGN(const Pieces pieces, take_pieces(options));
  const UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return errno_error("cannot open /");
  DVS_TRY(make_read_only(root));
  DVS_TRY(make_private_directories());
  DVS_TRY(make_devices());
  DVS_TRY(mount_proc());
  DVS_TRY(hide_all(options));
  return attach_pieces(pieces);
}

}  // namespace dvs::helper
