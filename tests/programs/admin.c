/* admin SELF OTHER NAME: each administrative call, done right and done wrong, by node SELF's dvsd
 * in a cluster that has a node OTHER, called NAME. Runs outside DCs. */
#include "program.h"

enum { NOBODY = 250 };

static dc_usr_t new_dc(int dcid, const char* name) {
  dc_usr_t dc;
  memset(&dc, 0, sizeof dc);
  dc.dc_dcid = dcid;
  dc.dc_warn2proc = NONE;
  memcpy(dc.dc_name, name, MIN(strlen(name), sizeof dc.dc_name)); /* perhaps without an end */
  return dc;
}

static void check_dvs(int self) {
  dvs_usr_t dvs, *p = &dvs;
  memset(p, 0, sizeof dvs);
  CHECK_RC(dvk_dvs_init(self, NULL), EDVSINVAL);
  CHECK_RC(dvk_dvs_init(NOBODY, p), EDVSBADNODEID);
  CHECK_RC(dvk_dvs_init(self, p), self);
  printf(DVS_USR_FORMAT DVS_VER_FORMAT, DVS_USR_FIELDS(p), DVS_VER_FIELDS(p));
  CHECK(dvs.d_name[0] != 0 && dvs.d_version == DVS_VERSION && dvs.d_nr_tasks == NR_TASKS);
  CHECK(dvs.d_nr_nodes == NR_NODES && dvs.d_nr_procs == NR_PROCS && dvs.d_max_copylen > 0);
  CHECK((dvs.d_flags & DVK_INITIALIZED) != 0);
  CHECK_RC(dvk_dvs_init(self, p), self); /* what it has is no more than it has */
  dvs_usr_t more = dvs;
  more.d_nr_tasks++;
  CHECK_RC(dvk_dvs_init(self, &more), EDVSBADRANGE);
  more = dvs;
  more.d_max_copylen++;
  CHECK_RC(dvk_dvs_init(self, &more), EDVSBADVALUE);
  more.d_max_copylen = -1;
  CHECK_RC(dvk_dvs_init(self, &more), EDVSBADVALUE);
}

static void check_dc_arguments(void) {
  CHECK_RC(dvk_dc_init(NULL), EDVSINVAL);
  dc_usr_t dc = new_dc(-1, "sixteen-letters-");
  CHECK_RC(dvk_dc_init(&dc), EDVSNAMESIZE);
  dc = new_dc(-1, "");
  CHECK_RC(dvk_dc_init(&dc), EDVSINVAL);
  dc = new_dc(-1, "not/a/name");
  CHECK_RC(dvk_dc_init(&dc), EDVSINVAL);
  dc = new_dc(-2, "DC7");
  CHECK_RC(dvk_dc_init(&dc), EDVSBADDCID);
  dc = new_dc(1 << 16, "DC7");
  CHECK_RC(dvk_dc_init(&dc), EDVSBADDCID);
  dc = new_dc(-1, "DC7");
  dc.dc_nr_tasks = NR_TASKS - 1;
  CHECK_RC(dvk_dc_init(&dc), EDVSBADRANGE);
  dc = new_dc(-1, "DC7");
  dc.dc_nr_procs = 1 << 20;
  CHECK_RC(dvk_dc_init(&dc), EDVSBADRANGE);
  dc.dc_nr_procs = 221;
  dc.dc_nr_sysprocs = 221 + NR_TASKS;
  CHECK_RC(dvk_dc_init(&dc), EDVSBADRANGE);
  CHECK(dc.dc_dcid == -1 && dc.dc_nr_tasks == 0); /* nothing is filled in after an error */
  CHECK_RC(dvk_dc_end(NOBODY), EDVSBADDCID);
}

static void check_nodes_of(int dcid, int self, int other) {
  CHECK_RC(dvk_add_node(NOBODY, other), EDVSBADDCID);
  CHECK_RC(dvk_add_node(dcid, NOBODY), EDVSBADNODEID);
  CHECK_RC(dvk_add_node(dcid, self), EDVSDCNODE);
  CHECK_RC(dvk_del_node(dcid, other), EDVSNODCNODE);
  CHECK_RC(dvk_del_node(dcid, self), EDVSRSCBUSY);
  CHECK_RC(dvk_add_node(dcid, other), OK);
  CHECK_RC(dvk_add_node(dcid, other), EDVSDCNODE);
  CHECK_RC(dvk_del_node(dcid, self), OK);
  CHECK_RC(dvk_add_node(dcid, self), OK);
  CHECK_RC(dvk_del_node(NOBODY, other), EDVSBADDCID);
  CHECK_RC(dvk_del_node(dcid, NOBODY), EDVSBADNODEID);
  CHECK_RC(dvk_delnode(dcid, other), OK);
}

static void check_dc(int self, int other) {
  dc_usr_t dc = new_dc(7, "DC7"), *p = &dc;
  dc.dc_nr_procs = 221;
  dc.dc_nr_tasks = NR_TASKS;
  dc.dc_nr_sysprocs = NR_SYS_PROCS;
  dc.dc_nr_nodes = NR_NODES;
  CHECK_RC(dvk_dc_init(p), self);
  printf(DC_USR_FORMAT, DC_USR_FIELDS(p));
  CHECK(dc.dc_dcid == 7 && dc.dc_flags == DC_RUNNING && dc.dc_nr_nodes == 1);
  CHECK(dc.dc_nodes == 1UL << self && dc.dc_nr_procs == 221);
  dc_usr_t same = new_dc(-1, "DC7");
  CHECK_RC(dvk_dc_init(&same), EDVSRSCBUSY);
  same = new_dc(7, "DC8");
  CHECK_RC(dvk_dc_init(&same), EDVSRSCBUSY);
  same = new_dc(-1, "DC8");
  CHECK_RC(dvk_dc_init(&same), self);
  CHECK(same.dc_dcid == 8 && same.dc_nr_procs == NR_PROCS && same.dc_nr_tasks == NR_TASKS);
  CHECK(same.dc_nr_sysprocs == NR_SYS_PROCS);
  CHECK_RC(dvk_dc_end(same.dc_dcid), OK);
  check_nodes_of(7, self, other);
  CHECK_RC(dvk_dc_end(7), OK);
  CHECK_RC(dvk_dc_end(7), EDVSBADDCID);
}

static void check_links(int self, int other, const char* name) {
  CHECK_RC(dvk_node_up(name, other, 0), OK);
  CHECK_RC(dvk_node_up(NULL, other, 0), EDVSINVAL);
  CHECK_RC(dvk_node_up("another", other, 0), EDVSBADNODEID);
  CHECK_RC(dvk_node_up(name, self, 0), EDVSBADNODEID);
  CHECK_RC(dvk_node_up(name, NOBODY, 0), EDVSBADNODEID);
  CHECK_RC(dvk_node_down(other), EDVSNOSYS);
  CHECK_RC(dvk_node_down(self), EDVSBADNODEID);
  CHECK_RC(dvk_node_down(NOBODY), EDVSBADNODEID);
  CHECK_RC(dvk_proxies_bind("proxies", 0, getpid(), getpid(), MAXCOPYBUF), EDVSNOSYS);
  CHECK_RC(dvk_proxies_unbind(0), EDVSNOSYS);
  CHECK_RC(dvk_proxy_conn(0, CONNECT_SPROXY), EDVSNOSYS);
  CHECK_RC(dvk_get2rmt(NULL, NULL), EDVSNOSYS);
  CHECK_RC(dvk_get2rmt_T(NULL, NULL, TIMEOUT_NOWAIT), EDVSNOSYS);
  CHECK_RC(dvk_put2lcl(NULL, NULL), EDVSNOSYS);
}

int main(int argc, char** argv) {
  begin(argc, 3, "admin SELF OTHER NAME");
  const int self = atoi(argv[1]);
  const int other = atoi(argv[2]);
  check_dvs(self);
  check_dc_arguments();
  check_dc(self, other);
  check_links(self, other, argv[3]);
  return passed("admin");
}
