// Time and sleep: the two things of libdvk that a test replaces when it runs processes in virtual
// time (proxy/explore/); hence a file of their own.
#include "dvk/futex.h"

namespace dvs::dvk {

int64_t Deadline::now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

bool event_spin(std::atomic<uint32_t>& event, uint32_t prepared) {
  // About 20 microseconds: longer than a message between two running processes takes, shorter than
  // a sleep and a wake-up.
  constexpr int kSpins = 400;
  for (int i = 0; i < kSpins; ++i) {
    if ((event.load(std::memory_order_acquire) & ~1u) != prepared) return true;
    __builtin_ia32_pause();
  }
  return false;
}

bool event_sleep(std::atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  uint32_t expected = prepared;
  if (!event.compare_exchange_strong(expected, prepared | 1, std::memory_order_seq_cst) &&
      expected != (prepared | 1)) {
    return true;
  }
  return futex_wait(event, prepared | 1, deadline) != ETIMEDOUT;
}

}  // namespace dvs::dvk
