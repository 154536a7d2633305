// Unix stream and seqpacket sockets, and TCP. One client is served by blocking reads, many by
// epoll.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "ipc/die.h"
#include "ipc/stream.h"
#include "ipc/unix.h"

namespace dvs::bench {
namespace {

// Messages of 64 bytes come whole: by seqpacket always, by a stream because nobody writes less.
void echo_from(int epoll, int fd, bool answers) {
  Message m;
  const ssize_t got = ::read(fd, m.data(), m.size());
  if (got <= 0) {
    ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
    ::close(fd);
    return;
  }
  read_all(fd, m.data() + got, m.size() - static_cast<size_t>(got));
  if (answers) write_all(fd, m.data(), m.size());
}

[[noreturn]] void serve_many(int listener, const Plan& plan) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{EPOLLIN, {.fd = listener}};
  require(epoll >= 0 && ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event) == 0, "epoll");
  const bool answers = plan.pattern == Pattern::kCall;
  for (;;) {
    epoll_event events[64];
    const int count = ::epoll_wait(epoll, events, 64, -1);
    for (int i = 0; i < count; ++i) {
      const int fd = events[i].data.fd;
      if (fd != listener) {
        echo_from(epoll, fd, answers);
        continue;
      }
      event.data.fd = accept_one(listener).release();
      require(::epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event) == 0, "epoll_ctl");
    }
  }
}

void set_no_delay(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // no affair of unix sockets
}

[[noreturn]] void serve_from(int listener, const Plan& plan) {
  if (plan.clients > 1) serve_many(listener, plan);
  for (;;) {
    const UniqueFd fd = accept_one(listener);
    set_no_delay(fd.get());
    serve_stream(fd.get(), fd.get(), plan);
  }
}

std::unique_ptr<Client> client_of(UniqueFd fd) {
  set_no_delay(fd.get());
  return std::make_unique<StreamClient>(std::move(fd), UniqueFd());
}

template <int kType>
void serve_unix(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  const UniqueFd listener = listen_unix(kType, plan.address);
  ready(plan.address);
  serve_from(listener.get(), plan);
}

template <int kType>
std::unique_ptr<Client> connect_to_unix(const Plan& plan) {
  return client_of(connect_unix(kType, plan.address));
}

// "10.88.0.1:20000"
sockaddr_in tcp_address(const std::string& text) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const size_t colon = text.find(':');
  if (colon == std::string::npos ||
      ::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.sin_addr) != 1) {
    die_plainly("not an address: " + text);
  }
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(text.substr(colon + 1))));
  return address;
}

void serve_tcp(const Plan& plan, const std::function<void(const std::string&)>& ready) {
  const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = tcp_address(plan.address);
  const int on = 1;
  ::setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  require(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
          "cannot bind " + plan.address);
  require(::listen(listener.get(), 256) == 0, "cannot listen");
  set_no_delay(listener.get());  // accepted sockets inherit it
  ready(plan.address);
  serve_from(listener.get(), plan);
}

std::unique_ptr<Client> connect_tcp(const Plan& plan) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = tcp_address(plan.address);
  require(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0,
          "cannot connect to " + plan.address);
  return client_of(std::move(fd));
}

}  // namespace

const Transport kUnixStream{"unix", serve_unix<SOCK_STREAM>, connect_to_unix<SOCK_STREAM>};
const Transport kSeqpacket{"seqpacket", serve_unix<SOCK_SEQPACKET>,
                           connect_to_unix<SOCK_SEQPACKET>};
const Transport kTcp{"tcp", serve_tcp, connect_tcp};

}  // namespace dvs::bench
