// Answers every request with its own text and a count. It does nothing for being moved.
//   dvs run --dc DC0 --node n1 --endpoint 11 -- .../echo_server
#include <cstdio>
#include <cstdlib>

#include "echo.h"

int main(int argc, char** argv) {
  const int number = argc > 1 ? std::atoi(argv[1]) : echo::kEndpoint;
  const auto self = dvk::Endpoint::create(number);
  if (!self) {
    std::fprintf(stderr, "cannot bind endpoint %d: %s\n", number, self.error_name());
    return 1;
  }
  for (int count = 1;; ++count) {
    const auto request = self->receive_request();
    if (!request) {
      std::fprintf(stderr, "cannot receive: %s\n", request.error_name());
      return 1;
    }
    auto body = dvk::payload<echo::Text>(*request);
    body.count = count;
    // EDVSPROCSTS is the client's affair: it gave up waiting.
    const auto sent = self->reply(request->m_source, dvk::typed(echo::kAnswer, body));
    if (!sent) std::fprintf(stderr, "reply %d: %s\n", count, sent.error_name());
  }
}
