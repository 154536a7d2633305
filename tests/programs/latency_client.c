/* latency_client SELF SERVER LOOPS: how long a request and its answer take. Ends the server. */
#include <time.h>

#include "program.h"

static double now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

int main(int argc, char** argv) {
  begin(argc, 3, "latency_client SELF SERVER LOOPS");
  const int server = atoi(argv[2]);
  const int loops = atoi(argv[3]);
  CHECK(loops > 0);
  bind_to(atoi(argv[1]));
  CHECK_RC(dvk_wait4bindep_T(server, PATIENCE_MS), server);
  double longest = 0;
  const double began = now_us();
  for (int i = 0; i < loops; ++i) {
    message m = make(1, i);
    const double before = now_us();
    CHECK_RC(dvk_sendrec_T(server, &m, PATIENCE_MS), OK);
    longest = MAX(longest, now_us() - before);
    CHECK(m.m_type == 1 && m.m1_i1 == i + 1);
  }
  const double average = (now_us() - began) / loops;
  message last = make(0, 0);
  CHECK_RC(dvk_sendrec_T(server, &last, PATIENCE_MS), OK);
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
  printf("%d requests, %.2f us each, longest %.2f us\n", loops, average, longest);
  return passed("latency_client");
}
