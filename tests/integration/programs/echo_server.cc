// echo_server [FIRST COUNT]: answers requests at its own endpoint, or with COUNT threads, each at
// an endpoint of its own from FIRST on.
#include <atomic>
#include <thread>
#include <vector>

#include "common.h"

using namespace dvs::programs;

int main(int argc, char** argv) {
  lines();
  if (argc < 3) {
    printf("ready\n");
    serve();
  }
  const int first = atoi(argv[1]);
  const int count = atoi(argv[2]);
  std::atomic<int> bound = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&bound, first, i, count] {
      const int rc = dvk_tbind(my_dc(), first + i);
      if (rc != first + i) printf("BAD: tbind %d: %d\n", first + i, rc);
      if (++bound == count) printf("ready\n");
      serve();
    });
  }
  for (auto& thread : threads) thread.join();
}
