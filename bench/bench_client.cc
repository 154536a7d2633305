// Calls bench_server every 100 microseconds, from outside, and prints "END_NS GAP_NS", by
// CLOCK_REALTIME, whenever more than 3 ms have passed between two answers:
// `bench_client dvk ENDPOINT`, or `... udp PORT`, which sends again after a millisecond.
#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dvk/dvk.hpp>
#include <optional>
#include <string_view>

namespace {

constexpr int64_t kGapNs = 3'000'000;
constexpr int64_t kPeriodNs = 100'000;
constexpr long kResendNs = 1'000'000;
constexpr int kCall = 1;

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

class Udp {
 public:
  explicit Udp(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      std::perror("connect");
      std::exit(1);
    }
  }

  // An answer to any of the calls: nobody is there while the server moves.
  bool call() const {
    char body[8] = {};
    ::send(socket_, body, sizeof body, 0);
    pollfd ready{socket_, POLLIN, 0};
    const timespec limit{0, kResendNs};
    return ::ppoll(&ready, 1, &limit, nullptr) > 0 && ::recv(socket_, body, sizeof body, 0) > 0;
  }

 private:
  const int socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

class Dvk {
 public:
  explicit Dvk(int server) : server_(server) {
    auto given = dvk::Endpoint::given();
    if (!given) {
      std::fprintf(stderr, "no endpoint: %s\n", given.error_name());
      std::exit(1);
    }
    self_.emplace(std::move(*given));
  }

  bool call() const {
    const auto answer =
        self_->sendrec(server_, dvk::typed(kCall, int64_t{0}), std::chrono::seconds(30));
    if (!answer) {
      std::printf("# %s\n", answer.error_name());
      std::fflush(stdout);
    }
    return answer.has_value();
  }

 private:
  const int server_;
  std::optional<dvk::Endpoint> self_;
};

template <typename Calls>
[[noreturn]] void observe(Calls calls) {
  int64_t last = 0;  // no answer yet
  for (int64_t next = now_ns();;) {
    const bool answered = calls.call();
    const int64_t now = now_ns();
    if (answered) {
      if (last != 0 && now - last > kGapNs) {
        std::printf("%lld %lld\n", static_cast<long long>(now), static_cast<long long>(now - last));
        std::fflush(stdout);
      }
      last = now;
    }
    next += kPeriodNs;
    if (next < now) next = now;
    const timespec until{next / 1'000'000'000, next % 1'000'000'000};
    ::clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view by = argc == 3 ? argv[1] : "";
  if (by == "dvk") observe(Dvk(std::atoi(argv[2])));
  if (by == "udp") observe(Udp(std::atoi(argv[2])));
  std::fprintf(stderr, "usage: bench_client dvk ENDPOINT | udp PORT\n");
  return 2;
}
