/* The original's administrative calls: they change the cluster, not a process. Link with -ldvkadm.
 *
 * They ask this node's dvsd by its HTTP API, as `dvs` does: $DVS_SOCKET, else /run/dvs/dvsd.sock.
 * Who may open that socket may use them; inside a DC it is not to be seen. "This node" is the one
 * of that dvsd. Each call blocks until it is done, on all nodes concerned; at most 30 s for each
 * question and 60 s for each change, then EDVSTIMEDOUT (of a change: it may be done, or go on).
 * They may be called from any thread and go on after a signal. libdvk itself has nothing to do with
 * them.
 *
 * All may give EDVSDVSINIT (no dvsd listens there), EDVSPRIVILEGES (the system does not let the
 * caller open the socket), EDVSTIMEDOUT, EDVSRSCBUSY (the directory or another node cannot be
 * reached, or something is in use), EDVSALLOCMEM (no room), EDVSGENERIC (an error nobody planned
 * for). docs/ipc-reference.md has the rest. */
#ifndef DVK_DVK_ADMIN_H
#define DVK_DVK_ADMIN_H

#include <dvk/dvk.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- the DVS, as this node sees it ----------------------------------------------------------- */

/* Starting dvsd makes a machine a node; this looks whether it did. Returns the node's id when it is
 * `node` and up, and fills in *dvs. What *dvs has before are the program's needs: 0, or at most
 * what DVS has. EDVSINVAL (null pointer), EDVSBADNODEID (it is another node), EDVSBADRANGE (sizes
 * of tables), EDVSBADVALUE (sizes of copies). */
int dvk_dvs_init(int node, dvs_usr_t* dvs);

/* Ends what this node has of DCs: those of this node alone as dvk_dc_end() does, the others as
 * dvk_del_node() does. It goes on after an error and returns the first one. dvsd lives on. */
int dvk_dvs_end(void);

/* ---- DCs ------------------------------------------------------------------------------------- */

/* Creates a DC on this node alone: dc_name, dc_dcid (-1: DVS chooses), dc_nr_procs, dc_nr_tasks and
 * dc_nr_sysprocs (0: the default), dc_warn2proc, dc_warnmsg. dc_nr_nodes is not looked at. Returns
 * this node's id and fills in *dc as dvk_getdcinfo() does, but dc_cpumask.
 * EDVSINVAL (null pointer, name), EDVSNAMESIZE, EDVSBADDCID, EDVSBADRANGE, EDVSRSCBUSY (the name or
 * the number is taken). */
int dvk_dc_init(dc_usr_t* dc);

/* Removes a DC from all its nodes; its processes are killed. EDVSBADDCID. */
int dvk_dc_end(int dcid);

/* Extends a DC to a node, or takes it from one on which it has no endpoints. Once, from any node.
 * EDVSBADDCID, EDVSBADNODEID; add: EDVSNODEFREE (the node is down), EDVSDCNODE (it is part
 * already); del: EDVSNODCNODE (it is not), EDVSRSCBUSY (endpoints live there, or it is the last
 * one: the original took the node out nevertheless). */
int dvk_add_node(int dcid, int node);
int dvk_del_node(int dcid, int node);
#define dvk_delnode(dcid, node) dvk_del_node(dcid, node)

/* ---- nodes and links: dvsd's own ------------------------------------------------------------- */

/* dvsd connects to every node that is up, by itself and again; there are no proxies to choose.
 * node_up: OK when this node is connected to node `node`, which is called `name`; EDVSNOTCONN when
 * it is not. node_down: OK when it is not; EDVSNOSYS when it is: end its dvsd. Both EDVSBADNODEID:
 * no such node, or this one. */
int dvk_node_up(const char* name, int node, int pxid);
int dvk_node_down(int node);

/* dvsd is the proxy of every node. All answer EDVSNOSYS, whatever the arguments. */
enum { CONNECT_SPROXY = 1, CONNECT_RPROXY = 2, DISCONNECT_SPROXY = 3, DISCONNECT_RPROXY = 4 };
typedef struct cmd_s cmd_t;                  /* a command between proxies; nobody makes one here */
typedef union proxy_payload proxy_payload_t; /* likewise */
int dvk_proxies_bind(const char* name, int pxid, int sender_pid, int receiver_pid, int maxbytes);
int dvk_proxies_unbind(int pxid);
int dvk_proxy_conn(int pxid, int status);
int dvk_get2rmt_T(cmd_t* header, proxy_payload_t* payload, long timeout_ms);
#define dvk_get2rmt(header, payload) dvk_get2rmt_T(header, payload, TIMEOUT_MOLCALL)
int dvk_put2lcl(cmd_t* header, proxy_payload_t* payload);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DVK_DVK_ADMIN_H */
