/* launcher PARENT CHILD: a launcher binds the processes it starts, which wait for that; others wait
 * for them to come and to go; what is told about each. */
#include "program.h"

static void be_child(int self, int parent) {
  CHECK_RC(dvk_wait4bind_T(PATIENCE_MS), self);
  CHECK_RC(dvk_getep(getpid()), self);
  CHECK_RC(dvk_wait4bindep_T(parent, PATIENCE_MS), parent);
  message m = make(7, getpid());
  CHECK_RC(dvk_sendrec_T(parent, &m, PATIENCE_MS), OK);
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
}

int main(int argc, char** argv) {
  begin(argc, 2, "launcher PARENT CHILD");
  const int parent = atoi(argv[1]);
  const int child = atoi(argv[2]);
  const int dc = my_dc();
  bind_to(parent);
  CHECK_RC(dvk_wait4bindep_T(child, 1), EDVSTIMEDOUT);
  CHECK_RC(dvk_wait4unbind_T(child, 1), OK); /* it is not bound */
  const pid_t pid = fork();
  if (pid == 0) {
    be_child(child, parent);
    return EXIT_SUCCESS;
  }
  CHECK_RC(dvk_lclbind(dc, pid, child), child);
  CHECK_RC(dvk_lclbind(dc, pid, child), child); /* again: it has it */
  CHECK_RC(dvk_lclbind(dc, getpid(), child), EDVSSLOTUSED);
  CHECK_RC(dvk_lclbind(dc, 4000000, child + 1), EDVSBADPID);
  CHECK_RC(dvk_wait4unbind_T(child, 1), EDVSTIMEDOUT);

  message m;
  CHECK_RC(dvk_receive_T(child, &m, PATIENCE_MS), OK);
  CHECK(m.m_type == 7 && m.m1_i1 == pid);
  proc_usr_t info;
  CHECK_RC(dvk_getprocinfo(dc, _ENDPOINT_P(child), &info), OK);
  CHECK(info.p_endpoint == child && info.p_lpid == pid && info.p_dcid == dc);
  CHECK(TEST_BIT(info.p_rts_flags, BIT_RECEIVING) && !TEST_BIT(info.p_rts_flags, BIT_REMOTE));
  CHECK(info.p_getfrom == parent);
  const proc_usr_t* p = &info;
  printf(PROC_USR_FORMAT, PROC_USR_FIELDS(p));
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), OK);
  CHECK_RC(dvk_wait4unbind_T(child, PATIENCE_MS), OK);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), EDVSDSTDIED);
  reap(pid);
  return passed("launcher");
}
