// Sends a numbered text ten times a second and reports each answer, and how long it took.
//   dvs run --dc DC0 --node n2 -- .../echo_client 100
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "echo.h"

int main(int argc, char** argv) {
  using std::chrono::steady_clock;
  const int requests = argc > 1 ? std::atoi(argv[1]) : 10;
  const auto self = dvk::Endpoint::given();  // `dvs run` chose it
  if (!self) {
    std::fprintf(stderr, "no endpoint: %s\n", self.error_name());
    return 1;
  }
  for (int i = 1; i <= requests; ++i) {
    echo::Text body{};
    std::snprintf(body.text, sizeof body.text, "request %d", i);
    const auto began = steady_clock::now();
    const auto answer =
        self->sendrec(echo::kEndpoint, dvk::typed(echo::kRequest, body), std::chrono::seconds(10));
    const std::chrono::duration<double, std::milli> took = steady_clock::now() - began;
    if (!answer) {
      std::printf("request %d: %s\n", i, answer.error_name());
      return 1;
    }
    body = dvk::payload<echo::Text>(*answer);
    std::printf("%s is its number %d, %.1f ms\n", body.text, body.count, took.count());
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}
