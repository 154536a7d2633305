#include "migrate/engine/command.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>

#include "base/check.h"
#include "base/file.h"
#include "migrate/engine/process_tree.h"

namespace dvs {
namespace {

Status join_cgroups(pid_t root, const std::vector<std::string>& cgroups) {
  Status status;
  visit_tree(root, [&](pid_t pid) {
    for (const auto& file : cgroups) {
      auto written = write_control_file(file, std::to_string(pid));
      if (!written.ok() && start_time(pid).has_value()) status = written;
    }
  });
  return status;
}

}  // namespace

Result<std::shared_ptr<CriuCommand>> CriuCommand::start(
    Executor& executor, std::vector<std::string> argv, const Json& job,
    std::vector<std::pair<int, int>> descriptors, const std::vector<std::string>& cgroups) {
  std::shared_ptr<CriuCommand> self(new CriuCommand(executor));
  DVS_TRY(self->launch(std::move(argv), job, std::move(descriptors)));
  if (!cgroups.empty()) DVS_TRY(join_cgroups(self->pid_, cgroups));
  return self;
}

Status CriuCommand::launch(std::vector<std::string> argv, const Json& job,
                           std::vector<std::pair<int, int>> descriptors) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("cannot create a socket pair");
  }
  words_.assign(ends[0]);
  const UniqueFd theirs(ends[1]);
  if (!say(to_text(job))) return errno_error("cannot tell criu its work");

  ChildOptions options;
  options.argv = std::move(argv);
  options.stdin_fd = theirs.get();
  options.pass_fds = std::move(descriptors);
  auto pid = run_child(
      executor_, std::move(options),
      [self = shared_from_this()](ChildResult result) { self->finish(std::move(result)); });
  if (!pid.ok()) return pid.error();
  pid_ = *pid;
  listen();
  return {};
}

bool CriuCommand::say(std::string_view word) {
  return ::send(words_.native_handle(), word.data(), word.size(), MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(word.size());
}

void CriuCommand::listen() {
  words_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                    [weak = weak_from_this()](const boost::system::error_code& failed) {
                      auto self = weak.lock();
                      if (failed || self == nullptr || !self->words_.is_open()) return;
                      self->hear_all();
                    });
}

void CriuCommand::hear_all() {
  const auto alive = shared_from_this();
  while (words_.is_open()) {
    char word[64];
    const ssize_t size = ::recv(words_.native_handle(), word, sizeof word, MSG_DONTWAIT);
    if (size == 0) return;  // its end; finish() follows
    if (size < 0) return errno == EAGAIN || errno == EINTR ? listen() : void();
    heard(std::string_view(word, static_cast<size_t>(size)));
  }
}

void CriuCommand::heard(std::string_view word) {
  if (word == "ready") {
    tell_ready();
  } else if (word == "held" && events_.held) {
    events_.held();
  } else if (word == "done" && events_.done) {
    events_.done();
  }
}

void CriuCommand::tell_ready() {
  ready_ = true;
  if (auto ready = std::exchange(on_ready_, nullptr)) ready();
}

void CriuCommand::await_ready(std::function<void()> ready) {
  if (ready_ || !running()) return boost::asio::post(executor_, std::move(ready));
  on_ready_ = std::move(ready);
}

void CriuCommand::go(Events events) {
  DVS_CHECK(!events_.ended, "go() called twice");
  events_ = std::move(events);
  if (running()) {
    say("go");  // when it cannot be said, the process is about to end
  } else {
    boost::asio::post(executor_, [self = shared_from_this()] { self->finish(*self->result_); });
  }
}

void CriuCommand::give_up() {
  boost::system::error_code ignored;
  words_.close(ignored);
}

void CriuCommand::finish(ChildResult result) {
  hear_all();  // what it said last
  result_ = std::move(result);
  tell_ready();
  const Events events = std::exchange(events_, {});
  if (events.ended) events.ended(*result_);
}

void CriuCommand::fail_writes() {
  if (!running()) return;
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  visit_tree(pid_, [&](pid_t pid) { ::prlimit(pid, RLIMIT_FSIZE, &none, nullptr); });
}

void CriuCommand::kill() {
  if (running()) kill_tree(pid_);
}

}  // namespace dvs
