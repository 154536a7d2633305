/* third_party SELF FIRST SECOND BYTES: copies between the memory of two other processes, and
 * between theirs and its own, within bounds. FIRST and SECOND are two of `holder`, on any node. */
#include "program.h"

static char mine[1 << 20];

int main(int argc, char** argv) {
  begin(argc, 4, "third_party SELF FIRST SECOND BYTES");
  const int first = atoi(argv[2]);
  const int second = atoi(argv[3]);
  const size_t bytes = (size_t)atol(argv[4]);
  CHECK(bytes > 0 && bytes <= sizeof mine);
  bind_to(atoi(argv[1]));
  CHECK_RC(dvk_wait4bindep_T(first, PATIENCE_MS), first);
  CHECK_RC(dvk_wait4bindep_T(second, PATIENCE_MS), second);

  /* Both ask for something to do, and wait: their buffers are in m1_p1. */
  message a, b;
  CHECK_RC(dvk_receive_T(first, &a, PATIENCE_MS), OK);
  CHECK_RC(dvk_receive_T(second, &b, PATIENCE_MS), OK);
  CHECK_RC(dvk_vcopy(first, a.m1_p1, second, b.m1_p1, bytes), OK);
  CHECK_RC(dvk_vcopy(second, b.m1_p1, SELF, mine, bytes), OK);
  CHECK(is_filled(mine, bytes, first));
  fill(mine, bytes, 99);
  CHECK_RC(dvk_vcopy(SELF, mine, first, a.m1_p1, bytes), OK);

  CHECK_RC(dvk_vcopy(first, a.m1_p1, second, (void*)64, bytes), EDVSFAULT);
  CHECK_RC(dvk_vcopy(SELF, mine, SELF, mine + 1, 1), EDVSPERM);
  dvs_usr_t dvs;
  CHECK(dvk_getdvsinfo(&dvs) >= 0);
  CHECK_RC(dvk_vcopy(first, a.m1_p1, SELF, mine, (size_t)dvs.d_max_copylen + 1), EDVSBADRANGE);

  a = make(99, (int)bytes);
  CHECK_RC(dvk_reply_T(first, &a, PATIENCE_MS), OK);
  b = make(first, (int)bytes);
  CHECK_RC(dvk_reply_T(second, &b, PATIENCE_MS), OK);
  /* Whoever answers another node and ends at once may be known to have ended before the answer is
   * there. */
  CHECK_RC(dvk_wait4unbind_T(first, PATIENCE_MS), OK);
  CHECK_RC(dvk_wait4unbind_T(second, PATIENCE_MS), OK);
  return passed("third_party");
}
