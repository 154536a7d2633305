// client FIRST COUNT REQUESTS PAUSE_US: sends numbered requests to COUNT endpoints in turn, checks
// every answer, and says at the end "done requests=N errors=N". REQUESTS 0: until SIGTERM.
#include <algorithm>
#include <cstring>
#include <ctime>

#include "common.h"

using namespace dvs::programs;

namespace {

bool ask(int server, int number) {
  message m;
  memset(&m, 0, sizeof m);
  m.m_type = number == 0 ? kFirst : kRequest;
  m.m1_i1 = number;
  const int rc = dvk_sendrec(server, &m);
  const bool good = rc == OK && m.m_source == server && m.m1_i1 == answer_to(number);
  if (!good) {
    printf("BAD: request %d to %d: rc %d, from %d, %d\n", number, server, rc, m.m_source, m.m1_i1);
  }
  return good;
}

double now_ms() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  lines();
  hold_sigterm();
  if (argc < 5) return 2;
  const int first = atoi(argv[1]);
  const int count = atoi(argv[2]);
  const int requests = atoi(argv[3]);
  const int pause_us = atoi(argv[4]);
  int errors = 0;
  int number = 0;
  double longest_ms = 0;
  for (; requests == 0 ? !told_to_stop() : number < requests; ++number) {
    const double before = now_ms();
    for (int i = 0; i < count; ++i) errors += ask(first + i, number) ? 0 : 1;
    longest_ms = std::max(longest_ms, now_ms() - before);
    if (number == 20) printf("going\n");
    if (number % 200 == 0) printf("at %d\n", number);
    if (pause_us > 0) usleep(static_cast<useconds_t>(pause_us));
  }
  printf("done requests=%d errors=%d longest_ms=%.1f\n", number, errors, longest_ms);
}
