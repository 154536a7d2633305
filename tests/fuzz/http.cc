// Whatever comes from a client of the API's socket.
#include <sys/socket.h>
#include <unistd.h>

#include "api/http_connection.h"
#include "base/executor.h"
#include "base/unique_fd.h"
#include "fuzz/target.h"

namespace dvs::fuzz {
namespace {

using boost::asio::local::stream_protocol;

std::shared_ptr<ServerState> new_state() {
  auto state = std::make_shared<ServerState>();
  const HttpHandler echo = [](const HttpRequest& request, const std::shared_ptr<Responder>& to) {
    // (What a path says need not be UTF-8: the server sees to that.)
    to->reply({{"path", request.path},
               {"params", request.params},
               {"query", request.query},
               {"body", request.body}});
  };
  state->router.add("GET", "/v1/nodes", echo);
  state->router.add("POST", "/v1/dcs/{}/endpoints/{}/kill", echo);
  state->router.add("DELETE", "/v1/dcs/{}", echo);
  return state;
}

void read_answer(int fd) {
  char bytes[4096];
  while (::read(fd, bytes, sizeof bytes) > 0) {
  }
}

void serve(std::string_view request) {
  static const auto state = new_state();
  int ends[2];
  must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  const UniqueFd client(ends[0]);
  Executor executor(1);
  serve_connection(stream_protocol::socket(executor, stream_protocol(), ends[1]), state);
  must(::write(client.get(), request.data(), request.size()) ==
       static_cast<ssize_t>(request.size()));
  ::shutdown(client.get(), SHUT_WR);
  executor.run();  // until the connection is gone
  read_answer(client.get());
}

void urls(std::string_view text) {
  const auto decoded = url_decode(text);
  if (decoded.ok()) must(url_decode(url_encode(*decoded)).value() == *decoded);
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto text = dvs::fuzz::text_of(data, size).substr(0, 32 << 10);
  dvs::fuzz::urls(text);
  dvs::fuzz::serve(text);
  return 0;
}
