#include "container/cgroup.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <sstream>

#include "base/file.h"
#include "container/process_ids.h"

namespace dvs {
namespace fs = std::filesystem;
using std::chrono::steady_clock;
namespace {

constexpr std::chrono::seconds kKillLimit{30};

struct Mount {
  std::string point;
  std::string type;
  std::string options;  // of the file system, with commas around: ",rw,freezer,"
};

// "\040" and the like, as /proc/self/mountinfo writes blanks in a path.
std::string unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain.push_back(static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8)));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

Mount parse_mount(const std::string& line) {
  std::istringstream in(line);
  std::string field;
  Mount mount;
  for (int i = 0; i < 5 && in >> field; ++i) mount.point = field;
  while (in >> field && field != "-") continue;
  std::string source;
  std::string options;
  in >> mount.type >> source >> options;
  mount.point = unescape(mount.point);
  mount.options = "," + options + ",";
  return mount;
}

// Calls `step` on the executor, at once and then at growing intervals, until it gives a result.
class Poll : public std::enable_shared_from_this<Poll> {
 public:
  using Step = std::function<std::optional<Result<bool>>()>;
  Poll(Executor& executor, Step step, Done<bool> done)
      : timer_(executor), step_(std::move(step)), done_(std::move(done)) {}

  void start() {
    boost::asio::post(timer_.get_executor(), [self = shared_from_this()] { self->look(); });
  }

 private:
  void look() {
    if (auto result = step_()) return done_(std::move(*result));
    timer_.expires_after(pause_);
    pause_ = std::min(pause_ * 2, std::chrono::microseconds(5000));
    timer_.async_wait([self = shared_from_this()](auto) { self->look(); });
  }

  boost::asio::steady_timer timer_;
  std::chrono::microseconds pause_{20};
  Step step_;
  Done<bool> done_;
};

void poll(Executor& executor, Poll::Step step, Done<bool> done) {
  std::make_shared<Poll>(executor, std::move(step), std::move(done))->start();
}

Status request_freeze(const Cgroups& cgroups, const std::string& name) {
  return cgroups.v2() ? write_control_file(cgroups.dir(name) + "/cgroup.freeze", "1")
                      : write_control_file(cgroups.dir(name) + "/freezer.state", "FROZEN");
}

// A group that does not exist has no processes.
Result<std::vector<pid_t>> processes_if_any(const Cgroups& cgroups, const std::string& name) {
  auto pids = cgroups.processes(name);
  if (!pids && pids.error().code() == Code::kNotFound) return std::vector<pid_t>();
  return pids;
}

// One sweep: nothing of the group runs on while the signals are sent, so that no child can be
// forked behind our back, and what was killed while frozen executes nothing when it is thawed.
// Returns whether the group was found empty.
Result<bool> kill_sweep(const Cgroups& cgroups, const std::string& name) {
  DVS_ASSIGN(auto pids, processes_if_any(cgroups, name));
  if (pids.empty()) return true;
  DVS_TRY(request_freeze(cgroups, name));
  std::set<pid_t> killed;
  for (bool found_new = true; found_new;) {
    found_new = false;
    for (pid_t pid : pids) {
      if (!killed.insert(pid).second) continue;
      found_new = true;
      ::kill(pid, SIGKILL);
    }
    DVS_ASSIGN(pids, processes_if_any(cgroups, name));
  }
  DVS_TRY(cgroups.thaw(name));
  return false;
}

}  // namespace

Result<Cgroups> Cgroups::detect() {
  DVS_ASSIGN(const std::string text, read_file("/proc/self/mountinfo"));
  std::istringstream lines(text);
  std::optional<Cgroups> v2;
  for (std::string line; std::getline(lines, line);) {
    const Mount mount = parse_mount(line);
    if (!mount.type.starts_with("cgroup") || ::access(mount.point.c_str(), W_OK) != 0) continue;
    if (mount.type == "cgroup" && mount.options.find(",freezer,") != std::string::npos) {
      return at(mount.point, false);
    }
    if (mount.type == "cgroup2" && !v2) v2 = at(mount.point, true);
  }
  if (!v2)
    return Error(Code::kUnsupported, "no writable cgroup freezer (v1) or cgroup2 is mounted");
  return *v2;
}

Cgroups Cgroups::at(std::string mount_point, bool v2) {
  Cgroups cgroups;
  cgroups.mount_ = std::move(mount_point);
  cgroups.v2_ = v2;
  return cgroups;
}

std::string Cgroups::dir(const std::string& name) const { return mount_ + "/" + name; }

std::string Cgroups::kill_file(const std::string& name) const {
  return v2_ ? dir(name) + "/cgroup.kill" : procs_file(name);
}

std::string Cgroups::procs_file(const std::string& name) const {
  return dir(name) + "/cgroup.procs";
}

Status Cgroups::create(const std::string& name) const { return make_dirs(dir(name)); }

Status Cgroups::remove(const std::string& name) const {
  for (const auto& child : list(name)) DVS_TRY(remove(name + "/" + child));
  if (::rmdir(dir(name).c_str()) != 0 && errno != ENOENT) {
    return errno_error("cannot remove cgroup " + name);
  }
  return {};
}

std::vector<std::string> Cgroups::list(const std::string& name) const {
  std::vector<std::string> names;
  std::error_code ec;
  for (fs::directory_iterator it(dir(name), ec), end; !ec && it != end; it.increment(ec)) {
    std::error_code gone;
    if (it->is_directory(gone)) names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

void Cgroups::freeze(Executor& executor, const std::string& name, std::chrono::milliseconds limit,
                     Done<bool> done) const {
  const auto deadline = steady_clock::now() + limit;
  auto step = [cgroups = *this, name, deadline]() -> std::optional<Result<bool>> {
    // Asked for each time: v1 does not try again by itself with a task that could not stop.
    if (auto asked = request_freeze(cgroups, name); !asked) return asked.error();
    auto frozen = cgroups.frozen(name);
    if (!frozen || *frozen) return frozen;
    if (steady_clock::now() < deadline) return std::nullopt;
    if (auto thawed = cgroups.thaw(name); !thawed) return thawed.error();
    return Error(Code::kTimeout, "cgroup " + name + " did not freeze in time");
  };
  poll(executor, std::move(step), std::move(done));
}

Status Cgroups::thaw(const std::string& name) const {
  return v2_ ? write_control_file(dir(name) + "/cgroup.freeze", "0")
             : write_control_file(dir(name) + "/freezer.state", "THAWED");
}

Result<bool> Cgroups::frozen(const std::string& name) const {
  DVS_ASSIGN(const std::string text,
             read_file(dir(name) + (v2_ ? "/cgroup.events" : "/freezer.state")));
  return v2_ ? text.find("frozen 1") != std::string::npos : text == "FROZEN\n";
}

Result<std::vector<pid_t>> Cgroups::processes(const std::string& name) const {
  DVS_ASSIGN(const std::string text, read_file(procs_file(name)));
  return parse_pids(text);
}

void Cgroups::kill(Executor& executor, const std::string& name, Done<bool> done) const {
  const auto deadline = steady_clock::now() + kKillLimit;
  auto step = [cgroups = *this, name, deadline]() -> std::optional<Result<bool>> {
    auto empty = kill_sweep(cgroups, name);
    if (!empty || *empty) return empty;
    if (steady_clock::now() < deadline) return std::nullopt;
    return Error(Code::kTimeout, "processes in cgroup " + name + " do not die");
  };
  poll(executor, std::move(step), std::move(done));
}

}  // namespace dvs
