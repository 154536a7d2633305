// Time, and waiting for it: what a test replaces when it runs processes in virtual time
// (proxy/explore/); hence a file of their own.
#include "dvk/futex.h"

#include <sched.h>

#include <algorithm>

namespace dvs::dvk {

timespec wall_time() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now;
}

int64_t Deadline::now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

namespace {

// How often a thread looks before it sleeps. What was in vain is done less and less, and tried
// again now and then.
class Patience {
 public:
  constexpr Patience(int most, int probe) : most_(most), probe_(probe), looks_(most) {}

  template <typename Pause>
  bool await(Atomic<uint32_t>& event, uint32_t prepared, Pause pause) {
    constexpr int kProbeEvery = 32;
    const bool probe = ++waits_ % kProbeEvery == 0;
    const int looks = probe ? std::max(looks_, probe_) : looks_;
    for (int i = 0; i < looks; ++i) {
      pause();
      if ((event.load(kPublished) & ~1u) == prepared) continue;
      looks_ = most_;
      return true;
    }
    looks_ /= 2;
    return false;
  }

 private:
  int most_;
  int probe_;
  int looks_;
  unsigned waits_ = 0;
};

// About 20 microseconds: more than a message between two running processes takes, less than a
// sleep and a wake-up on the other processor. A probe outlasts that: when both sides sleep each
// time, it is what gets them running side by side again.
constexpr int kSpins = 400;
constexpr int kSpinsOfProbe = 2000;
constexpr int kYields = 10;

__attribute__((tls_model("initial-exec"))) thread_local Patience spinning(kSpins, kSpinsOfProbe);
__attribute__((tls_model("initial-exec"))) thread_local Patience yielding(kYields, kYields);

}  // namespace

bool event_await(Atomic<uint32_t>& event, uint32_t prepared, Near near) {
  if ((event.load(kPublished) & ~1u) != prepared) return true;
  switch (near) {
    case Near::kElsewhere:
      return spinning.await(event, prepared, [] { __builtin_ia32_pause(); });
    case Near::kHere:
      return yielding.await(event, prepared, sched_yield);
    case Near::kAsleep:
      break;
  }
  return false;
}

}  // namespace dvs::dvk
