// slow_server: takes a request, says "took NUMBER", and answers it when a kRelease comes from
// somebody else.
#include "common.h"

using namespace dvs::programs;

int main() {
  lines();
  printf("ready\n");
  int client = NONE;
  message request;
  for (;;) {
    message m;
    const int rc = dvk_receive(ANY, &m);
    if (rc != OK) {
      printf("BAD: receive: %d\n", rc);
      return 1;
    }
    if (m.m_type == kRequest) {
      printf("took %d\n", m.m1_i1);
      client = m.m_source;
      request = m;
    } else {
      request.m1_i1 = answer_to(request.m1_i1);
      printf("replied %d\n", dvk_reply(client, &request));
    }
  }
}
