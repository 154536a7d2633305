#include "migrate/engine/process_tree.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <sstream>
#include <string>

#include "base/file.h"

namespace dvs {
namespace {

using std::chrono::steady_clock;

std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  const auto threads = list_dir(tasks);
  if (!threads.ok()) return children;
  for (const auto& thread : *threads) {
    const auto content = read_file(tasks + "/" + thread + "/children");
    if (!content.ok()) continue;
    std::istringstream words(*content);
    for (pid_t child = 0; words >> child;) children.push_back(child);
  }
  return children;
}

bool reaped(const UniqueFd& pidfd) {
  return ::syscall(SYS_pidfd_send_signal, pidfd.get(), 0, nullptr, 0) != 0 && errno == ESRCH;
}

bool ended(const UniqueFd& pidfd) {
  pollfd entry{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&entry, 1, 0) > 0;
}

void open_handle(pid_t pid, ProcessHandles& handles) {
  UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (handle.valid()) handles.push_back(std::move(handle));
}

// A pidfd becomes readable when its process is a zombie, and older kernels do not tell of the
// reaping: so the handles are looked at, first quickly, then every millisecond.
class EndWatch : public std::enable_shared_from_this<EndWatch> {
 public:
  EndWatch(Executor& executor, ProcessHandles handles, Until until, std::chrono::milliseconds limit,
           std::function<void(bool)> done)
      : timer_(executor),
        handles_(std::move(handles)),
        there_(until == Until::kEnded ? ended : reaped),
        deadline_(steady_clock::now() + limit),
        done_(std::move(done)) {}

  void look_after(std::chrono::microseconds delay) {
    timer_.expires_after(delay);
    timer_.async_wait([self = shared_from_this(), delay](auto) { self->look(delay); });
  }

 private:
  void look(std::chrono::microseconds delay) {
    std::erase_if(handles_, there_);
    if (handles_.empty()) return done_(true);
    if (steady_clock::now() >= deadline_) return done_(false);
    look_after(
        std::min(std::chrono::microseconds(1000), delay * 2 + std::chrono::microseconds(50)));
  }

  boost::asio::steady_timer timer_;
  ProcessHandles handles_;
  bool (*const there_)(const UniqueFd&);
  const steady_clock::time_point deadline_;
  std::function<void(bool)> done_;
};

// Field 3 of /proc/PID/stat; 'X': no such process.
char state_of(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const size_t name_end = stat.ok() ? stat->rfind(')') : std::string::npos;
  return name_end == std::string::npos || name_end + 2 >= stat->size() ? 'X'
                                                                       : (*stat)[name_end + 2];
}

// A signal takes effect when the process next leaves the kernel, and until then it may still make
// children that nobody has listed. One that sleeps in the kernel without hearing signals makes
// none.
void stop(pid_t pid) {
  ::kill(pid, SIGSTOP);
  const auto limit = steady_clock::now() + std::chrono::milliseconds(100);
  const auto stopping = [pid] {
    return std::string_view("RD").find(state_of(pid)) != std::string_view::npos;
  };
  while (stopping() && steady_clock::now() < limit) ::sched_yield();
}

}  // namespace

void visit_tree(pid_t root, const std::function<void(pid_t)>& visit) {
  visit(root);
  for (const pid_t child : children_of(root)) visit_tree(child, visit);
}

ProcessHandles open_tree(pid_t root) {
  ProcessHandles handles;
  visit_tree(root, [&](pid_t pid) { open_handle(pid, handles); });
  return handles;
}

ProcessHandles kill_tree(pid_t root) {
  ProcessHandles handles;
  visit_tree(root, [&](pid_t pid) {
    stop(pid);
    open_handle(pid, handles);
  });
  for (const auto& handle : handles) {
    ::syscall(SYS_pidfd_send_signal, handle.get(), SIGKILL, nullptr, 0);
  }
  return handles;
}

std::optional<uint64_t> start_time(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  if (!stat.ok()) return std::nullopt;
  const size_t name_end = stat->rfind(')');  // the name may hold blanks and brackets
  if (name_end == std::string::npos || stat->compare(name_end, 3, ") Z") == 0) return std::nullopt;
  std::istringstream words(stat->substr(name_end + 1));
  std::string word;
  for (int field = 3; field <= 22 && words >> word; ++field) {
  }
  if (!words) return std::nullopt;
  return std::strtoull(word.c_str(), nullptr, 10);
}

void await_processes(Executor& executor, ProcessHandles handles, Until until,
                     std::chrono::milliseconds limit, std::function<void(bool)> done) {
  std::make_shared<EndWatch>(executor, std::move(handles), until, limit, std::move(done))
      ->look_after(std::chrono::microseconds(0));
}

}  // namespace dvs
