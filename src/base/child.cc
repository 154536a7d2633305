#include "base/child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/check.h"

namespace dvs {
namespace {

using boost::asio::posix::stream_descriptor;
using std::chrono::steady_clock;

constexpr size_t kOutputKept = 64 << 10;

struct Pipe {
  UniqueFd read_end;  // non-blocking
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot create a pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) return errno_error("cannot set up a pipe");
  return pipe;
}

// What the child does between clone and exec. posix_spawn shares the parent's memory until exec,
// so that starting a child costs the same however large this process is.
class SpawnPlan {
 public:
  SpawnPlan() {
    posix_spawn_file_actions_init(&actions_);
    posix_spawnattr_init(&attributes_);
  }
  ~SpawnPlan() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  // `wanted` is {our descriptor or -1 for /dev/null, its number in the child}. The child has these
  // and no other descriptor.
  Status set_descriptors(const std::vector<std::pair<int, int>>& wanted);
  // The child starts with no signal blocked and none ignored, whatever this process does.
  void reset_signals();
  Result<pid_t> spawn(const std::vector<std::string>& argv, const std::vector<std::string>& env);

 private:
  Status duplicate(int ours, int number, int first_free);

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
  std::vector<UniqueFd> copies_;  // out of the way of the child's numbers
};

Status SpawnPlan::duplicate(int ours, int number, int first_free) {
  UniqueFd copy(::fcntl(ours, F_DUPFD_CLOEXEC, first_free));
  if (!copy.valid()) return errno_error(fmt::format("cannot duplicate descriptor {}", ours));
  posix_spawn_file_actions_adddup2(&actions_, copy.get(), number);
  copies_.push_back(std::move(copy));
  return {};
}

Status SpawnPlan::set_descriptors(const std::vector<std::pair<int, int>>& wanted) {
  int highest = 0;
  for (const auto& [ours, number] : wanted) highest = std::max(highest, number);
  std::vector<bool> used(static_cast<size_t>(highest) + 1, false);
  for (const auto& [ours, number] : wanted) {
    used[static_cast<size_t>(number)] = true;
    if (ours >= 0) {
      DVS_TRY(duplicate(ours, number, highest + 1));
    } else {
      posix_spawn_file_actions_addopen(&actions_, number, "/dev/null", O_RDWR, 0);
    }
  }
  for (int number = 0; number <= highest; ++number) {
    if (!used[static_cast<size_t>(number)]) posix_spawn_file_actions_addclose(&actions_, number);
  }
  posix_spawn_file_actions_addclosefrom_np(&actions_, highest + 1);
  return {};
}

void SpawnPlan::reset_signals() {
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes_, &all);
  posix_spawnattr_setsigmask(&attributes_, &none);
  posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

// The pointers execve wants; valid as long as `strings` is.
std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const auto& string : strings) result.push_back(const_cast<char*>(string.c_str()));
  result.push_back(nullptr);
  return result;
}

std::string_view key_of(std::string_view variable) {
  return variable.substr(0, variable.find('='));
}

std::vector<std::string> merged_environment(const std::vector<std::string>& added) {
  std::vector<std::string> result = added;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const bool replaced = std::any_of(added.begin(), added.end(), [&](const std::string& mine) {
      return key_of(mine) == key_of(*variable);
    });
    if (!replaced) result.emplace_back(*variable);
  }
  return result;
}

Result<pid_t> SpawnPlan::spawn(const std::vector<std::string>& argv,
                               const std::vector<std::string>& env) {
  const auto environment = merged_environment(env);
  pid_t pid = -1;
  const int err = posix_spawnp(&pid, argv[0].c_str(), &actions_, &attributes_,
                               pointers(argv).data(), pointers(environment).data());
  if (err != 0) return errno_error("cannot start " + argv[0], err);
  return pid;
}

Result<pid_t> spawn(const ChildOptions& options, int output_fd) {
  const auto stdio = [&](int given) { return given < 0 ? output_fd : given; };
  std::vector<std::pair<int, int>> wanted = {{options.stdin_fd, STDIN_FILENO},
                                             {stdio(options.stdout_fd), STDOUT_FILENO},
                                             {stdio(options.stderr_fd), STDERR_FILENO}};
  wanted.insert(wanted.end(), options.pass_fds.begin(), options.pass_fds.end());
  SpawnPlan plan;
  DVS_TRY(plan.set_descriptors(wanted));
  plan.reset_signals();
  return plan.spawn(options.argv, options.env);
}

// A started child. Lives in the handlers that wait for it, so it goes with the last of them, or
// with the Executor (then the process runs on, unwatched).
class Child : public std::enable_shared_from_this<Child> {
 public:
  Child(Executor& executor, pid_t pid, std::function<void(ChildResult)> done)
      : pid_(pid), done_(std::move(done)), exit_(executor), output_(executor), timer_(executor) {}

  // Takes what run_child opened. After an error the child has been killed and reaped.
  Status watch(UniqueFd output, std::chrono::milliseconds timeout);

 private:
  Status open_descriptors(UniqueFd output);
  void await_exit();
  void await_output();
  void arm_timeout(std::chrono::milliseconds timeout);
  bool read_once(size_t limit);
  void drain();
  void finish();

  const pid_t pid_;
  const steady_clock::time_point started_ = steady_clock::now();
  std::function<void(ChildResult)> done_;
  stream_descriptor exit_;  // a pidfd: readable when the child has ended
  stream_descriptor output_;
  boost::asio::steady_timer timer_;
  bool killed_ = false;  // by the timeout
  ChildResult result_;
};

Status assign(stream_descriptor& descriptor, UniqueFd fd) {
  boost::system::error_code ec;
  descriptor.assign(fd.get(), ec);
  if (ec) return errno_error("cannot watch a child process", ec.value());
  fd.release();
  return {};
}

Status Child::open_descriptors(UniqueFd output) {
  UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  if (!pidfd.valid()) return errno_error("cannot open a pidfd");
  DVS_TRY(assign(exit_, std::move(pidfd)));
  if (output.valid()) DVS_TRY(assign(output_, std::move(output)));
  return {};
}

Status Child::watch(UniqueFd output, std::chrono::milliseconds timeout) {
  if (auto opened = open_descriptors(std::move(output)); !opened.ok()) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    return opened;
  }
  await_exit();
  if (output_.is_open()) await_output();
  if (timeout.count() > 0) arm_timeout(timeout);
  return {};
}

void Child::await_exit() {
  exit_.async_wait(stream_descriptor::wait_read, [self = shared_from_this()](auto ec) {
    if (ec) return;
    // The reactor may wake a wait for the sake of a descriptor that was closed meanwhile.
    pollfd ended{self->exit_.native_handle(), POLLIN, 0};
    if (::poll(&ended, 1, 0) == 0) {
      return self->await_exit();
    }
    self->finish();
  });
}

// Waits and then reads by itself, instead of async_read_some: so no byte is ever in a handler that
// has not run yet when the exit is noticed.
void Child::await_output() {
  output_.async_wait(stream_descriptor::wait_read, [self = shared_from_this()](auto ec) {
    if (!ec && self->read_once(kOutputKept)) self->await_output();
  });
}

void Child::arm_timeout(std::chrono::milliseconds timeout) {
  timer_.expires_after(timeout);
  timer_.async_wait([self = shared_from_this()](auto ec) {
    if (ec || !self->exit_.is_open()) return;
    self->killed_ = true;
    ::syscall(SYS_pidfd_send_signal, self->exit_.native_handle(), SIGKILL, nullptr, 0);
  });
}

// One read of at most `limit` bytes; false at the end of the output.
bool Child::read_once(size_t limit) {
  char buffer[kOutputKept];
  const ssize_t n = ::read(output_.native_handle(), buffer, std::min(limit, sizeof buffer));
  if (n < 0) return errno == EAGAIN || errno == EINTR;
  result_.output.append(buffer, static_cast<size_t>(n));
  if (result_.output.size() > kOutputKept) {
    result_.output.erase(0, result_.output.size() - kOutputKept);
  }
  return n > 0;
}

// Takes what is in the pipe now and no more: a grandchild may hold its other end for ever.
void Child::drain() {
  int ready = 0;
  if (::ioctl(output_.native_handle(), FIONREAD, &ready) != 0) return;
  while (ready > 0) {
    const size_t chunk = std::min(static_cast<size_t>(ready), kOutputKept);
    if (!read_once(chunk)) return;
    ready -= static_cast<int>(chunk);
  }
}

void Child::finish() {
  int status = 0;
  if (::waitpid(pid_, &status, 0) == pid_) {
    if (WIFEXITED(status)) result_.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) result_.signal = WTERMSIG(status);
  }
  if (output_.is_open()) drain();
  result_.timed_out = killed_ && result_.signal == SIGKILL;
  result_.elapsed =
      std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - started_);
  boost::system::error_code ignored;
  output_.close(ignored);
  exit_.close(ignored);
  timer_.cancel();
  std::exchange(done_, nullptr)(std::move(result_));
}

}  // namespace

std::string ChildResult::describe() const {
  if (timed_out) return fmt::format("timed out after {} ms", elapsed.count());
  if (signal != 0) return fmt::format("killed by signal {} ({})", signal, ::strsignal(signal));
  if (exit_code < 0) return "ended in an unknown way";
  return fmt::format("exit status {}", exit_code);
}

Result<pid_t> run_child(Executor& executor, ChildOptions options,
                        std::function<void(ChildResult)> done) {
  DVS_CHECK(!options.argv.empty());
  Pipe output;
  if (options.capture_output) {
    DVS_ASSIGN(output, make_pipe());
  }
  DVS_ASSIGN(const pid_t pid, spawn(options, output.write_end.get()));
  output.write_end.reset();
  auto child = std::make_shared<Child>(executor, pid, std::move(done));
  DVS_TRY(child->watch(std::move(output.read_end), options.timeout));
  return pid;
}

Result<ChildResult> run_child_blocking(ChildOptions options) {
  Executor executor;
  std::optional<ChildResult> result;
  DVS_TRY(run_child(executor, std::move(options),
                    [&result](ChildResult ended) { result = std::move(ended); }));
  executor.run();
  if (!result) return Error(Code::kInternal, "lost sight of a child process");
  return *std::move(result);
}

}  // namespace dvs
