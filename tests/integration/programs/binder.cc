// binder PAGES ENDPOINT: one thread writes to its memory, another one binds ENDPOINT and gives it
// back for ever. Says "bound N" now and then, "BAD" when either is refused.
#include <thread>
#include <vector>

#include "common.h"

namespace {

constexpr int kEvery = 20;

void bind_and_unbind(int dc, int endpoint) {
  for (int round = 1;; ++round) {
    const int bound = dvk_bind(dc, endpoint);
    if (bound != endpoint) printf("BAD: bind: %d\n", bound);
    usleep(1000);
    const int rc = dvk_unbind(dc, endpoint);
    if (rc != OK) printf("BAD: unbind: %d\n", rc);
    if (round % kEvery == 0) printf("bound %d\n", round);
    usleep(1000);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  dvs::programs::lines();
  constexpr size_t kPage = 4096;
  std::vector<char> memory(std::strtoul(argv[1], nullptr, 10) * kPage, 1);
  std::thread other(bind_and_unbind, dvs::programs::my_dc(), std::atoi(argv[2]));
  for (size_t i = 0;; i = (i + kPage) % memory.size()) {
    ++memory[i];
    usleep(100);
  }
}
