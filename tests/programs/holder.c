/* holder SELF MASTER: waits for third_party to change its buffer, and checks what is there then. */
#include "program.h"

static char buffer[(1 << 20) + 1];

int main(int argc, char** argv) {
  begin(argc, 2, "holder SELF MASTER");
  const int self = atoi(argv[1]);
  const int master = atoi(argv[2]);
  bind_to(self);
  fill(buffer, sizeof buffer, self);
  CHECK_RC(dvk_wait4bindep_T(master, PATIENCE_MS), master);
  message m = make(1, 0);
  m.m1_p1 = buffer;
  CHECK_RC(dvk_sendrec_T(master, &m, PATIENCE_MS), OK);
  const size_t bytes = (size_t)m.m1_i1; /* so much was copied here, of pattern m_type */
  CHECK(is_filled(buffer, bytes, m.m_type));
  CHECK(buffer[bytes] == pattern(bytes, self)); /* and no more */
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
  return passed("holder");
}
