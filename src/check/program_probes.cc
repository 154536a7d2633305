#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "base/child.h"
#include "check/probes.h"

namespace dvs {
namespace {

constexpr const char* kOwnCriu = "/usr/local/lib/dvs/criu/criu";

bool is_program(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

// Its output, when it ended well; else the last line that it wrote.
Result<std::string> output_of(const std::string& program, const std::string& argument) {
  ChildOptions options;
  options.argv = {program, argument};
  options.capture_output = true;
  options.timeout = std::chrono::seconds(20);
  DVS_ASSIGN(ChildResult result, run_child_blocking(std::move(options)));
  std::string& text = result.output;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (result.ok()) return text;
  const std::string last = text.substr(text.rfind('\n') + 1);
  return Error(Code::kUnsupported, last.empty() ? result.describe() : last);
}

// "Version: 4.2.1\nGitID: ..." -> "4.2.1".
std::string criu_version(const std::string& text) {
  const size_t at = text.find("Version: ");
  if (at == std::string::npos) return {};
  const size_t begin = at + 9;
  return text.substr(begin, text.find_first_of(" \n", begin) - begin);
}

bool at_least_4_2(const std::string& version) {
  int major = 0, minor = 0;
  if (std::sscanf(version.c_str(), "%d.%d", &major, &minor) < 1) return false;
  return major > 4 || (major == 4 && minor >= 2);
}

}  // namespace

std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream dirs((path != nullptr ? std::string(path) : "/usr/bin:/bin") +
                          ":/usr/sbin:/sbin");
  for (std::string dir; std::getline(dirs, dir, ':');) {
    if (!dir.empty() && is_program(dir + "/" + name)) return dir + "/" + name;
  }
  return {};
}

std::string find_criu() {
  const char* configured = std::getenv("DVS_CRIU");
  if (configured != nullptr && *configured != '\0') return configured;
  const std::string in_path = find_program("criu");
  if (!in_path.empty()) return in_path;
  return is_program(kOwnCriu) ? kOwnCriu : "";
}

namespace probe {

Feature run_tmpfs() {
  struct statfs run {};
  if (::statfs("/run", &run) != 0 || run.f_type != TMPFS_MAGIC) {
    return degraded("run-tmpfs",
                    "/run is not a tmpfs: migrations of this host's own dvsd are slower (the "
                    "nodes of `dvs up` bring their own)",
                    "mount -t tmpfs tmpfs /run");
  }
  const uint64_t free_mib = uint64_t{run.f_bavail} * static_cast<uint64_t>(run.f_bsize) >> 20;
  const std::string detail = std::to_string(free_mib) + " MiB free on /run";
  if (free_mib >= 64) return ok("run-tmpfs", detail);
  return degraded("run-tmpfs", detail + ": images of small processes only",
                  "mount -o remount,size=1g /run");
}

Feature criu() {
  const std::string install = "run scripts/setup, or set DVS_CRIU to a criu >= 4.2";
  const std::string program = find_criu();
  if (program.empty()) return missing("criu", "not found", install);
  const auto version_text = output_of(program, "--version");
  if (!version_text.ok()) {
    return missing("criu", program + ": " + version_text.error().message(), install);
  }
  const std::string version = criu_version(*version_text);
  if (!at_least_4_2(version)) {
    return missing("criu", program + " is version '" + version + "', older than 4.2", install);
  }
  const auto check = output_of(program, "check");
  if (check.ok()) return ok("criu", version + " at " + program);
  return missing("criu", program + " check: " + check.error().message(),
                 "run `" + program + " check` as root and see what it lacks");
}

Feature etcd() {
  const std::string program = find_program("etcd");
  if (!program.empty()) return ok("etcd", program);
  return degraded("etcd", "not installed: `dvs up` cannot start a local cluster",
                  "install etcd, or point dvsd at a running one");
}

Feature ip_tool() {
  const std::string program = find_program("ip");
  if (!program.empty()) return ok("ip", program);
  return degraded("ip", "not installed: `dvs up` cannot start a local cluster", "install iproute2");
}

}  // namespace probe
}  // namespace dvs
