/* M3-IPC: processes of a distributed container talk by endpoint, wherever they run.
 *
 * The C API of DVS, source-compatible with the calls of the original DVS (P. Pessolani et al.) and
 * 64-bit clean. Link with -ldvk. A program needs no initialisation: the first call maps the
 * container's region (/run/dvs/dc/region; $DVK_REGION names another, for tests). Between calls
 * the library holds nothing but that mapping: no descriptor, no socket, no lock. So a process can
 * be moved to another node at any moment without its help, also in the middle of any call.
 *
 * Every call returns 0, or an endpoint where it says so, or a negative error. Endpoints of system
 * tasks may be negative, down to -35: test with DVK_IS_ERROR(rc) where an endpoint can be the
 * result, with rc < 0 elsewhere.
 *
 * Threads: every call may be made from any thread. A thread uses the endpoint bound to it
 * (dvk_tbind), else its process's main thread's. Two threads must not use one endpoint at the
 * same time (EDVSBUSY). Calls are not async-signal-safe.
 *
 * Time-outs are in milliseconds: TIMEOUT_NOWAIT answers EDVSAGAIN instead of waiting,
 * TIMEOUT_FOREVER never expires. They are turned into a deadline when the call starts, so a
 * migration in between, or an interrupted wait, never extends them.
 *
 * Migration of either party is invisible except for the delay. While a party is migrating, callers
 * wait in their own descriptor, bounded by their own deadline.
 */
#ifndef DVK_DVK_H
#define DVK_DVK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- limits and magic numbers ------------------------------------------------------------- */

#define DVS_VERSION 202611
#define MAXPROCNAME 16
#define MAXDCNAME 16
#define MAXNODENAME 16
#define MAXCOPYLEN (64 * 1024 * 1024) /* default limit of one dvk_vcopy, bytes */

#define ANY 0x7ace  /* receive from whoever sends */
#define NONE 0x6ace /* no endpoint */
#define SELF 0x8ace /* the caller */
#define HARDWARE (-1)

#define TIMEOUT_NOWAIT 0
#define TIMEOUT_FOREVER (-1)
#define TIMEOUT_MOLCALL 30000
#define TIMEOUT_MS 60000

#define NR_TASKS 35 /* slots with negative numbers, in a DC of default shape */
#define LOCALNODE (-1)
#define PROC_NO_PID (-1)

/* endpoint = generation * _ENDPOINT_GENERATION_SIZE + slot number. Servers (slot index below the
 * DC's nr_sysprocs) have generation 0, so their endpoint is their number. User slots get a
 * generation when bound, so that an old client's endpoint is not taken for its successor's;
 * generation 0 of a user slot means "whoever holds it now". */
#define _ENDPOINT_GENERATION_SIZE (NR_TASKS + SELF + 1)
#define _ENDPOINT(g, p) ((g)*_ENDPOINT_GENERATION_SIZE + (p))
#define _ENDPOINT_G(e) (((e) + NR_TASKS) / _ENDPOINT_GENERATION_SIZE)
#define _ENDPOINT_P(e) ((((e) + NR_TASKS) % _ENDPOINT_GENERATION_SIZE) - NR_TASKS)

/* ---- errors ------------------------------------------------------------------------------- */

#define EDVSERRCODE (-300)
#define DVK_IS_ERROR(rc) ((rc) < -NR_TASKS)

#define OK 0
#define EDVSPERM (-1)   /* not allowed, e.g. a vcopy from a process to itself */
#define EDVSINTR (-4)   /* a signal handler ran */
#define EDVSINVAL (-22) /* an argument makes no sense */
#define EDVSFAULT (-14) /* an address of a vcopy is not mapped there */
#define EDVSNOSYS (-38)
/* The POSIX-like codes above are in the range of task endpoints; calls that return endpoints never
 * give them. These are distinct from any endpoint: */
#define EDVSAGAIN (-211)   /* would block, and TIMEOUT_NOWAIT was given */
#define EDVSBUSY (-216)    /* another thread is in a call with this endpoint */
#define EDVSTIMEDOUT (-61) /* the deadline passed */
#define EDVSNOTCONN (-64)  /* the peer's node cannot be reached */
#define EDVSSHUTDOWN (-65) /* the caller's endpoint was unbound by another */
#define EDVSBADDEST (-55)  /* destination is the caller itself, or no possible endpoint */
#define EDVSLOCKED (-101)  /* send to a process that waits for the caller to take its request */
#define EDVSBADCALL (-102)
#define EDVSDEADSRCDST (-105)
#define EDVSSRCDIED (-108) /* the process waited for has gone */
#define EDVSDSTDIED (-109) /* no process (any more) at that endpoint */
#define EDVSTRAPDENIED (-110)
#define EDVSBADNODEID (-301)
#define EDVSBADDCID (-302) /* not the caller's DC */
#define EDVSDCNOTRUN (-303)
#define EDVSBADPROC (-304)
#define EDVSBADPID (-305)   /* no such process in this DC on this node */
#define EDVSENDPOINT (-306) /* number out of the table's range, or of an earlier generation */
#define EDVSNOPROXY (-307)
#define EDVSRMTPROC (-308) /* the process is not on this node */
#define EDVSLCLPROC (-309)
#define EDVSNOTBIND (-310)  /* the caller has no endpoint */
#define EDVSDVSINIT (-318)  /* not in a DC: no region, or one that makes no sense */
#define EDVSNODCNODE (-319) /* the node is not part of the DC */
#define EDVSPROCRUN (-320)
#define EDVSPROCSTS (-324) /* the other party is not in the state this needs */
#define EDVSONCOPY (-328)
#define EDVSOVERRUN (-330)
#define EDVSMIGRATE (-332) /* a migration is under way, or none is */
#define EDVSPRIVILEGES (-335)
#define EDVSBINDTYPE (-336)
#define EDVSSLOTUSED (-337) /* the endpoint is bound already */
#define EDVSBADRANGE (-338)
#define EDVSBADVALUE (-339)
#define EDVSRSCBUSY (-342) /* dvsd does not answer, or all request slots are taken; try again */
#define EDVSNAMESIZE (-343)
#define EDVSALLOCMEM (-344)
#define EDVSWOKENUP (-348) /* dvk_wakeup() ended a receive */

/* ---- messages: 64 bytes, the original's member names --------------------------------------- */

#define M3_STRING 14
#define MD5_SIZE 16
#define SLOTS_BY_MSG 4
#define MC_STRING (M3_STRING - sizeof(int))

typedef struct {
  int m1i1, m1i2, m1i3;
  char *m1p1, *m1p2, *m1p3;
} mess_1;
typedef struct {
  int m2i1, m2i2, m2i3;
  long m2l1, m2l2;
  char* m2p1;
} mess_2;
typedef struct {
  int m3i1, m3i2;
  char* m3p1;
  char m3ca1[M3_STRING];
} mess_3;
typedef struct {
  long m4l1, m4l2, m4l3, m4l4, m4l5;
} mess_4;
typedef struct {
  short m5c1, m5c2;
  int m5i1, m5i2;
  long m5l1, m5l2, m5l3;
} mess_5;
typedef struct {
  char m6ca1[sizeof(mess_3)];
} mess_6;
typedef struct {
  int m7i1, m7i2, m7i3, m7i4;
  char *m7p1, *m7p2;
} mess_7;
typedef struct {
  int m8i1, m8i2;
  char *m8p1, *m8p2, *m8p3, *m8p4;
} mess_8;
typedef struct {
  int m9i1;
  long m9l1;
  struct timespec m9t1;
} mess_9;
typedef struct {
  int mAdst, mAnr, mAia[SLOTS_BY_MSG];
} mess_A;
typedef struct {
  long mBnr;
  char mBmd5[MD5_SIZE];
} mess_B;
typedef struct {
  int mCi1, mCi2, mCi3, mCi4;
  char mCca1[MC_STRING];
} mess_C;

typedef struct {
  int m_source; /* endpoint of the sender, filled in by the receiver's DVK */
  int m_type;
  union {
    mess_1 m_m1;
    mess_2 m_m2;
    mess_3 m_m3;
    mess_4 m_m4;
    mess_5 m_m5;
    mess_6 m_m6;
    mess_7 m_m7;
    mess_8 m_m8;
    mess_9 m_m9;
    mess_A m_mA;
    mess_B m_mB;
    mess_C m_mC;
    char m_raw[56];
  } m_u;
} message;

#define m1_i1 m_u.m_m1.m1i1
#define m1_i2 m_u.m_m1.m1i2
#define m1_i3 m_u.m_m1.m1i3
#define m1_p1 m_u.m_m1.m1p1
#define m1_p2 m_u.m_m1.m1p2
#define m1_p3 m_u.m_m1.m1p3
#define m2_i1 m_u.m_m2.m2i1
#define m2_i2 m_u.m_m2.m2i2
#define m2_i3 m_u.m_m2.m2i3
#define m2_l1 m_u.m_m2.m2l1
#define m2_l2 m_u.m_m2.m2l2
#define m2_p1 m_u.m_m2.m2p1
#define m3_i1 m_u.m_m3.m3i1
#define m3_i2 m_u.m_m3.m3i2
#define m3_p1 m_u.m_m3.m3p1
#define m3_ca1 m_u.m_m3.m3ca1
#define m4_l1 m_u.m_m4.m4l1
#define m4_l2 m_u.m_m4.m4l2
#define m4_l3 m_u.m_m4.m4l3
#define m4_l4 m_u.m_m4.m4l4
#define m4_l5 m_u.m_m4.m4l5
#define m5_c1 m_u.m_m5.m5c1
#define m5_c2 m_u.m_m5.m5c2
#define m5_i1 m_u.m_m5.m5i1
#define m5_i2 m_u.m_m5.m5i2
#define m5_l1 m_u.m_m5.m5l1
#define m5_l2 m_u.m_m5.m5l2
#define m5_l3 m_u.m_m5.m5l3
#define m6_ca1 m_u.m_m6.m6ca1
#define m7_i1 m_u.m_m7.m7i1
#define m7_i2 m_u.m_m7.m7i2
#define m7_i3 m_u.m_m7.m7i3
#define m7_i4 m_u.m_m7.m7i4
#define m7_p1 m_u.m_m7.m7p1
#define m7_p2 m_u.m_m7.m7p2
#define m8_i1 m_u.m_m8.m8i1
#define m8_i2 m_u.m_m8.m8i2
#define m8_p1 m_u.m_m8.m8p1
#define m8_p2 m_u.m_m8.m8p2
#define m8_p3 m_u.m_m8.m8p3
#define m8_p4 m_u.m_m8.m8p4
#define m9_i1 m_u.m_m9.m9i1
#define m9_l1 m_u.m_m9.m9l1
#define m9_t1 m_u.m_m9.m9t1
#define mA_nr m_u.m_mA.mAnr
#define mA_dst m_u.m_mA.mAdst
#define mA_ia m_u.m_mA.mAia
#define mB_nr m_u.m_mB.mBnr
#define mB_md5 m_u.m_mB.mBmd5
#define mC_i1 m_u.m_mC.mCi1
#define mC_i2 m_u.m_mC.mCi2
#define mC_i3 m_u.m_mC.mCi3
#define mC_i4 m_u.m_mC.mCi4
#define mC_ca1 m_u.m_mC.mCca1

/* A notification arrives as a message of type NOTIFY_FROM(slot of its source); m9_i1 counts
 * nothing and is 0, m9_l1 is the value of dvk_ntfy_value (0 otherwise), m9_t1 CLOCK_REALTIME at
 * delivery. */
#define NOTIFY_MESSAGE 0x1000
#define NOTIFY_FROM(p_nr) (NOTIFY_MESSAGE | ((p_nr) + NR_TASKS))

/* ---- binding ------------------------------------------------------------------------------ */

enum { SELF_BIND = 0, LCL_BIND = 1, RMT_BIND = 2, BKUP_BIND = 3, REPLICA_BIND = 4 };

/* Gives a process an endpoint, DC-wide: from then on every node of the DC knows where it is.
 * Answered by this node's dvsd after a transaction with the directory (about a millisecond).
 * Returns the endpoint (for user slots: with its generation). Survives: a crash of dvsd.
 * The binding ends with dvk_unbind() or with the process (or thread).
 *
 *   dvk_bind      the caller (its process's main thread's endpoint)
 *   dvk_tbind     the calling thread, an endpoint of its own
 *   dvk_lclbind   another process of the DC on this node, by its DC-wide pid
 *   dvk_rmtbind   tells this node that `ep` lives on `node`. The directory knows already where
 *                 bound endpoints are, so this is only needed to name one before it is bound;
 *                 then senders wait until it is
 *   dvk_bkupbind  a local process as backup of a primary on `node`: it waits in its first call
 *                 until it becomes the primary (dvk_migr_start, dvk_migr_commit); one per node
 *   dvk_replbind  as dvk_lclbind, for now: a second replica is refused (EDVSSLOTUSED)
 *
 * EDVSBADDCID, EDVSENDPOINT (out of range), EDVSSLOTUSED, EDVSBADPID, EDVSBADNODEID,
 * EDVSNODCNODE, EDVSBINDTYPE, EDVSRSCBUSY. Binding the same endpoint to the same process again
 * returns it. */
int dvk_bind_X(int kind, int dcid, int pid, int ep, int node, const char* name);
#define dvk_bind(dcid, ep) dvk_bind_X(SELF_BIND, dcid, PROC_NO_PID, ep, LOCALNODE, NULL)
#define dvk_tbind(dcid, ep) dvk_bind_X(SELF_BIND, dcid, dvk_gettid(), ep, LOCALNODE, NULL)
#define dvk_lclbind(dcid, pid, ep) dvk_bind_X(LCL_BIND, dcid, pid, ep, LOCALNODE, NULL)
#define dvk_rmtbind(dcid, name, ep, node) dvk_bind_X(RMT_BIND, dcid, PROC_NO_PID, ep, node, name)
#define dvk_bkupbind(dcid, pid, ep, node) dvk_bind_X(BKUP_BIND, dcid, pid, ep, node, NULL)
#define dvk_replbind(dcid, pid, ep) dvk_bind_X(REPLICA_BIND, dcid, pid, ep, LOCALNODE, NULL)
int dvk_gettid(void);

/* Ends a binding; the process lives on. Who waits for it gets EDVSDSTDIED (its message was not
 * taken) or EDVSSRCDIED (its request was taken and will not be answered). `ep` may be SELF. */
int dvk_unbind_T(int dcid, int ep, long timeout_ms);
#define dvk_unbind(dcid, ep) dvk_unbind_T(dcid, ep, TIMEOUT_FOREVER)

/* Waits until the caller (SELF: returns its endpoint) or `ep` is bound, or until `ep` is not.
 * Woken by the bind itself. EDVSTIMEDOUT, EDVSAGAIN, EDVSENDPOINT. */
enum { WAIT_BIND = 0, WAIT_UNBIND = 1 };
int dvk_wait4bindep_X(int what, int ep, long timeout_ms);
#define dvk_wait4bind() dvk_wait4bindep_X(WAIT_BIND, SELF, TIMEOUT_FOREVER)
#define dvk_wait4bind_T(ms) dvk_wait4bindep_X(WAIT_BIND, SELF, ms)
#define dvk_wait4bindep(ep) dvk_wait4bindep_X(WAIT_BIND, ep, TIMEOUT_FOREVER)
#define dvk_wait4bindep_T(ep, ms) dvk_wait4bindep_X(WAIT_BIND, ep, ms)
#define dvk_wait4unbind(ep) dvk_wait4bindep_X(WAIT_UNBIND, ep, TIMEOUT_FOREVER)
#define dvk_wait4unbind_T(ep, ms) dvk_wait4bindep_X(WAIT_UNBIND, ep, ms)

/* ---- messages ----------------------------------------------------------------------------- */

/* Rendezvous: returns OK when `dst` has received the message, never before. Exactly once: after OK
 * it was received once; after an error it was not and will not be received, with one
 * exception: EDVSTIMEDOUT while the peer's node is unreachable leaves it unknown.
 * EDVSNOTBIND, EDVSBADDEST, EDVSENDPOINT, EDVSDSTDIED, EDVSLOCKED, EDVSTIMEDOUT, EDVSAGAIN,
 * EDVSNOTCONN (the peer's node died). */
int dvk_send_T(int dst, message* m, long timeout_ms);
#define dvk_send(dst, m) dvk_send_T(dst, m, TIMEOUT_FOREVER)

/* Receives from `src` or ANY; m->m_source tells from whom. Notifications come first, then
 * senders in turn (nobody is passed over twice). EDVSNOTBIND, EDVSENDPOINT, EDVSSRCDIED (src is
 * not bound), EDVSWOKENUP, EDVSTIMEDOUT, EDVSAGAIN. */
int dvk_receive_T(int src, message* m, long timeout_ms);
#define dvk_receive(src, m) dvk_receive_T(src, m, TIMEOUT_FOREVER)

/* A request and its answer in one step; the answer is the next dvk_reply or dvk_send of `ep` to
 * the caller after it took the request, and replaces *m. One deadline covers both halves.
 * Errors of send, and EDVSSRCDIED: it took the request and died. */
int dvk_sendrec_T(int ep, message* m, long timeout_ms);
#define dvk_sendrec(ep, m) dvk_sendrec_T(ep, m, TIMEOUT_FOREVER)

/* As receive from ANY, without notifications: the server side of sendrec. */
int dvk_rcvrqst_T(message* m, long timeout_ms);
#define dvk_rcvrqst(m) dvk_rcvrqst_T(m, TIMEOUT_FOREVER)

/* Answers a request that the caller took and did not yet answer. Does not wait for the client,
 * unless the client is just being migrated. EDVSPROCSTS: the client does not wait for an answer of
 * the caller (it timed out). */
int dvk_reply_T(int dst, message* m, long timeout_ms);
#define dvk_reply(dst, m) dvk_reply_T(dst, m, TIMEOUT_FOREVER)

/* A notification: one bit per source, kept until received; a second one before that is merged
 * with it. Returns when it is recorded at `dst` (on another node: after one round trip). */
int dvk_notify_X(int src_nr, int dst, long value, long timeout_ms);
#define dvk_notify(dst) dvk_notify_X(SELF, dst, 0, TIMEOUT_FOREVER)
#define dvk_notify_T(dst, ms) dvk_notify_X(SELF, dst, 0, ms)
#define dvk_ntfy_value(src_nr, dst, value) dvk_notify_X(src_nr, dst, value, TIMEOUT_FOREVER)
#define dvk_src_notify(src_nr, dst) dvk_notify_X(src_nr, dst, 0, TIMEOUT_FOREVER)

/* Copies between two processes' memory; either may be SELF, both may be others, anywhere in the
 * DC. A party other than the caller must be waiting in receive or sendrec (EDVSPROCSTS) on the
 * caller's node or its own. bytes <= the DC's limit (EDVSBADRANGE). EDVSFAULT: an address is not
 * mapped; what was copied before it stays. Copies that a migration interrupts are repeated. */
int dvk_vcopy_T(int src_ep, const void* src, int dst_ep, void* dst, size_t bytes, long timeout_ms);
#define dvk_vcopy(src_ep, src, dst_ep, dst, bytes) \
  dvk_vcopy_T(src_ep, src, dst_ep, dst, bytes, TIMEOUT_MOLCALL)

/* Ends a receive(ANY) of a local process with EDVSWOKENUP, or its next one. EDVSRMTPROC. */
int dvk_wakeup(int dcid, int ep);

/* ---- migration ---------------------------------------------------------------------------- */

/* The three steps by hand, for management programs that move a process with a tool of their own,
 * and for fail-over to a backup. `dvs migrate` does all of it and moves the process too. START: the
 * endpoint's communication stops, DC-wide. COMMIT: it goes on at `new_node`, as the process `pid`
 * there (PROC_NO_PID: the backup or the process bound there). ROLLBACK: it goes on where it was.
 * Each may be repeated. EDVSMIGRATE (COMMIT or ROLLBACK without START), EDVSENDPOINT, EDVSNODCNODE,
 * EDVSRSCBUSY (directory out of reach). START of an endpoint that is not bound: OK, nothing
 * changes. */
enum { MIGR_START = 0, MIGR_COMMIT = 1, MIGR_ROLLBACK = 2 };
int dvk_migrate_X(int op, int pid, int dcid, int ep, int new_node);
#define dvk_migr_start(dcid, ep) dvk_migrate_X(MIGR_START, PROC_NO_PID, dcid, ep, PROC_NO_PID)
#define dvk_migr_rollback(dcid, ep) dvk_migrate_X(MIGR_ROLLBACK, PROC_NO_PID, dcid, ep, PROC_NO_PID)
#define dvk_migr_commit(pid, dcid, ep, node) dvk_migrate_X(MIGR_COMMIT, pid, dcid, ep, node)

/* ---- information: never blocks, no daemon involved ------------------------------------------ */

typedef struct dvs_usr {
  char d_name[MAXPROCNAME];
  int d_nr_dcs, d_nr_nodes, d_nr_procs, d_nr_tasks, d_nr_sysprocs;
  int d_max_copybuf, d_max_copylen;
  unsigned long d_dbglvl;
  int d_version;
  unsigned long d_flags;
  int d_size_proc;
} dvs_usr_t;

typedef struct dc_usr {
  int dc_dcid, dc_flags; /* flags: 0 running */
  int dc_nr_procs, dc_nr_tasks, dc_nr_sysprocs, dc_nr_nodes;
  char dc_name[MAXDCNAME];
} dc_usr_t;

#define NODE_FREE 0
#define NODE_ATTACHED 2
#define NODE_SCONNECTED 4
#define NODE_RCONNECTED 8
typedef struct node_usr {
  int n_nodeid;
  unsigned long n_flags;
  struct timespec n_stimestamp, n_rtimestamp;
  unsigned long n_pxsent, n_pxrcvd;
  char n_name[MAXNODENAME];
} node_usr_t;

/* p_rts_flags: 0 is running; the original's values */
#define SLOT_FREE 0x0001
#define SENDING 0x0004
#define RECEIVING 0x0008
#define ONCOPY 0x0400
#define MIGRATE 0x0800
#define REMOTE 0x1000
/* p_misc_flags */
#define MIS_RMTBACKUP 0x0010
#define MIS_REPLICATED 0x0080
#define MIS_WOKENUP 0x0200
typedef struct proc_usr {
  int p_nr, p_endpoint, p_dcid;
  unsigned long p_rts_flags, p_misc_flags;
  int p_lpid, p_vpid; /* both: the DC-wide pid; -1 when not on this node */
  int p_nodeid;
  unsigned int p_epoch;
  int p_getfrom, p_sendto;
  unsigned long p_lclsent, p_rmtsent, p_lclcopy, p_rmtcopy;
  char p_name[MAXPROCNAME];
} proc_usr_t;

int dvk_getdvsinfo(dvs_usr_t* info);                       /* returns this node's id */
int dvk_getdcinfo(int dcid, dc_usr_t* info);               /* dcid -1: the caller's */
int dvk_getnodeinfo(int node, node_usr_t* info);           /* EDVSBADNODEID */
int dvk_getprocinfo(int dcid, int p_nr, proc_usr_t* info); /* EDVSBADDCID, EDVSENDPOINT */
int dvk_getproxyinfo(int node, node_usr_t* sender, node_usr_t* receiver); /* the link to a node */
int dvk_getep(int pid); /* endpoint of a local process; EDVSNOTBIND */

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DVK_DVK_H */
