/* What the get-information calls of dvk.h fill in, with the original's member names; and the
 * permission record. Included by dvk/dvk.h. Members that describe what DVS does not have are
 * filled with what a program can live with; each says so. */
#ifndef DVK_INFO_H
#define DVK_INFO_H

#include <sys/types.h>
#include <time.h>

#define MAXPROCNAME 16
#define MAXDCNAME 16
#define MAXNODENAME 16
#define NR_SYS_PROCS 64 /* slots a permission record speaks of: the tasks, and servers up to 28 */

/* A set of CPUs, bit by bit: those the system lets the process run on. */
typedef struct {
  unsigned long bits[16];
} dvk_cpumask_t;

/* ---- dvk_getdvsinfo ---- */

#define DVS_RUNNING 0
#define DVS_NO_INIT (-1)
#define DVK_USERMODE (1 << 2)
#define DVK_INITIALIZED (1 << 8)

typedef struct dvs_usr {
  char d_name[MAXPROCNAME]; /* of the cluster */
  int d_nr_dcs, d_nr_nodes; /* ids are below these */
  int d_nr_procs, d_nr_tasks, d_nr_sysprocs;
  int d_max_copybuf, d_max_copylen; /* window and limit of a vcopy, bytes */
  unsigned long d_dbglvl;           /* 0 */
  int d_version;                    /* DVS_VERSION */
  unsigned long d_flags;            /* DVK_USERMODE | DVK_INITIALIZED */
  int d_size_proc;                  /* bytes of a descriptor */
} dvs_usr_t;

/* ---- dvk_getdcinfo, dvk_dc_init ---- */

#define DC_RUNNING 0
#define DC_FREE (1 << 1)

typedef struct dc_usr {
  int dc_dcid, dc_flags;                        /* DC_RUNNING */
  int dc_nr_procs, dc_nr_tasks, dc_nr_sysprocs; /* dc_init: 0 for DVS's default */
  int dc_nr_nodes;
  unsigned long dc_nodes; /* bitmap, of nodes below 64 */
  int dc_warn2proc;       /* whom to tell when a process ends without unbinding; NONE: nobody */
  int dc_warnmsg;         /* m_type of that message */
  pid_t dc_pid;           /* the DC's first process, in the DC: 1 */
  char dc_name[MAXDCNAME];
  dvk_cpumask_t dc_cpumask;
} dc_usr_t;

/* ---- dvk_getnodeinfo ---- */

#define NODE_FREE 0
#define NODE_ATTACHED (1 << 1)
#define NODE_SCONNECTED (1 << 2)
#define NODE_RCONNECTED (1 << 3)

typedef struct node_usr {
  int n_nodeid;
  unsigned long n_flags; /* NODE_ATTACHED; NODE_SCONNECTED and NODE_RCONNECTED when it is up */
  int n_proxies;         /* there is one link to a node: its id */
  unsigned long n_dcs;   /* bitmap of DCs there: only the caller's is known */
  struct timespec n_stimestamp, n_rtimestamp; /* CLOCK_REALTIME of the last operation; 0: none */
  unsigned long n_pxsent, n_pxrcvd;           /* operations of this DC */
  char n_name[MAXNODENAME];
} node_usr_t;

/* ---- dvk_getprocinfo, dvk_getproxyinfo ---- */

/* p_rts_flags: 0 is running */
#define SLOT_FREE 0x0001
#define SENDING 0x0004
#define RECEIVING 0x0008
#define ONCOPY 0x0400
#define MIGRATE 0x0800
#define REMOTE 0x1000
#define RMTOPER 0x2000
#define WAITMIGR 0x8000
#define WAITUNBIND 0x20000
/* p_misc_flags */
#define MIS_PROXY 0x0001
#define MIS_CONNECTED 0x0002
#define MIS_NOTIFY 0x0004 /* a notification is pending */
#define MIS_RMTBACKUP 0x0010
#define MIS_GRPLEADER 0x0020
#define MIS_REPLICATED 0x0080
#define MIS_WOKENUP 0x0200

typedef struct proc_usr {
  int p_nr, p_endpoint, p_dcid;
  unsigned long p_rts_flags;
  int p_lpid, p_vpid;      /* both the DC-wide pid; PROC_NO_PID when it is not on this node */
  int p_nodeid;            /* of the primary */
  unsigned long p_nodemap; /* bitmap of nodes (below 64) that this node knows it on */
  unsigned long p_misc_flags;
  int p_getfrom, p_sendto;      /* endpoint, ANY or NONE */
  int p_waitmigr, p_waitunbind; /* endpoint whose migration it waits for; NONE (waits by itself) */
  int p_proxy;                  /* node its operation is under way to, or NONE */
  unsigned int p_epoch;         /* raised by each migration */
  unsigned long p_lclsent, p_rmtsent, p_lclcopy, p_rmtcopy;
  char p_name[MAXPROCNAME];
  dvk_cpumask_t p_cpumask; /* zero when it is not on this node */
} proc_usr_t;

/* ---- dvk_getpriv, dvk_setpriv: the permission record of an endpoint ---- */

/* A system process (slot index below dc_nr_sysprocs) may do everything; a user process may only
 * DVK_SENDREC, DVK_BIND, DVK_UNBIND, DVK_GETEP, DVK_WAIT4BIND and ask for information. The record
 * is kept with the endpoint, also when it migrates, and ends with it.
 *
 * It keeps honest programs from mistakes. A process that wants to can write into the memory it
 * shares with the others of its DC: isolation is between DCs. */

#define DVK_DCINIT 1
#define DVK_SEND 2
#define DVK_RECEIVE 3
#define DVK_NOTIFY 4
#define DVK_SENDREC 5
#define DVK_RCVRQST 6
#define DVK_REPLY 7
#define DVK_DCEND 8
#define DVK_BIND 9
#define DVK_UNBIND 10
#define DVK_GETPRIV 11
#define DVK_SETPRIV 12
#define DVK_VCOPY 13
#define DVK_GETDCINFO 14
#define DVK_GETPROCINFO 15
#define DVK_RELAY 16
#define DVK_PROXYBIND 17
#define DVK_PROXYUNBIND 18
#define DVK_GETNODEINFO 19
#define DVK_PUT2LCL 20
#define DVK_GET2RMT 21
#define DVK_ADDNODE 22
#define DVK_DELNODE 23
#define DVK_DVSINIT 24
#define DVK_DVSEND 25
#define DVK_GETEP 26
#define DVK_GETDVSINFO 27
#define DVK_PROXYCONN 28
#define DVK_WAIT4BIND 29
#define DVK_MIGRATE 30
#define DVK_NODEUP 31
#define DVK_NODEDOWN 32
#define DVK_GETPROXYINFO 33
#define DVK_WAKEUPEP 34
#define DVK_NR_CALLS 35
#define NR_DVK_CALLS DVK_NR_CALLS

typedef unsigned short bitchunk_t;
typedef short dvk_id_t;
#define BITCHUNK_BITS (sizeof(bitchunk_t) * 8)
#define BITMAP_CHUNKS(nr_bits) (((nr_bits) + 15) / 16)
#define NR_DVK_CHUNKS BITMAP_CHUNKS(NR_DVK_CALLS)
#define NR_SYS_CHUNKS BITMAP_CHUNKS(NR_SYS_PROCS)

typedef struct {
  bitchunk_t chunk[NR_DVK_CHUNKS];
} dvk_map_t; /* of calls: bit DVK_SEND ... */
typedef struct {
  bitchunk_t chunk[NR_SYS_CHUNKS];
} ipc_map_t; /* of processes: bit p_nr + dc_nr_tasks; who has no bit there is always allowed */

#define MAP_CHUNK(map, bit) ((map)[(bit) / 16])
#define get_sys_bit(map, bit) (MAP_CHUNK((map).chunk, bit) >> ((bit) % 16) & 1)
#define set_sys_bit(map, bit) (MAP_CHUNK((map).chunk, bit) |= (bitchunk_t)(1u << (bit) % 16))
#define unset_sys_bit(map, bit) (MAP_CHUNK((map).chunk, bit) &= (bitchunk_t) ~(1u << (bit) % 16))

#define USER_PRIV 0
#define SERVER_PRIV 1
#define TASK_PRIV 2
#define SYSTEM_PRIV 3
#define KERNEL_PRIV 4
#define PROXY_PRIV 5

typedef struct priv_usr {
  dvk_id_t priv_id;        /* slot index; dvk_setpriv ignores it */
  int priv_warn;           /* whom to tell, besides dc_warn2proc, when it ends; NONE: nobody */
  int priv_level;          /* kept for the programs' use: DVS looks at the maps */
  short priv_trap_mask;    /* kept for the programs' use */
  ipc_map_t priv_ipc_from; /* whom it may receive from */
  ipc_map_t priv_ipc_to;   /* whom it may send, notify, reply and copy to */
  dvk_map_t priv_dvk_allowed;
} priv_usr_t;

#endif /* DVK_INFO_H */
