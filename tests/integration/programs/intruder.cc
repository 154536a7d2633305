// intruder PID DC DCID: tries, as root in its DC, to reach what belongs to the DC `DC` beside it on
// the same node, one of whose processes has the id PID on the node, and to the node. Says of each
// attempt how it ended: "ATTEMPT: refused" or "ATTEMPT: REACHED".
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "common.h"

namespace {

std::string victim_dc;
int victim_pid = 0;

bool opens(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

bool connects(const std::string& path) {
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const bool connected = connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return connected;
}

bool reads_memory() {
  char here[16];
  const iovec local{here, sizeof here};
  const iovec remote{here, sizeof here};
  return process_vm_readv(victim_pid, &local, 1, &remote, 1, 0) > 0;
}

// The node's files lie below what was mounted for the DC; whoever may unmount that, sees them.
bool uncovers(const std::string& path) {
  for (const char* cover : {"/run/dvs/dc", "/run/dvs", "/run"}) umount2(cover, MNT_DETACH);
  struct stat info {};
  return stat(path.c_str(), &info) == 0;
}

// Here are the DC's first process and this one; and at first, for some 30 ms, the engine, which
// looks at what the kernel can do.
bool sees_others_now() {
  DIR* const all = opendir("/proc");
  bool others = all == nullptr;
  while (const dirent* entry = all != nullptr ? readdir(all) : nullptr) {
    const int pid = atoi(entry->d_name);
    others |= pid != 0 && pid != 1 && pid != getpid();
  }
  if (all != nullptr) closedir(all);
  return others;
}

bool sees_others() {
  for (int tries = 0; tries < 500; ++tries) {
    if (!sees_others_now()) return false;
    usleep(10'000);
  }
  return true;
}

bool mounts() {
  mkdir("/run/dvs/dc/mine", 0755);
  if (mount("none", "/run/dvs/dc/mine", "tmpfs", 0, nullptr) != 0) return false;
  umount2("/run/dvs/dc/mine", MNT_DETACH);
  return true;
}

bool makes_device() {
  const char* path = "/run/dvs/dc/kmsg";
  const bool made = mknod(path, S_IFCHR | 0600, makedev(1, 11)) == 0 && opens(path);
  unlink(path);
  return made;
}

// Whatever its file lets root do without a capability.
bool writes(const char* path) {
  const int fd = open(path, O_WRONLY | O_APPEND);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

bool creates(const char* path) {
  const int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd < 0) return false;
  close(fd);
  unlink(path);
  return true;
}

bool finds_in(const char* dir, const std::function<bool(const char*)>& wanted) {
  DIR* const all = opendir(dir);
  bool found = false;
  while (const dirent* entry = all != nullptr ? readdir(all) : nullptr) {
    if (entry->d_name[0] != '.') found |= wanted(entry->d_name);
  }
  if (all != nullptr) closedir(all);
  return found;
}

bool opens_disk() {
  return finds_in("/dev", [](const char* name) {
    const std::string path = "/dev/" + std::string(name);
    struct stat info {};
    return stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode) && opens(path);
  });
}

// Endpoint 10 is bound in the other DC, and not in this one.
int send_to(int endpoint) {
  message m{};
  return dvk_send_T(endpoint, &m, 100);
}

void attempt(const char* what, const std::function<bool()>& reaches) {
  errno = 0;
  const bool reached = reaches();
  printf("%s: %s\n", what, reached ? "REACHED" : "refused");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  dvs::programs::lines();
  victim_pid = atoi(argv[1]);
  victim_dc = argv[2];
  const int other_dcid = atoi(argv[3]);
  const std::string proc = "/proc/" + std::string(argv[1]);
  const std::string node_dir = "/run/dvs/dcs/" + victim_dc + "/shared/region";
  char bytes[8];
  proc_usr_t info;
  attempt("getprocinfo", [&] { return dvk_getprocinfo(other_dcid, 10, &info) != EDVSBADDCID; });
  attempt("bind", [&] { return dvk_bind(other_dcid, 51) != EDVSBADDCID; });
  attempt("wakeup", [&] { return dvk_wakeup(other_dcid, 10) != EDVSBADDCID; });
  attempt("unbind", [&] { return dvk_unbind(other_dcid, 10) != EDVSBADDCID; });
  attempt("migrate", [&] { return dvk_migr_start(other_dcid, 10) != EDVSBADDCID; });
  attempt("lclbind",
          [&] { return dvk_lclbind(dvs::programs::my_dc(), victim_pid, 52) != EDVSBADPID; });
  attempt("send", [&] { return send_to(10) != EDVSDSTDIED; });
  attempt("notify", [&] { return dvk_notify(10) != EDVSDSTDIED; });
  attempt("vcopy", [&] { return dvk_vcopy(10, bytes, SELF, bytes, sizeof bytes) != EDVSDSTDIED; });
  attempt("getep", [&] { return dvk_getep(victim_pid) != EDVSNOTBIND; });
  attempt("see in proc", [&] { return access(proc.c_str(), F_OK) == 0; });
  attempt("see others", sees_others);
  attempt("trace the first process", [&] { return ptrace(PTRACE_ATTACH, 1, 0, 0) == 0; });
  attempt("the first process's root", [&] { return access("/proc/1/root/run", F_OK) == 0; });
  attempt("kill", [&] { return kill(victim_pid, 0) == 0 || errno != ESRCH; });
  attempt("ptrace", [&] { return ptrace(PTRACE_ATTACH, victim_pid, 0, 0) == 0; });
  attempt("read memory", reads_memory);
  attempt("open region", [&] { return opens(node_dir); });
  attempt("dvsd's socket", [&] { return connects("/run/dvs/dvsd.sock"); });
  attempt("node's files", [&] { return access("/run/dvs/node.json", F_OK) == 0; });
  attempt("images", [&] { return access("/run/dvs/engine", F_OK) == 0; });
  attempt("core pattern", [&] { return writes("/proc/sys/kernel/core_pattern"); });
  attempt("sysrq", [&] { return writes("/proc/sysrq-trigger"); });
  attempt("node's programs", [&] { return creates("/usr/bin/dvs-intruder"); });
  attempt("node's configuration", [&] { return writes("/etc/passwd"); });
  attempt("cgroups", [&] { return finds_in("/sys/fs/cgroup", [](const char*) { return true; }); });
  attempt("disk", opens_disk);
  attempt("shared memory of others",
          [&] { return finds_in("/dev/shm", [](const char*) { return true; }); });
  attempt("make a device", makes_device);
  attempt("mount", mounts);
  attempt("uncover", [&] { return uncovers(node_dir); });
  printf("all tried\n");
  for (;;) pause();
}
