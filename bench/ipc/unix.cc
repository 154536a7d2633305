#include "ipc/unix.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "ipc/die.h"

namespace dvs::bench {
namespace {

sockaddr_un name_of(const std::string& path) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof name.sun_path) die_plainly("the path is too long: " + path);
  std::memcpy(name.sun_path, path.c_str(), path.size());
  return name;
}

struct FdMessage {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 8)] = {};
  msghdr header{};
  explicit FdMessage(int count) {
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * static_cast<size_t>(count));
  }
};

}  // namespace

UniqueFd listen_unix(int type, const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  const sockaddr_un name = name_of(path);
  require(
      fd.valid() && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0,
      "cannot bind " + path);
  require(::listen(fd.get(), 256) == 0, "cannot listen");
  return fd;
}

UniqueFd connect_unix(int type, const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  const sockaddr_un name = name_of(path);
  require(
      fd.valid() && ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0,
      "cannot connect to " + path);
  return fd;
}

UniqueFd accept_one(int listener) {
  UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  require(fd.valid(), "cannot accept");
  return fd;
}

void send_fds(int socket, const int* fds, int count) {
  FdMessage m(count);
  cmsghdr* control = CMSG_FIRSTHDR(&m.header);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<size_t>(count));
  std::memcpy(CMSG_DATA(control), fds, sizeof(int) * static_cast<size_t>(count));
  require(::sendmsg(socket, &m.header, 0) == 1, "cannot send descriptors");
}

void receive_fds(int socket, int* fds, int count) {
  FdMessage m(count);
  require(::recvmsg(socket, &m.header, MSG_CMSG_CLOEXEC) == 1, "cannot receive descriptors");
  const cmsghdr* control = CMSG_FIRSTHDR(&m.header);
  if (control == nullptr || control->cmsg_type != SCM_RIGHTS) die_plainly("no descriptors came");
  std::memcpy(fds, CMSG_DATA(control), sizeof(int) * static_cast<size_t>(count));
}

}  // namespace dvs::bench
