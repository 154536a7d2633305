#include "base/clock.h"

#include <ctime>

namespace dvs {
namespace {

int64_t read_clock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

int64_t monotonic_ns() { return read_clock(CLOCK_MONOTONIC); }
int64_t realtime_ns() { return read_clock(CLOCK_REALTIME); }

}  // namespace dvs
