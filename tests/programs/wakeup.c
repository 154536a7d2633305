/* wakeup PARENT CHILD: ends a child's receive from anybody, or its next one; not one from a certain
 * process. */
#include "program.h"

static void be_child(int self, int parent) {
  bind_to(self);
  message m;
  CHECK_RC(dvk_receive_T(ANY, &m, PATIENCE_MS), EDVSWOKENUP);
  m = make(1, 0);
  CHECK_RC(dvk_sendrec_T(parent, &m, PATIENCE_MS), OK); /* is woken meanwhile: goes on */
  CHECK_RC(dvk_receive_T(ANY, &m, PATIENCE_MS), EDVSWOKENUP);
  CHECK_RC(dvk_receive_T(ANY, &m, TIMEOUT_NOWAIT), EDVSAGAIN);
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
}

int main(int argc, char** argv) {
  begin(argc, 2, "wakeup PARENT CHILD");
  const int parent = atoi(argv[1]);
  const int child = atoi(argv[2]);
  const int dc = my_dc();
  bind_to(parent);
  const pid_t pid = fork();
  if (pid == 0) {
    be_child(child, parent);
    return EXIT_SUCCESS;
  }
  CHECK_RC(dvk_wait4bindep_T(child, PATIENCE_MS), child);
  proc_usr_t info;
  do {
    CHECK_RC(dvk_getprocinfo(dc, child, &info), OK);
  } while (!TEST_BIT(info.p_rts_flags, BIT_RECEIVING));
  CHECK_RC(dvk_wakeup(dc, child), OK);
  message m;
  CHECK_RC(dvk_receive_T(child, &m, PATIENCE_MS), OK);
  const int rc = dvk_wakeup(dc, child); /* it waits for its answer */
  CHECK(rc == OK || rc == EDVSPROCRUN || rc == EDVSPROCSTS);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), OK);
  reap(pid);
  CHECK_RC(dvk_wakeup(dc, child), EDVSDSTDIED);
  return passed("wakeup");
}
