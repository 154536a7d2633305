// The program that bench-migrate moves: 2.5 MiB of state, changed all the time. It needs nothing of
// DVS, so plain criu can move it too. Prints "END_NS GAP_NS" for each silence of its own longer
// than 3 ms, by CLOCK_REALTIME: what an observer outside sees of it, which CLOCK_MONOTONIC hides.
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr size_t kStateBytes = 2'621'440;
constexpr int64_t kGapNs = 3'000'000;

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int main() {
  std::vector<unsigned char> state(kStateBytes);
  for (size_t i = 0; i < state.size(); ++i)
    state[i] = static_cast<unsigned char>(i * 2654435761u >> 13);
  const timespec nap{0, 200'000};
  int64_t last = now_ns();
  for (size_t page = 0;; page = (page + 4096) % state.size()) {
    ++state[page];
    ::nanosleep(&nap, nullptr);
    const int64_t now = now_ns();
    if (now - last > kGapNs) {
      std::printf("%lld %lld\n", static_cast<long long>(now), static_cast<long long>(now - last));
      std::fflush(stdout);
    }
    last = now;
  }
}
