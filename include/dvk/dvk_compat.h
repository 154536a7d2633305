/* For C and C++ programs written for the headers of the original DVS: what they used beyond the
 * calls and is not in dvk.h. Such a program includes this instead of the original's <com/...>
 * headers and its own macros.h and debug.h; nothing else of it changes, but casts of pointers to
 * int (to long they may stay).
 *
 * Link with -ldvk, and with -ldvkadm when it makes administrative calls. Whatever the program, or
 * dvk.h, has defined by then is left alone.
 *
 * `dvs run` binds what it starts, and two endpoints of one thread are one too many. So a program
 * that binds itself is started at the endpoint it will bind (`dvs run --endpoint`, binding it again
 * does no harm), or from a shell (`dvs run ... -- /bin/sh -c "PROGRAM; exit"`), whose children have
 * none.
 *
 * Not here: the original's limits of 32 nodes and DCs as sizes of its bit maps, its locks, and the
 * structures that only its proxies and its kernel module used. PROXY and IDLE (-36) are no
 * endpoints here: they were never sent to. */
#ifndef DVK_DVK_COMPAT_H
#define DVK_DVK_COMPAT_H

#include <dvk/dvk.h>
#include <dvk/dvk_admin.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- truth, bits, extremes ------------------------------------------------------------------ */

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif
#ifndef MIN
#define MIN(x, y) ((x) < (y) ? (x) : (y))
#endif
#ifndef MAX
#define MAX(x, y) ((x) > (y) ? (x) : (y))
#endif
#ifndef SET_BIT
#define SET_BIT(bitmap, bit_nr) ((bitmap) |= (1UL << (bit_nr)))
#endif
#ifndef CLR_BIT
#define CLR_BIT(bitmap, bit_nr) ((bitmap) &= ~(1UL << (bit_nr)))
#endif
#ifndef TEST_BIT
#define TEST_BIT(bitmap, bit_nr) ((bitmap) & (1UL << (bit_nr)))
#endif

/* ---- sizes ---------------------------------------------------------------------------------- */

/* Of a DC of default shape; dvk_getdcinfo() and dvk_getdvsinfo() tell those of the one at hand. */
#ifndef NR_PROCS
#define NR_PROCS (1024 - NR_TASKS)
#endif
#ifndef NR_SERVERS
#define NR_SERVERS (NR_SYS_PROCS - NR_TASKS)
#endif
#ifndef NR_USR_PROCS
#define NR_USR_PROCS (NR_PROCS - NR_SERVERS)
#endif
#ifndef NR_FIXED_TASKS
#define NR_FIXED_TASKS 3
#endif
#ifndef NR_SYSTASKS
#define NR_SYSTASKS (NR_TASKS - NR_FIXED_TASKS)
#endif
#ifndef NR_NODES
#define NR_NODES 256
#endif
#ifndef NR_DCS
#define NR_DCS 32768
#endif
#ifndef MAXCOPYBUF
#define MAXCOPYBUF 65536
#endif
#ifndef MAXPROXYNAME
#define MAXPROXYNAME 16
#endif

/* ---- numbers of processes and nodes --------------------------------------------------------- */

#ifndef KERNEL
#define KERNEL (-1)
#endif
#ifndef SLOTS
#define SLOTS (SYSTEM - NR_SYSTASKS)
#endif
#ifndef CLOCK
#define CLOCK (SLOTS - 1)
#endif
#ifndef IDLE
#define IDLE (CLOCK - 1)
#endif
#ifndef PROXY
#define PROXY IDLE
#endif
#ifndef NO_PROXIES
#define NO_PROXIES (-1)
#endif
#ifndef PROXY_NO_DC
#define PROXY_NO_DC (-1)
#endif
#ifndef HELLO_PERIOD
#define HELLO_PERIOD 30000
#endif

/* ---- messages ------------------------------------------------------------------------------- */

#ifndef MINIX_MSG
#define MINIX_MSG 1
#endif
#ifndef M1
#define M1 1
#endif
#ifndef M3
#define M3 3
#endif
#ifndef M4
#define M4 4
#endif

/* ---- flags by bit number, for TEST_BIT ------------------------------------------------------- */

/* of p_rts_flags */
#ifndef BIT_SLOT_FREE
#define BIT_SLOT_FREE 0
#define BIT_NO_MAP 1
#define BIT_SENDING 2
#define BIT_RECEIVING 3
#define BIT_SIGNALED 4
#define BIT_SIG_PENDING 5
#define BIT_P_STOP 6
#define BIT_NO_PRIV 7
#define BIT_NO_PRIORITY 8
#define BIT_NO_ENDPOINT 9
#define BIT_ONCOPY 10
#define BIT_MIGRATE 11
#define BIT_REMOTE 12
#define BIT_RMTOPER 13
#define BIT_WAITMIGR 15
#define BIT_WAITUNBIND 17
#define BIT_WAITBIND 18
#endif
#ifndef PROC_RUNNING
#define PROC_RUNNING 0
#endif
#ifndef MIGRATING
#define MIGRATING MIGRATE
#endif
/* of p_misc_flags */
#ifndef MIS_BIT_PROXY
#define MIS_BIT_PROXY 0
#define MIS_BIT_CONNECTED 1
#define MIS_BIT_NOTIFY 2
#define MIS_BIT_NEEDMIGR 3
#define MIS_BIT_RMTBACKUP 4
#define MIS_BIT_GRPLEADER 5
#define MIS_BIT_KTHREAD 6
#define MIS_BIT_REPLICATED 7
#define MIS_BIT_KILLED 8
#define MIS_BIT_WOKENUP 9
#define MIS_BIT_USERMODE 10
#define MIS_BIT_RMTINFO 11
#define MIS_BIT_NOMIGRATE 12
#define MIS_BIT_ATOMIC 13
#define MIS_BIT_ENQUEUED 14
#endif
#ifndef GENERIC_PROC
#define GENERIC_PROC 0
#endif
/* of n_flags, d_flags, dc_flags */
#ifndef NODE_BIT_ATTACHED
#define NODE_BIT_ATTACHED 1
#define NODE_BIT_SCONNECTED 2
#define NODE_BIT_RCONNECTED 3
#endif
#ifndef NODE_RUNNING
#define NODE_RUNNING 0
#endif
#ifndef DVS_BIT_IPC
#define DVS_BIT_IPC 0
#define DVS_BIT_IOCTL 1
#define DVS_BIT_USERMODE 2
#define DVS_BIT_INITIALIZED 8
#endif
#ifndef BIT_DC_FREE
#define BIT_DC_FREE 1
#endif

/* ---- one line of text of each structure, for printf ------------------------------------------ */

/* printf(MSG1_FORMAT, MSG1_FIELDS(p)): `p` is a pointer. */
#define MSG1_FORMAT "from=%d type=%d i1=%d i2=%d i3=%d p1=%p p2=%p p3=%p\n"
#define MSG1_FIELDS(p)                                                               \
  (p)->m_source, (p)->m_type, (p)->m1_i1, (p)->m1_i2, (p)->m1_i3, (void*)(p)->m1_p1, \
      (void*)(p)->m1_p2, (void*)(p)->m1_p3
#define MSG2_FORMAT "from=%d type=%d i1=%d i2=%d i3=%d l1=%ld l2=%ld p1=%p\n"
#define MSG2_FIELDS(p)                                                                    \
  (p)->m_source, (p)->m_type, (p)->m2_i1, (p)->m2_i2, (p)->m2_i3, (p)->m2_l1, (p)->m2_l2, \
      (void*)(p)->m2_p1
#define MSG3_FORMAT "from=%d type=%d i1=%d i2=%d p1=%p ca1=%.14s\n"
#define MSG3_FIELDS(p) \
  (p)->m_source, (p)->m_type, (p)->m3_i1, (p)->m3_i2, (void*)(p)->m3_p1, (p)->m3_ca1
#define MSG4_FORMAT "from=%d type=%d l1=%ld l2=%ld l3=%ld l4=%ld l5=%ld\n"
#define MSG4_FIELDS(p) \
  (p)->m_source, (p)->m_type, (p)->m4_l1, (p)->m4_l2, (p)->m4_l3, (p)->m4_l4, (p)->m4_l5
#define MSG5_FORMAT "from=%d type=%d c1=%d c2=%d i1=%d i2=%d l1=%ld l2=%ld l3=%ld\n"
#define MSG5_FIELDS(p)                                                                    \
  (p)->m_source, (p)->m_type, (p)->m5_c1, (p)->m5_c2, (p)->m5_i1, (p)->m5_i2, (p)->m5_l1, \
      (p)->m5_l2, (p)->m5_l3
#define MSG6_FORMAT "from=%d type=%d ca1=%.32s\n"
#define MSG6_FIELDS(p) (p)->m_source, (p)->m_type, (p)->m6_ca1
#define MSG7_FORMAT "from=%d type=%d i1=%d i2=%d i3=%d i4=%d p1=%p p2=%p\n"
#define MSG7_FIELDS(p)                                                                           \
  (p)->m_source, (p)->m_type, (p)->m7_i1, (p)->m7_i2, (p)->m7_i3, (p)->m7_i4, (void*)(p)->m7_p1, \
      (void*)(p)->m7_p2
#define MSG8_FORMAT "from=%d type=%d i1=%d i2=%d p1=%p p2=%p p3=%p p4=%p\n"
#define MSG8_FIELDS(p)                                                                      \
  (p)->m_source, (p)->m_type, (p)->m8_i1, (p)->m8_i2, (void*)(p)->m8_p1, (void*)(p)->m8_p2, \
      (void*)(p)->m8_p3, (void*)(p)->m8_p4
#define MSG9_FORMAT "from=%d type=%d i1=%d l1=%ld t1.tv_sec=%ld t1.tv_nsec=%ld\n"
#define MSG9_FIELDS(p) \
  (p)->m_source, (p)->m_type, (p)->m9_i1, (p)->m9_l1, (p)->m9_t1.tv_sec, (p)->m9_t1.tv_nsec
#define MSGA_FORMAT "from=%d type=%d dst=%d nr=%d ia[0]=%d ia[1]=%d ia[2]=%d ia[3]=%d\n"
#define MSGA_FIELDS(p)                                                               \
  (p)->m_source, (p)->m_type, (p)->mA_dst, (p)->mA_nr, (p)->mA_ia[0], (p)->mA_ia[1], \
      (p)->mA_ia[2], (p)->mA_ia[3]
#define MSGB_FORMAT "from=%d type=%d nr=%ld md5=%.16s\n"
#define MSGB_FIELDS(p) (p)->m_source, (p)->m_type, (p)->mB_nr, (p)->mB_md5
#define MSGC_FORMAT "from=%d type=%d i1=%d i2=%d i3=%d i4=%d ca1=%.10s\n"
#define MSGC_FIELDS(p) \
  (p)->m_source, (p)->m_type, (p)->mC_i1, (p)->mC_i2, (p)->mC_i3, (p)->mC_i4, (p)->mC_ca1

#define PROC_USR_FORMAT \
  "nr=%d endpoint=%d dc=%d flags=%lx misc=%lx pid=%d dcpid=%d node=%d name=%s\n"
#define PROC_USR_FIELDS(p)                                                                   \
  (p)->p_nr, (p)->p_endpoint, (p)->p_dcid, (p)->p_rts_flags, (p)->p_misc_flags, (p)->p_lpid, \
      (p)->p_vpid, (p)->p_nodeid, (p)->p_name
#define PROC_WAIT_FORMAT                                                                         \
  "endpoint=%d dc=%d flags=%lx receives_from=%d sends_to=%d waits_migration=%d waits_unbind=%d " \
  "link=%d\n"
#define PROC_WAIT_FIELDS(p)                                                                       \
  (p)->p_endpoint, (p)->p_dcid, (p)->p_rts_flags, (p)->p_getfrom, (p)->p_sendto, (p)->p_waitmigr, \
      (p)->p_waitunbind, (p)->p_proxy
#define PROC_COUNT_FORMAT \
  "nr=%d endpoint=%d dc=%d sent_here=%lu sent_away=%lu copied_here=%lu copied_away=%lu\n"
#define PROC_COUNT_FIELDS(p)                                                               \
  (p)->p_nr, (p)->p_endpoint, (p)->p_dcid, (p)->p_lclsent, (p)->p_rmtsent, (p)->p_lclcopy, \
      (p)->p_rmtcopy
#define PROC_CPU_FORMAT "nr=%d endpoint=%d dc=%d pid=%d cpus=%lx nodes=%lx name=%s\n"
#define PROC_CPU_FIELDS(p)                                                                      \
  (p)->p_nr, (p)->p_endpoint, (p)->p_dcid, (p)->p_lpid, (p)->p_cpumask.bits[0], (p)->p_nodemap, \
      (p)->p_name
#define DC_USR1_FORMAT "dc=%d procs=%d tasks=%d sysprocs=%d nodes=%d\n"
#define DC_USR1_FIELDS(p) \
  (p)->dc_dcid, (p)->dc_nr_procs, (p)->dc_nr_tasks, (p)->dc_nr_sysprocs, (p)->dc_nr_nodes
#define DC_USR2_FORMAT "flags=%x nodes=%lx pid=%ld name=%s\n"
#define DC_USR2_FIELDS(p) (p)->dc_flags, (p)->dc_nodes, (long)(p)->dc_pid, (p)->dc_name
#define DC_USR_FORMAT "dc=%d procs=%d tasks=%d sysprocs=%d nodes=%d flags=%x nodemap=%lx name=%s\n"
#define DC_USR_FIELDS(p)                                                                   \
  (p)->dc_dcid, (p)->dc_nr_procs, (p)->dc_nr_tasks, (p)->dc_nr_sysprocs, (p)->dc_nr_nodes, \
      (p)->dc_flags, (p)->dc_nodes, (p)->dc_name
#define DC_WARN_FORMAT "dc=%d tell=%d type=%d\n"
#define DC_WARN_FIELDS(p) (p)->dc_dcid, (p)->dc_warn2proc, (p)->dc_warnmsg
#define DC_CPU_FORMAT "dc=%d cpus=%lx name=%s\n"
#define DC_CPU_FIELDS(p) (p)->dc_dcid, (p)->dc_cpumask.bits[0], (p)->dc_name
#define DVS_USR_FORMAT "name=%s dcs=%d nodes=%d procs=%d tasks=%d sysprocs=%d\n"
#define DVS_USR_FIELDS(p) \
  (p)->d_name, (p)->d_nr_dcs, (p)->d_nr_nodes, (p)->d_nr_procs, (p)->d_nr_tasks, (p)->d_nr_sysprocs
#define DVS_MAX_FORMAT "copybuf=%d copylen=%d\n"
#define DVS_MAX_FIELDS(p) (p)->d_max_copybuf, (p)->d_max_copylen
#define DVS_VER_FORMAT "debug=%lx version=%d flags=%lx descriptor=%d\n"
#define DVS_VER_FIELDS(p) (p)->d_dbglvl, (p)->d_version, (p)->d_flags, (p)->d_size_proc
#define NODE_USR_FORMAT "node=%d link=%d flags=%lx dcs=%lx name=%s\n"
#define NODE_USR_FIELDS(p) (p)->n_nodeid, (p)->n_proxies, (p)->n_flags, (p)->n_dcs, (p)->n_name
#define NODE_TIME_FORMAT "node=%d name=%s sent_s=%ld sent_ns=%ld received_s=%ld received_ns=%ld\n"
#define NODE_TIME_FIELDS(p)                                                        \
  (p)->n_nodeid, (p)->n_name, (p)->n_stimestamp.tv_sec, (p)->n_stimestamp.tv_nsec, \
      (p)->n_rtimestamp.tv_sec, (p)->n_rtimestamp.tv_nsec
#define PRIV_USR_FORMAT "id=%d tell=%d level=%d\n"
#define PRIV_USR_FIELDS(p) (p)->priv_id, (p)->priv_warn, (p)->priv_level
#define TIME_FORMAT "s=%ld ns=%ld\n"
#define TIME_FIELDS(p) (p)->tv_sec, (p)->tv_nsec

/* ---- what each program brought along in its macros.h and debug.h ----------------------------- */

/* Blocks, not do-while: programs leave out the semicolon. */
#ifndef ERROR_PRINT
#define ERROR_PRINT(rcode) \
  { fprintf(stderr, "%s:%d: %s: error %d\n", __FILE__, __LINE__, __func__, (int)(rcode)); }
#endif
#ifndef SYSERR
#define SYSERR(rcode) ERROR_PRINT(rcode)
#endif
#ifndef ERROR_RETURN
#define ERROR_RETURN(rcode) \
  {                         \
    ERROR_PRINT(rcode)      \
    return (rcode);         \
  }
#endif
#ifndef ERROR_EXIT
#define ERROR_EXIT(rcode) \
  {                       \
    ERROR_PRINT(rcode)    \
    exit(rcode);          \
  }
#endif
/* Prints when the program is compiled with -DUSRDBG=1. */
#ifndef USRDEBUG
#if defined(USRDBG) && USRDBG
#define USRDEBUG(...)                      \
  {                                        \
    printf("%s:%d: ", __func__, __LINE__); \
    printf(__VA_ARGS__);                   \
    fflush(stdout);                        \
  }
#else
#define USRDEBUG(...)
#endif
#endif

/* The original's library had these; programs close the one and set the other. */
#ifndef __cplusplus
int dvk_fd __attribute__((weak)) = -1;
int local_nodeid __attribute__((weak));
#endif

#endif /* DVK_DVK_COMPAT_H */
