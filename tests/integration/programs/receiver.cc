// receiver: waits in dvk_receive for ever, says "got NUMBER from ENDPOINT" for each message.
#include "common.h"

int main() {
  dvs::programs::lines();
  printf("ready\n");
  for (;;) {
    message m;
    const int rc = dvk_receive(ANY, &m);
    if (rc == OK) {
      printf("got %d from %d\n", m.m1_i1, m.m_source);
    } else {
      printf("BAD: receive: %d\n", rc);
      usleep(1000);
    }
  }
}
