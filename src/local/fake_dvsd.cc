// Stands for dvsd in the tests of the local cluster: it takes the same options, answers GET
// /v1/node on its socket and accepts connections on its TCP address. With --broken it complains and
// exits.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <string>

#include "local/channel.h"

namespace {

dvs::UniqueFd listen_tcp(const std::string& endpoint) {
  const size_t colon = endpoint.find(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(endpoint.substr(colon + 1))));
  ::inet_pton(AF_INET, endpoint.substr(0, colon).c_str(), &address.sin_addr);
  dvs::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 16) != 0) {
    std::perror("cannot listen");
    fd.reset();
  }
  return fd;
}

void answer(int connection) {
  char request[1024];
  if (::read(connection, request, sizeof request) <= 0) return;
  const std::string text =
      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
  (void)!::write(connection, text.data(), text.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const bool has_value = i + 1 < argc && argv[i + 1][0] != '-';
    options[name] = has_value ? argv[++i] : "";
  }
  if (options.count("--broken") != 0) {
    std::fprintf(stderr, "fake dvsd is broken on purpose\n");
    return 3;
  }
  dvs::UniqueFd tcp = listen_tcp(options["--listen"]);
  auto local = dvs::local::listen_unix(options["--socket"]);
  if (!tcp.valid() || !local.ok()) return 1;
  for (;;) {
    pollfd events[] = {{tcp.get(), POLLIN, 0}, {local->get(), POLLIN, 0}};
    ::poll(events, 2, -1);
    if (events[0].revents != 0) dvs::UniqueFd(::accept(tcp.get(), nullptr, nullptr));
    if (events[1].revents != 0)
      answer(dvs::UniqueFd(::accept(local->get(), nullptr, nullptr)).get());
  }
}
