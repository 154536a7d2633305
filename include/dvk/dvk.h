/* M3-IPC: processes of a distributed container talk by endpoint, wherever they run.
 *
 * The C API of DVS, source-compatible with the calls of the original DVS (P. Pessolani et al.) and
 * 64-bit clean. Link with -ldvk. A program needs no initialisation: the first call maps the
 * container's region (/run/dvs/dc/region; $DVK_REGION names another, for tests). Between calls
 * the library holds nothing but that mapping: no descriptor, no socket, no lock. So a process can
 * be moved to another node at any moment without its help, also in the middle of any call.
 *
 * Every call returns 0, or an endpoint where it says so, or a negative error (dvk/errors.h).
 * docs/ipc-reference.md says of each call what it does, when it blocks, its errors, and what a
 * migration or the death of a node does to it.
 *
 * Threads: every call may be made from any thread. A thread uses the endpoint bound to it
 * (dvk_tbind), else its process's main thread's. Two threads must not use one endpoint at the
 * same time (EDVSBUSY).
 *
 * Signals: a handler runs, and the call that it interrupted goes on; no call ends because of one. A
 * handler may itself call libdvk, once the program has made its first call. While the thread
 * sleeps in a receive, its handler may send, notify, reply, copy and wake up; anything else with
 * an endpoint that is in a call answers EDVSBUSY. To end a receive from a handler, use
 * dvk_wakeup().
 *
 * Time-outs are in milliseconds: TIMEOUT_NOWAIT answers EDVSAGAIN instead of waiting,
 * TIMEOUT_FOREVER never expires. They are turned into a deadline when the call starts, so a
 * migration in between, or an interrupted wait, never extends them.
 *
 * Migration of either party is invisible except for the delay. While a party is migrating, callers
 * wait in their own descriptor, bounded by their own deadline.
 *
 * What an endpoint may call, and whom it may talk to, is in its permission record (dvk/info.h):
 * EDVSBADCALL, EDVSTRAPDENIED. Any call may give them.
 */
#ifndef DVK_DVK_H
#define DVK_DVK_H

#include <dvk/errors.h>
#include <dvk/info.h>
#include <dvk/message.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- limits and magic numbers ------------------------------------------------------------- */

#define DVS_VERSION 202611
#define MAXCOPYLEN (64 * 1024 * 1024) /* default limit of one dvk_vcopy, bytes */

#define ANY 0x7ace  /* receive from whoever sends */
#define NONE 0x6ace /* no endpoint */
#define SELF 0x8ace /* the caller */

/* Numbers of tasks. HARDWARE is nobody's: notifications may come from it. */
#define HARDWARE (-1)
#define SYSTEM (-2)
#define SYSTASK(node) (SYSTEM - (node))

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

/* ---- binding ------------------------------------------------------------------------------ */

enum {
  SELF_BIND = 0,
  LCL_BIND = 1,
  RMT_BIND = 2,
  BKUP_BIND = 3,
  REPLICA_BIND = 4,
  USERMODE_BIND = 5 /* as LCL_BIND */
};

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
 *   dvk_bkupbind  a local process as backup of the primary of `ep`, which is on `node`: it waits in
 *                 its first call until it becomes the primary (dvk_migr_start, dvk_migr_commit).
 *                 One on each node; when the primary goes, it is told so (EDVSNOTBIND) and may
 *                 bind itself
 *   dvk_replbind  a local process as one of several replicas of `ep`, one on each node. The first
 *                 is where the directory says; processes on a node with a replica talk to that
 *                 one, all others to the first. Only the first can send to other nodes, and
 *                 not to one with a replica (EDVSREPLPROC). When it goes, another one takes its
 *                 place
 *
 * EDVSBADDCID, EDVSENDPOINT (out of range), EDVSBADPROC (HARDWARE), EDVSSLOTUSED, EDVSBADPID,
 * EDVSBADNODEID, EDVSNODCNODE, EDVSBINDTYPE, EDVSNAMESIZE, EDVSRSCBUSY. Binding the same endpoint
 * to the same process again returns it. */
int dvk_bind_named(int kind, int dcid, int pid, int ep, int node, const char* name);
#define dvk_bind_X(kind, dcid, pid, ep, node) dvk_bind_named(kind, dcid, pid, ep, node, NULL)
#define dvk_bind(dcid, ep) dvk_bind_X(SELF_BIND, dcid, PROC_NO_PID, ep, LOCALNODE)
#define dvk_tbind(dcid, ep) dvk_bind_X(SELF_BIND, dcid, dvk_gettid(), ep, LOCALNODE)
#define dvk_lclbind(dcid, pid, ep) dvk_bind_X(LCL_BIND, dcid, pid, ep, LOCALNODE)
#define dvk_rmtbind(dcid, name, ep, node) \
  dvk_bind_named(RMT_BIND, dcid, PROC_NO_PID, ep, node, name)
#define dvk_bkupbind(dcid, pid, ep, node) dvk_bind_X(BKUP_BIND, dcid, pid, ep, node)
#define dvk_replbind(dcid, pid, ep) dvk_bind_X(REPLICA_BIND, dcid, pid, ep, LOCALNODE)
#define dvk_umbind(dcid, pid, ep) dvk_bind_X(USERMODE_BIND, dcid, pid, ep, LOCALNODE)
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
 * it was received once; after an error it was not and will not be received, except that this is
 * not known after EDVSTIMEDOUT while the peer's node is unreachable, EDVSDSTDIED when the peer's
 * node died, and EDVSSHUTDOWN (the caller itself was unbound meanwhile).
 * EDVSNOTBIND, EDVSBADDEST, EDVSENDPOINT, EDVSDSTDIED, EDVSLOCKED, EDVSTIMEDOUT, EDVSAGAIN,
 * EDVSREPLPROC. */
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

/* Hands a request that the caller took, and did not yet answer, on to `dst`: m->m_source tells
 * whose it is, the rest of *m is what `dst` receives, as if that client had sent it there. The
 * answer then comes from `dst`, within the client's own deadline. Returns at once (as dvk_reply
 * does). EDVSPROCSTS: the client does not wait for an answer of the caller. */
int dvk_relay(int dst, message* m);

/* A notification: one bit per source, kept until received; a second one before that is merged
 * with it. Returns when it is recorded at `dst` (on another node: after one round trip). The
 * source is the caller, by SELF or its own number (EDVSPERM for another's).
 *
 * dvk_hdw_notify: from HARDWARE, by anybody in the DC, bound or not. Answered by dvsd; EDVSMIGRATE
 * while `dst` is migrating. */
int dvk_notify_value_T(int src_nr, int dst, long value, long timeout_ms);
int dvk_hdw_notify(int dcid, int dst);
#define dvk_notify_X(src_nr, dst, value) dvk_notify_value_T(src_nr, dst, value, TIMEOUT_FOREVER)
#define dvk_notify(dst) dvk_notify_X(SELF, dst, 0)
#define dvk_notify_T(dst, ms) dvk_notify_value_T(SELF, dst, 0, ms)
#define dvk_ntfy_value(src_nr, dst, value) dvk_notify_X(src_nr, dst, value)
#define dvk_src_notify(src_nr, dst) dvk_notify_X(src_nr, dst, 0)

/* Copies between two processes' memory; either may be SELF, both may be others, anywhere in the
 * DC. A party other than the caller must be waiting in receive or sendrec (EDVSPROCSTS) on the
 * caller's node or its own. bytes <= the DC's limit (EDVSBADRANGE). EDVSFAULT: an address is not
 * mapped; what was copied before it stays. Copies that a migration interrupts are repeated. */
int dvk_vcopy_T(int src_ep, const void* src, int dst_ep, void* dst, size_t bytes, long timeout_ms);
#define dvk_vcopy(src_ep, src, dst_ep, dst, bytes) \
  dvk_vcopy_T(src_ep, src, dst_ep, dst, bytes, TIMEOUT_MOLCALL)

/* Ends the receive(ANY) that a local process waits in with EDVSWOKENUP. EDVSPROCRUN: it does not
 * wait in one, so its next one will end at once. `ep` may be SELF. EDVSRMTPROC, EDVSMIGRATE. */
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

int dvk_open(void);                                        /* OK in a DC, else EDVSDVSINIT */
int dvk_getdvsinfo(dvs_usr_t* info);                       /* returns this node's id */
int dvk_getdcinfo(int dcid, dc_usr_t* info);               /* dcid -1: the caller's */
int dvk_getnodeinfo(int node, node_usr_t* info);           /* EDVSBADNODEID */
int dvk_getprocinfo(int dcid, int p_nr, proc_usr_t* info); /* EDVSBADDCID, EDVSENDPOINT */
int dvk_getep(int pid);      /* endpoint of a local process (or thread); EDVSNOTBIND */
int dvk_proc_dump(int dcid); /* the bound endpoints, one a line, on the standard error */
int dvk_dc_dump(void);
/* The link to a node, as the original's pair of processes: p_nodeid, p_name and counters;
 * MIS_CONNECTED while it is up. */
int dvk_getproxyinfo(int pxid, proc_usr_t* sender, proc_usr_t* receiver);

/* Reads or replaces the permission record of an endpoint of this node. EDVSRMTPROC, EDVSENDPOINT,
 * EDVSDSTDIED; EDVSMIGRATE (setpriv: it is migrating). */
int dvk_getpriv(int dcid, int ep, priv_usr_t* priv);
int dvk_setpriv(int dcid, int ep, const priv_usr_t* priv);

#ifdef __cplusplus
} /* extern "C" */
#endif
#endif /* DVK_DVK_H */
