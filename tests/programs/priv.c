/* priv SELF CHILD: a process shows its child's permission record and restricts it; the child is
 * refused what it may not do any more, and may again when it gets its record back. */
#include "program.h"

enum { TRY_SEND = 40, TRY_NOTIFY, TRY_SETPRIV, END, PRESENT };

static int dcid;

static int try_setpriv(void) {
  priv_usr_t mine;
  const int rc = dvk_getpriv(dcid, SELF, &mine);
  return rc == OK ? dvk_setpriv(dcid, SELF, &mine) : rc;
}

/* Does what it is told to, and tells what came of it. */
static int obey(int master) {
  for (;;) {
    message m, present = make(PRESENT, 0);
    CHECK_RC(dvk_receive_T(master, &m, PATIENCE_MS), OK);
    int rc = OK;
    if (m.m_type == TRY_SEND) rc = dvk_send_T(master, &present, PATIENCE_MS);
    if (m.m_type == TRY_NOTIFY) rc = dvk_notify(master);
    if (m.m_type == TRY_SETPRIV) rc = try_setpriv();
    if (m.m_type == END) break;
    m = make(m.m_type, rc);
    CHECK_RC(dvk_sendrec_T(master, &m, PATIENCE_MS), OK);
  }
  CHECK_RC(dvk_unbind(dcid, SELF), OK);
  return EXIT_SUCCESS;
}

/* Returns what the child was answered; its message or notification came first. */
static int order(int child, int what) {
  message m = make(what, 0);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), OK);
  int present = 0;
  CHECK_RC(dvk_receive_T(child, &m, PATIENCE_MS), OK);
  if (m.m_type != what) {
    present = m.m_type == (what == TRY_SEND ? PRESENT : NOTIFY_FROM(child));
    CHECK_RC(dvk_receive_T(child, &m, PATIENCE_MS), OK);
  }
  CHECK(m.m_type == what);
  CHECK(present == (m.m1_i1 == OK && what != TRY_SETPRIV));
  const int rc = m.m1_i1;
  CHECK_RC(dvk_reply_T(child, &m, PATIENCE_MS), OK);
  return rc;
}

static priv_usr_t record_of(int endpoint) {
  priv_usr_t record, *p = &record;
  CHECK_RC(dvk_getpriv(dcid, endpoint, p), OK);
  printf("%d: " PRIV_USR_FORMAT, endpoint, PRIV_USR_FIELDS(p));
  return record;
}

static void check_calls(int child) {
  const priv_usr_t all = record_of(child);
  const int calls[] = {DVK_SEND, DVK_NOTIFY, DVK_SETPRIV};
  const int orders[] = {TRY_SEND, TRY_NOTIFY, TRY_SETPRIV};
  for (int i = 0; i < 3; ++i) {
    CHECK(get_sys_bit(all.priv_dvk_allowed, calls[i]));
    CHECK_RC(order(child, orders[i]), OK);
    priv_usr_t less = all;
    unset_sys_bit(less.priv_dvk_allowed, calls[i]);
    CHECK_RC(dvk_setpriv(dcid, child, &less), OK);
    CHECK(!get_sys_bit(record_of(child).priv_dvk_allowed, calls[i]));
    for (int j = 0; j < 3; ++j) CHECK_RC(order(child, orders[j]), i == j ? EDVSBADCALL : OK);
    CHECK_RC(dvk_setpriv(dcid, child, &all), OK);
    CHECK_RC(order(child, orders[i]), OK);
  }
}

static void check_destinations(int self, int child) {
  message m = make(TRY_SETPRIV, 0);
  const priv_usr_t mine = record_of(self);
  priv_usr_t less = mine;
  unset_sys_bit(less.priv_ipc_to, child + NR_TASKS);
  CHECK_RC(dvk_setpriv(dcid, SELF, &less), OK);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), EDVSTRAPDENIED);
  CHECK_RC(dvk_sendrec_T(child, &m, PATIENCE_MS), EDVSTRAPDENIED);
  CHECK_RC(dvk_notify(child), EDVSTRAPDENIED);
  CHECK_RC(dvk_setpriv(dcid, SELF, &mine), OK);

  const priv_usr_t its = record_of(child);
  less = its;
  unset_sys_bit(less.priv_ipc_from, self + NR_TASKS);
  CHECK_RC(dvk_setpriv(dcid, child, &less), OK);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), EDVSTRAPDENIED);
  CHECK_RC(dvk_setpriv(dcid, child, &its), OK);
  CHECK_RC(order(child, TRY_SEND), OK);
}

/* What DVS only keeps, for programs. */
static void check_kept(int child) {
  priv_usr_t record = record_of(child);
  CHECK(record.priv_id == child + NR_TASKS && record.priv_level == SERVER_PRIV);
  record.priv_level = KERNEL_PRIV;
  record.priv_trap_mask = 5;
  CHECK_RC(dvk_setpriv(dcid, child, &record), OK);
  record = record_of(child);
  CHECK(record.priv_level == KERNEL_PRIV && record.priv_trap_mask == 5);
}

int main(int argc, char** argv) {
  begin(argc, 2, "priv SELF CHILD");
  const int self = atoi(argv[1]);
  const int child = atoi(argv[2]);
  dcid = my_dc();
  bind_to(self);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    bind_to(child);
    return obey(self);
  }
  CHECK_RC(dvk_wait4bindep_T(child, PATIENCE_MS), child);
  check_calls(child);
  check_destinations(self, child);
  check_kept(child);

  priv_usr_t record = record_of(child);
  CHECK_RC(dvk_getpriv(dcid, child + 1, &record), EDVSDSTDIED);
  CHECK_RC(dvk_getpriv(dcid, -NR_TASKS - 1, &record), EDVSENDPOINT);
  CHECK_RC(dvk_getpriv(dcid + 1, child, &record), EDVSBADDCID);
  CHECK_RC(dvk_setpriv(dcid, child, NULL), EDVSINVAL);
  message m = make(END, 0);
  CHECK_RC(dvk_send_T(child, &m, PATIENCE_MS), OK);
  reap(pid);
  return passed("priv");
}
