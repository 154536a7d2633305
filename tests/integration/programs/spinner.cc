// spinner: computes for ever, never calls libdvk. Says "tick N STATE PID" every 100,000 steps of a
// generator whose state is checked by the test.
#include <cstdint>

#include "common.h"

int main() {
  dvs::programs::lines();
  uint64_t state = 1;
  for (unsigned long tick = 1;; ++tick) {
    for (int i = 0; i < 100'000; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      asm volatile("" : "+r"(state));
    }
    printf("tick %lu %llx %d\n", tick, static_cast<unsigned long long>(state), getpid());
    usleep(2000);
  }
}
