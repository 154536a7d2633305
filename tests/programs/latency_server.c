/* latency_server SELF: answers requests until one of type 0. */
#include "program.h"

int main(int argc, char** argv) {
  begin(argc, 1, "latency_server SELF");
  bind_to(atoi(argv[1]));
  for (;;) {
    message m;
    CHECK_RC(dvk_receive(ANY, &m), OK);
    const int type = m.m_type;
    const int client = m.m_source;
    m.m1_i1 += 1;
    CHECK_RC(dvk_send_T(client, &m, PATIENCE_MS), OK);
    if (type != 0) continue;
    CHECK_RC(dvk_wait4unbind_T(client, PATIENCE_MS), OK); /* it has its answer */
    return passed("latency_server");
  }
}
