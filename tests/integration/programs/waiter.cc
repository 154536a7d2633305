// waiter MS: waits for a message with a time-out, says "receive RC after MS" in wall-clock time.
#include <ctime>

#include "common.h"

namespace {

long long real_ms() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1000LL + now.tv_nsec / 1'000'000;
}

}  // namespace

int main(int argc, char** argv) {
  dvs::programs::lines();
  if (argc < 2) return 2;
  printf("waiting\n");
  const long long before = real_ms();
  message m;
  const int rc = dvk_receive_T(ANY, &m, atoi(argv[1]));
  printf("receive %d after %lld\n", rc, real_ms() - before);
  pause();
}
