/* compat SELF: every name of dvk_compat.h, used as the original's programs use it. */
#define USRDBG 1
#include "program.h"

extern int dvk_fd;
int local_nodeid; /* programs define it themselves, or only declare it */

static int checked(int rcode) {
  if (rcode < 0) ERROR_RETURN(rcode);
  return rcode;
}

static void print_message(message* m_ptr) {
  USRDEBUG("MSG1 " MSG1_FORMAT, MSG1_FIELDS(m_ptr));
  USRDEBUG("no semicolon\n")
  printf(MSG2_FORMAT, MSG2_FIELDS(m_ptr));
  printf(MSG3_FORMAT, MSG3_FIELDS(m_ptr));
  printf(MSG4_FORMAT, MSG4_FIELDS(m_ptr));
  printf(MSG5_FORMAT, MSG5_FIELDS(m_ptr));
  printf(MSG6_FORMAT, MSG6_FIELDS(m_ptr));
  printf(MSG7_FORMAT, MSG7_FIELDS(m_ptr));
  printf(MSG8_FORMAT, MSG8_FIELDS(m_ptr));
  printf(MSG9_FORMAT, MSG9_FIELDS(m_ptr));
  printf(MSGA_FORMAT, MSGA_FIELDS(m_ptr));
  printf(MSGB_FORMAT, MSGB_FIELDS(m_ptr));
  printf(MSGC_FORMAT, MSGC_FIELDS(m_ptr));
  struct timespec* t_ptr = &m_ptr->m9_t1;
  printf(TIME_FORMAT, TIME_FIELDS(t_ptr));
}

static void print_information(int dcid, int self) {
  dvs_usr_t dvs, *dvs_ptr = &dvs;
  local_nodeid = dvk_getdvsinfo(dvs_ptr);
  CHECK(local_nodeid > DVS_NO_INIT);
  printf(DVS_USR_FORMAT, DVS_USR_FIELDS(dvs_ptr));
  printf(DVS_MAX_FORMAT, DVS_MAX_FIELDS(dvs_ptr));
  printf(DVS_VER_FORMAT, DVS_VER_FIELDS(dvs_ptr));
  struct dc_usr dcu, *dcu_ptr = &dcu;
  CHECK_RC(dvk_getdcinfo(dcid, dcu_ptr), OK);
  CHECK(dcu_ptr->dc_flags == DC_RUNNING);
  printf(DC_USR1_FORMAT, DC_USR1_FIELDS(dcu_ptr));
  proc_usr_t usr_info, *p_usr = &usr_info;
  CHECK_RC(dvk_getprocinfo(PROC_NO_PID, _ENDPOINT_P(self), p_usr), OK);
  CHECK(!TEST_BIT(p_usr->p_rts_flags, BIT_REMOTE));
  CHECK(!TEST_BIT(p_usr->p_misc_flags, MIS_BIT_RMTBACKUP));
  printf(PROC_USR_FORMAT, PROC_USR_FIELDS(p_usr));
  printf(PROC_COUNT_FORMAT, PROC_COUNT_FIELDS(p_usr));
  node_usr_t node, *n_ptr = &node;
  if (dvk_getnodeinfo(local_nodeid, n_ptr) == OK) printf(NODE_TIME_FORMAT, NODE_TIME_FIELDS(n_ptr));
  printf(DC_USR2_FORMAT, DC_USR2_FIELDS(dcu_ptr));
  printf(DC_USR_FORMAT, DC_USR_FIELDS(dcu_ptr));
  printf(DC_WARN_FORMAT, DC_WARN_FIELDS(dcu_ptr));
  printf(DC_CPU_FORMAT, DC_CPU_FIELDS(dcu_ptr));
  printf(PROC_WAIT_FORMAT, PROC_WAIT_FIELDS(p_usr));
  printf(PROC_CPU_FORMAT, PROC_CPU_FIELDS(p_usr));
  if (n_ptr->n_nodeid == local_nodeid) printf(NODE_USR_FORMAT, NODE_USR_FIELDS(n_ptr));
  priv_usr_t priv, *priv_ptr = &priv;
  CHECK_RC(dvk_getpriv(dcid, self, priv_ptr), OK);
  printf(PRIV_USR_FORMAT, PRIV_USR_FIELDS(priv_ptr));
}

int main(int argc, char** argv) {
  begin(argc, 1, "compat SELF");
  const int self = atoi(argv[1]);
  const int dcid = my_dc();
  CHECK(dcid >= 0 && dcid < NR_DCS);
  CHECK(self >= -NR_TASKS && self < NR_PROCS - NR_TASKS);
  int ret = dvk_open();
  if (ret < 0) ERROR_EXIT(ret);
  CHECK(close(dvk_fd) == -1 && dvk_open() == OK); /* as programs do that were moved by hand */
  ret = dvk_bind(dcid, self);
  if (ret < EDVSERRCODE) ERROR_EXIT(ret);
  CHECK(checked(OK) == OK && checked(EDVSBUSY) == EDVSBUSY && dvk_fd == -1);

  unsigned long bitmap = 0;
  SET_BIT(bitmap, 40);
  CHECK(TEST_BIT(bitmap, 40) && !TEST_BIT(bitmap, 8));
  CLR_BIT(bitmap, 40);
  CHECK(bitmap == 0 && TRUE && !FALSE);
  CHECK(MIN(1, 2) * 10 == 10 && MAX(1, 2) * 10 == 20);
  CHECK(KERNEL == -1 && SYSTEM == -2 && SYSTASK(3) == -5 && SLOTS == -34 && CLOCK == -35);

  message* m_ptr = malloc(sizeof(message));
  CHECK(m_ptr != NULL);
  memset(m_ptr, 0, sizeof(message));
  /* A pointer as a number, as most programs pass it, takes a cast to a pointer here. */
  CHECK_RC(dvk_receive_T(ANY, (message*)(long)m_ptr, TIMEOUT_NOWAIT), EDVSAGAIN);
  print_message(m_ptr);
  print_information(dcid, self);
  free(m_ptr);
  return passed("compat");
}
