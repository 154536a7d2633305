#include "local/teardown.h"

#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/types.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <filesystem>
#include <sstream>
#include <system_error>
#include <thread>
#include <vector>

#include "base/file.h"
#include "local/layout.h"

namespace dvs::local {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::seconds kLimit{10};
constexpr std::chrono::milliseconds kPoll{2};

// The mount points of the hierarchies that can freeze: v1's freezer, and v2.
std::vector<std::string> hierarchies() {
  std::vector<std::string> mounts;
  auto table = read_file("/proc/self/mountinfo");
  if (!table.ok()) return mounts;
  std::istringstream lines(*table);
  for (std::string line; std::getline(lines, line);) {
    const size_t separator = line.find(" - ");
    if (separator == std::string::npos) continue;
    std::istringstream left(line), right(line.substr(separator + 3));
    std::string skipped, mount, type, source, options;
    left >> skipped >> skipped >> skipped >> skipped >> mount;
    right >> type >> source >> options;
    const bool freezer = ("," + options + ",").find(",freezer,") != std::string::npos;
    if (type == "cgroup2" || (type == "cgroup" && freezer)) mounts.push_back(mount);
  }
  return mounts;
}

void kill_processes(const std::string& group) {
  auto procs = read_file(group + "/cgroup.procs");
  if (!procs.ok()) return;
  std::istringstream ids(*procs);
  for (pid_t pid; ids >> pid;) {
    if (pid > 0) ::kill(pid, SIGKILL);  // 0: of a pid namespace that is not ours
  }
}

// Parents are thawed first, as a frozen one keeps its children frozen; killed before the thaw, so
// that no process runs another instruction. What is not empty yet stays for the next sweep.
void sweep(const std::string& group) {
  kill_processes(group);
  (void)write_control_file(group + "/freezer.state", "THAWED");
  (void)write_control_file(group + "/cgroup.freeze", "0");
  std::error_code ec;
  for (fs::directory_iterator it(group, ec), end; !ec && it != end; it.increment(ec)) {
    if (it->is_directory(ec)) sweep(it->path().string());
  }
  ::rmdir(group.c_str());
}

}  // namespace

Status clear_cgroups(const std::string& group) {
  const auto deadline = std::chrono::steady_clock::now() + kLimit;
  for (const auto& mount : hierarchies()) {
    const std::string path = fmt::format("{}/{}", mount, group);
    while (::access(path.c_str(), F_OK) == 0) {
      sweep(path);
      if (::access(path.c_str(), F_OK) != 0) break;
      if (std::chrono::steady_clock::now() > deadline) {
        return Error(Code::kTimeout, "processes in " + path + " do not end");
      }
      std::this_thread::sleep_for(kPoll);
    }
    ::rmdir((mount + "/dvs").c_str());  // all clusters share it; stays unless this was the last
  }
  return {};
}

Status remove_files(const std::string& dir) {
  DVS_TRY(remove_tree(etcd_dir(dir)));
  DVS_TRY(remove_tree(nodes_dir(dir)));
  DVS_TRY(remove_tree(tls_dir(dir)));
  for (const auto& file : {etcd_log(dir), supervisor_log(dir), control_socket(dir), pid_file(dir),
                           pid_file(dir) + ".new", config_file(dir) + ".new", config_file(dir)}) {
    DVS_TRY(remove_tree(file));
  }
  return {};
}

}  // namespace dvs::local
