// The program that bench-migrate moves: `bench_server MIB MIB_PER_S HOT dvk`, or `... udp PORT`. It
// has so much memory, all written once, answers whoever calls, and goes on writing the first HOT
// percent of its memory, page after page, so fast as long as it is called, all on one thread, as a
// simple server would. By udp it needs nothing of DVS, so others can move it too.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dvk/dvk.hpp>
#include <optional>
#include <string_view>
#include <vector>

namespace {

constexpr size_t kPage = 4096;
constexpr int64_t kNotMoreNs = 500'000;  // of writing to be made up for after a silence

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(1);
}

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

class Memory {
 public:
  Memory(double mib, double mib_per_s, double hot_percent)
      : bytes_(static_cast<size_t>(mib * (1 << 20))),
        hot_(std::max(kPage, static_cast<size_t>(static_cast<double>(bytes_.size()) *
                                                 std::min(hot_percent, 100.0) / 100) /
                                 kPage * kPage)),
        pages_per_ns_(mib_per_s * (1 << 20) / kPage / 1e9) {
    for (size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<unsigned char>(i * 2654435761u >> 13);
    }
  }

  // Writes what is due.
  void write() {
    const int64_t now = now_ns();
    due_ += pages_per_ns_ * static_cast<double>(std::min(now - last_ns_, kNotMoreNs));
    last_ns_ = now;
    for (; due_ >= 1; due_ -= 1, next_ = (next_ + kPage) % hot_) ++bytes_[next_];
  }

 private:
  std::vector<unsigned char> bytes_;
  const size_t hot_;  // bytes
  const double pages_per_ns_;
  size_t next_ = 0;
  double due_ = 0;
  int64_t last_ns_ = now_ns();
};

class UdpCalls {
 public:
  explicit UdpCalls(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // Its copy is bound while it is still there, frozen, and has what is sent from then on.
    const int yes = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (socket_ < 0 ||
        ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      die("bind");
    }
  }

  void answer_one() const {
    char body[64];
    sockaddr_in from{};
    socklen_t size = sizeof from;
    const ssize_t got =
        ::recvfrom(socket_, body, sizeof body, 0, reinterpret_cast<sockaddr*>(&from), &size);
    if (got < 0) return;
    ::sendto(socket_, body, static_cast<size_t>(got), 0, reinterpret_cast<sockaddr*>(&from), size);
  }

 private:
  const int socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
};

class DvkCalls {
 public:
  DvkCalls() {
    auto given = dvk::Endpoint::given();
    if (!given) {
      std::fprintf(stderr, "no endpoint: %s\n", given.error_name());
      std::exit(1);
    }
    self_.emplace(std::move(*given));
  }

  void answer_one() const {
    if (const auto request = self_->receive_request())
      (void)self_->reply(request->m_source, *request);
  }

 private:
  std::optional<dvk::Endpoint> self_;
};

template <typename Calls>
[[noreturn]] void serve(Calls calls, Memory memory) {
  for (;;) {
    calls.answer_one();
    memory.write();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view by = argc > 4 ? argv[4] : "";
  if ((by != "udp" || argc != 6) && (by != "dvk" || argc != 5)) {
    std::fprintf(stderr, "usage: bench_server MIB MIB_PER_S HOT dvk | udp PORT\n");
    return 2;
  }
  Memory memory(std::atof(argv[1]), std::atof(argv[2]), std::atof(argv[3]));
  if (by == "dvk") serve(DvkCalls(), std::move(memory));
  serve(UdpCalls(std::atoi(argv[5])), std::move(memory));
}
