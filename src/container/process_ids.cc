#include "container/process_ids.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <optional>
#include <set>
#include <sstream>
#include <string_view>

#include "base/file.h"

namespace dvs {
namespace {

template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// First and last number of the line "KEY:\tA\tB..." of a status file: outermost and innermost id.
struct OuterInner {
  pid_t outer = 0;
  pid_t inner = 0;
};
std::optional<OuterInner> ids_of_line(const std::string& status, const std::string& key) {
  const size_t start = status.find("\n" + key + ":");
  if (start == std::string::npos) return std::nullopt;
  const size_t numbers = start + key.size() + 2;
  std::istringstream in(status.substr(numbers, status.find('\n', numbers) - numbers));
  OuterInner ids;
  if (!(in >> ids.outer)) return std::nullopt;
  ids.inner = ids.outer;
  for (pid_t id; in >> id;) ids.inner = id;
  return ids;
}

std::optional<ThreadIds> thread_ids(const std::string& task_dir) {
  auto status = read_file(task_dir + "/status");
  if (!status) return std::nullopt;
  auto process = ids_of_line(*status, "NStgid");
  auto thread = ids_of_line(*status, "NSpid");
  if (!process || !thread) return std::nullopt;
  return ThreadIds{process->outer, thread->outer, process->inner, thread->inner};
}

}  // namespace

std::string name_of_thread(pid_t host_tid) {
  auto name = read_file("/proc/" + std::to_string(host_tid) + "/comm");
  if (!name.ok() || name->empty()) return {};
  name->pop_back();  // the end of the line
  std::replace_if(
      name->begin(), name->end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return *name;
}

pid_t next_pid_beside(const std::vector<pid_t>& used, pid_t first, pid_t last) {
  constexpr pid_t kMargin = 1024;
  std::set<pid_t> taken;
  for (const pid_t pid : used) {
    if (pid >= first && pid <= last) taken.insert(pid);
  }
  if (taken.empty()) return first;
  pid_t best = first;
  pid_t widest = *taken.begin() - first;
  for (auto at = taken.begin(); at != taken.end(); ++at) {
    const pid_t end = std::next(at) == taken.end() ? last + 1 : *std::next(at);
    const pid_t gap = end - *at - 1;
    if (gap <= widest) continue;
    widest = gap;
    best = *at + 1 + std::min(kMargin, gap / 2);
  }
  return best;
}

std::vector<pid_t> parse_pids(const std::string& text) {
  std::vector<pid_t> pids;
  std::istringstream in(text);
  for (pid_t pid; in >> pid;) {
    if (pid > 0) pids.push_back(pid);
  }
  return pids;
}

Result<std::vector<ThreadIds>> threads_of_cgroup(const std::string& cgroup_dir) {
  DVS_ASSIGN(const std::string procs, read_file(cgroup_dir + "/cgroup.procs"));
  std::vector<ThreadIds> threads;
  for (pid_t pid : parse_pids(procs)) {
    const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
    auto tids = list_dir(tasks);
    if (!tids) continue;
    for (const auto& tid : *tids) {
      if (auto ids = thread_ids(tasks + "/" + tid)) threads.push_back(*ids);
    }
  }
  return threads;
}

namespace {

// Field `number` (from 3 on) of /proc/PID/stat. The name (field 2) may hold spaces and brackets: it
// is counted from the last bracket.
std::string stat_field(const std::string& stat, int number) {
  size_t at = stat.rfind(')');
  for (int field = 2; field < number && at != std::string::npos; ++field)
    at = stat.find(' ', at + 1);
  if (at == std::string::npos) return {};
  return stat.substr(at + 1, stat.find_first_of(" \n", at + 1) - at - 1);
}

}  // namespace

Result<uint64_t> process_start_time(pid_t host_pid) {
  const std::string path = "/proc/" + std::to_string(host_pid) + "/stat";
  auto stat = read_file(path);
  if (!stat) return Error(Code::kNotFound, "process " + std::to_string(host_pid) + " is gone");
  auto ticks = parse_number<uint64_t>(stat_field(*stat, 22));
  if (!ticks) return Error(Code::kCorrupt, path + " has no start time");
  return *ticks;
}

pid_t parent_of(pid_t host_pid) {
  const auto stat = read_file("/proc/" + std::to_string(host_pid) + "/stat");
  const size_t name_end = stat.ok() ? stat->rfind(')') : std::string::npos;
  if (name_end == std::string::npos || name_end + 4 > stat->size()) return 0;
  return std::atoi(stat->c_str() + name_end + 4);  // ") S PPID"
}

std::optional<int> status_of_zombie(pid_t host_pid) {
  auto stat = read_file("/proc/" + std::to_string(host_pid) + "/stat");
  if (!stat || stat_field(*stat, 3) != "Z") return std::nullopt;
  auto status = parse_number<int>(stat_field(*stat, 52));
  return status ? std::optional(*status) : std::nullopt;
}

}  // namespace dvs
