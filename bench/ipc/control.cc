#include "ipc/control.h"

#include <fcntl.h>
#include <poll.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "ipc/die.h"

namespace dvs::bench {
Address to_address(const std::string& text) {
  Address address{};
  if (text.size() >= sizeof address.text) die_plainly("the address is too long: " + text);
  std::memcpy(address.text, text.c_str(), text.size());
  return address;
}

UniqueFd accept_control(int listener, int limit_ms, pid_t& pid) {
  pollfd wait{listener, POLLIN, 0};
  if (::poll(&wait, 1, limit_ms) != 1) return {};
  UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  ucred peer{};
  socklen_t size = sizeof peer;
  require(fd.valid() && ::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0,
          "cannot accept a worker");
  pid = peer.pid;
  return fd;
}

void end_with(int control) {
  std::signal(SIGIO, SIG_DFL);
  require(::fcntl(control, F_SETOWN, ::getpid()) == 0 &&
              ::fcntl(control, F_SETFL, ::fcntl(control, F_GETFL) | O_ASYNC) == 0,
          "cannot watch the control socket");
  pollfd look{control, 0, 0};
  if (::poll(&look, 1, 0) > 0 && (look.revents & POLLHUP) != 0) std::exit(0);
}

void send_bytes(int control, const void* data, size_t size) {
  const auto sent = ::send(control, data, size, MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(size)) die_plainly("the other side has gone");
}

void receive_bytes(int control, void* data, size_t size) {
  ssize_t got = 0;
  do {
    got = ::recv(control, data, size, 0);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(size)) die_plainly("the other side has gone");
}

}  // namespace dvs::bench
