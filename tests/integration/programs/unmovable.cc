// unmovable: holds an io_uring, which criu cannot dump, and counts.
#include <linux/io_uring.h>
#include <sys/syscall.h>

#include "common.h"

int main() {
  dvs::programs::lines();
  io_uring_params params{};
  const long fd = syscall(SYS_io_uring_setup, 4, &params);
  if (fd < 0) {
    perror("no io_uring");
    return 77;
  }
  for (int i = 1;; ++i) {
    printf("tick %d\n", i);
    usleep(10'000);
  }
}
