// The program that bench-migrate moves: `bench_ticker [MIB [MIB_PER_S]]`. It has so much memory,
// all written once, and goes on writing it, page after page, so fast. It needs nothing of DVS, so
// plain criu can move it too. Prints "END_NS GAP_NS" for each silence of its own longer than 3 ms,
// by CLOCK_REALTIME: what an observer outside sees of it, which CLOCK_MONOTONIC hides.
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr size_t kPage = 4096;
constexpr int64_t kGapNs = 3'000'000;
constexpr int64_t kNapNs = 200'000;

int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int main(int argc, char** argv) {
  const double mib = argc > 1 ? std::atof(argv[1]) : 2.5;
  const double mib_per_s = argc > 2 ? std::atof(argv[2]) : 20;
  std::vector<unsigned char> state(static_cast<size_t>(mib * (1 << 20)));
  for (size_t i = 0; i < state.size(); ++i)
    state[i] = static_cast<unsigned char>(i * 2654435761u >> 13);
  const timespec nap{0, kNapNs};
  const double pages_per_ns = mib_per_s * (1 << 20) / kPage / 1e9;
  int64_t last = now_ns();
  double owed = 0;  // pages to write
  for (size_t page = 0;;) {
    for (; owed >= 1; owed -= 1, page = (page + kPage) % state.size()) ++state[page];
    ::nanosleep(&nap, nullptr);
    const int64_t now = now_ns();
    const int64_t gap = now - last;
    owed += pages_per_ns * static_cast<double>(gap > kGapNs ? kNapNs : gap);
    if (gap > kGapNs) {
      std::printf("%lld %lld\n", static_cast<long long>(now), static_cast<long long>(gap));
      std::fflush(stdout);
    }
    last = now;
  }
}
