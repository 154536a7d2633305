#include "service.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

namespace dvs::helper {
namespace {

constexpr int kPatienceMs = 2000;

}  // namespace

bool CriuService::start(const char* program) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return false;
  socket_.reset(ends[0]);
  UniqueFd theirs(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) return false;
  if (pid_ == 0) {
    const UniqueFd inherited(::dup(theirs.get()));  // without FD_CLOEXEC
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    ::dup2(null.get(), STDIN_FILENO);
    const std::string number = std::to_string(inherited.get());
    ::execlp(program, program, "swrk", number.c_str(), nullptr);
    ::_exit(127);
  }
  return true;
}

bool CriuService::send(const criu_rpc::Request& request) {
  const std::string bytes = request.SerializeAsString();
  return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
         static_cast<ssize_t>(bytes.size());
}

void CriuService::watch(pid_t pid) {
  watched_.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

// False: the tree's first process has ended, and criu has nothing to say to that.
bool CriuService::await_words() {
  std::array<pollfd, 2> polled{{{socket_.get(), POLLIN, 0}, {watched_.get(), POLLIN, 0}}};
  while (::poll(polled.data(), watched_.valid() ? 2 : 1, -1) < 0 && errno == EINTR) {
  }
  if (polled[0].revents != 0) return true;
  return ::poll(polled.data(), 1, kPatienceMs) != 0;
}

std::optional<criu_rpc::Response> CriuService::receive() {
  if (!await_words()) {
    ::kill(pid_, SIGKILL);
    return std::nullopt;
  }
  char bytes[4096];
  ssize_t size = 0;
  while ((size = ::recv(socket_.get(), bytes, sizeof bytes, MSG_TRUNC)) < 0 && errno == EINTR) {
  }
  criu_rpc::Response response;
  if (size <= 0 || size > static_cast<ssize_t>(sizeof bytes)) return std::nullopt;
  if (!response.ParseFromArray(bytes, static_cast<int>(size))) return std::nullopt;
  return response;
}

bool CriuService::acknowledge(bool success) {
  criu_rpc::Request request;
  request.set_type(criu_rpc::NOTIFY);
  request.set_notify_success(success);
  return send(request);
}

int CriuService::finish() {
  socket_.reset();
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace dvs::helper
