#include "local/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dvs::local {
namespace {

constexpr size_t kMaxLine = 1 << 20;

Result<sockaddr_un> unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error(Code::kInvalid, "the path of a socket is too long: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> unix_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("cannot create a socket");
  return fd;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Status Channel::send(const Json& value) {
  // Parts of logs travel here: bytes that are no UTF-8 are replaced.
  const std::string line = to_text(value) + "\n";
  size_t sent = 0;
  while (sent < line.size()) {
    const ssize_t n = ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error(Code::kUnavailable, "the other side has gone");
    sent += static_cast<size_t>(n);
  }
  return {};
}

Result<Json> Channel::receive(std::chrono::milliseconds limit) {
  const auto deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    if (const size_t end = received_.find('\n'); end != std::string::npos) {
      const std::string line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return parse_json(line);
    }
    if (received_.size() > kMaxLine) return Error(Code::kCorrupt, "a line is too long");
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{fd_.get(), POLLIN, 0};
    const int ready = left.count() > 0 ? ::poll(&waiting, 1, static_cast<int>(left.count())) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Error(Code::kTimeout, "no answer in time");
    char buffer[4096];
    const ssize_t n = ::read(fd_.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error(Code::kUnavailable, "the other side has gone");
    received_.append(buffer, static_cast<size_t>(n));
  }
}

Result<Json> Channel::receive_answer(std::chrono::milliseconds limit) {
  DVS_ASSIGN(Json answer, receive(limit));
  if (answer.is_object() && answer.contains("error")) return error_from_json(answer.at("error"));
  return answer;
}

Result<std::pair<Channel, Channel>> make_channel() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("cannot create a socket pair");
  }
  return std::pair(Channel(UniqueFd(ends[0])), Channel(UniqueFd(ends[1])));
}

Result<UniqueFd> listen_unix(const std::string& path) {
  DVS_ASSIGN(const sockaddr_un address, unix_address(path));
  DVS_ASSIGN(UniqueFd fd, unix_socket());
  ::unlink(path.c_str());
  if (::bind(fd.get(), generic(address), sizeof address) != 0 || ::chmod(path.c_str(), 0600) != 0 ||
      ::listen(fd.get(), 16) != 0) {
    return errno_error("cannot listen on " + path);
  }
  return fd;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  DVS_ASSIGN(const sockaddr_un address, unix_address(path));
  DVS_ASSIGN(UniqueFd fd, unix_socket());
  if (::connect(fd.get(), generic(address), sizeof address) != 0) {
    return errno_error("cannot connect to " + path);
  }
  return fd;
}

pid_t listener_pid(int connected) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return 0;
  return credentials.pid;
}

Result<std::string> http_get(int connected, const std::string& target) {
  const timeval limit{1, 0};
  ::setsockopt(connected, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  const std::string request =
      "GET " + target + " HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n";
  if (::send(connected, request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return errno_error("cannot send a request");
  }
  std::string answer;
  char buffer[4096];
  ssize_t n;
  while ((n = ::read(connected, buffer, sizeof buffer)) > 0 && answer.size() < kMaxLine) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  if (n < 0) return errno_error("no answer to GET " + target);
  return answer;
}

}  // namespace dvs::local
