// clock_watcher: says "jump" when CLOCK_MONOTONIC runs back or ahead by more than 2 s between two
// looks, and "look N" now and then. Ends with "done jumps=N".
#include <ctime>

#include "common.h"

using namespace dvs::programs;

namespace {

double seconds(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

}  // namespace

int main() {
  lines();
  hold_sigterm();
  int jumps = 0;
  double mono = seconds(CLOCK_MONOTONIC);
  double boot = seconds(CLOCK_BOOTTIME);
  for (int look = 0; !told_to_stop(); ++look) {
    const double mono_now = seconds(CLOCK_MONOTONIC);
    const double boot_now = seconds(CLOCK_BOOTTIME);
    for (const double step : {mono_now - mono, boot_now - boot}) {
      if (step >= 0 && step <= 2) continue;
      printf("jump of %.3f s\n", step);
      ++jumps;
    }
    mono = mono_now;
    boot = boot_now;
    if (look % 50 == 0) printf("look %d\n", look);
    usleep(1000);
  }
  printf("done jumps=%d\n", jumps);
}
