// What the test programs share. They run inside a DC, as an application would, and report by lines
// on stdout, which `dvs logs` shows and the tests read.
#pragma once

#include <dvk/dvk.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <map>

namespace dvs::programs {

enum MessageType : int {
  kFirst = 1,    // m1_i1: 0; the sender starts counting
  kRequest = 2,  // m1_i1: one more than in the sender's request before
  kRelease = 3,  // to slow_server: answer what you took
};

constexpr int answer_to(int number) { return 2 * number + 1; }

inline void lines() { setvbuf(stdout, nullptr, _IOLBF, 0); }

inline int my_dc() {
  dc_usr_t dc;
  const int rc = dvk_getdcinfo(-1, &dc);
  if (rc < 0) return rc;
  return dc.dc_dcid;
}

// SIGTERM is kept pending and looked for between requests, so that it interrupts none.
inline void hold_sigterm() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}
inline bool told_to_stop() {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, SIGTERM) == 1;
}

// Answers requests for ever, and complains about each that is lost, doubled or out of order.
inline void serve() {
  std::map<int, int> last;
  for (;;) {
    message m;
    const int rc = dvk_rcvrqst(&m);
    if (rc == EDVSSHUTDOWN) {  // its node was given up by the cluster
      const int bound = dvk_wait4bind_T(20000);
      printf("bound again: %d\n", bound);
      last.clear();
      continue;
    }
    if (rc != OK) {
      printf("BAD: rcvrqst: %d\n", rc);
      usleep(1000);
      continue;
    }
    const int number = m.m1_i1;
    const int expected = m.m_type == kFirst ? 0 : last[m.m_source] + 1;
    if (number != expected) {
      printf("BAD: request %d of %d, expected %d\n", number, m.m_source, expected);
    }
    last[m.m_source] = number;
    m.m1_i1 = answer_to(number);
    m.m1_i2 = getpid();
    const int replied = dvk_reply(m.m_source, &m);
    if (replied != OK) printf("BAD: reply to %d: %d\n", m.m_source, replied);
  }
}

}  // namespace dvs::programs
