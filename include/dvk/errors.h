/* The results of the calls of dvk.h: negative numbers, the original's values but for two. Included
 * by dvk/dvk.h. What each means for a call is said in docs/ipc-reference.md.
 *
 * Calls that return an endpoint may return a task's, down to -35: test them with DVK_IS_ERROR(rc),
 * the others with rc < 0. */
#ifndef DVK_ERRORS_H
#define DVK_ERRORS_H

#define OK 0
#define EDVSERRCODE (-300)
#define DVK_IS_ERROR(rc) ((rc) < -35)

/* ---- given by libdvk and dvsd ---- */

#define EDVSPERM (-1)         /* a process cannot do this to itself, or not for another */
#define EDVSFAULT (-14)       /* an address of a vcopy is not mapped there */
#define EDVSINVAL (-22)       /* an argument makes no sense */
#define EDVSNOSYS (-38)       /* DVS has no such operation, or does it by itself */
#define EDVSAGAIN (-211)      /* would block, and TIMEOUT_NOWAIT was given (original: -11) */
#define EDVSBUSY (-216)       /* another call is under way with this endpoint (original: -16) */
#define EDVSBADDEST (-55)     /* the destination is the caller itself, or HARDWARE */
#define EDVSTIMEDOUT (-61)    /* the deadline passed */
#define EDVSNOTCONN (-64)     /* the peer's node cannot be reached */
#define EDVSSHUTDOWN (-65)    /* the caller's endpoint was unbound in the middle of the call */
#define EDVSLOCKED (-101)     /* send to a process that waits for the caller to take its request */
#define EDVSBADCALL (-102)    /* the caller's permission record does not allow this call */
#define EDVSSRCDIED (-108)    /* the process waited for has gone */
#define EDVSDSTDIED (-109)    /* no process (any more) at that endpoint */
#define EDVSTRAPDENIED (-110) /* a permission record does not allow these two to talk */
#define EDVSBADNODEID (-301)  /* no such node, or this very one */
#define EDVSBADDCID (-302)    /* not the caller's DC */
#define EDVSBADPROC (-304)    /* HARDWARE is nobody's endpoint */
#define EDVSBADPID (-305)     /* no such process in this DC on this node */
#define EDVSENDPOINT (-306)   /* number out of the table's range, or of an earlier generation */
#define EDVSRMTPROC (-308)    /* the process is not on this node */
#define EDVSNOTBIND (-310)    /* the caller has no endpoint */
#define EDVSDVSINIT (-318)    /* not in a DC: no region, or a broken one; no dvsd */
#define EDVSNODCNODE (-319)   /* the node is not part of the DC */
#define EDVSPROCRUN (-320)    /* it does not wait in a receive(ANY) just now */
#define EDVSPROCSTS (-324)    /* the other party is not in the state this needs */
#define EDVSMIGRATE (-332)    /* a migration is under way, or none is */
#define EDVSPRIVILEGES (-335) /* the system does not let the caller do this */
#define EDVSBINDTYPE (-336)   /* no such kind of bind */
#define EDVSSLOTUSED (-337)   /* the endpoint is bound already */
#define EDVSBADRANGE (-338)   /* too large, or too small */
#define EDVSRSCBUSY (-342)    /* dvsd does not answer, or something is in use; try again */
#define EDVSNAMESIZE (-343)   /* the name is too long */
#define EDVSREPLPROC (-346)   /* only the first of the replicas can do that */
#define EDVSWOKENUP (-348)    /* dvk_wakeup() ended a receive */

/* ---- given by libdvkadm alone ---- */

#define EDVSGENERIC (-99)   /* an error nobody planned for */
#define EDVSNODEFREE (-325) /* the node is down */
#define EDVSDCNODE (-326)   /* the node is part of the DC already */
#define EDVSBADVALUE (-339) /* sizes of copies that DVS does not have */
#define EDVSALLOCMEM (-344) /* no room: a table, memory or a file system is full */

/* ---- names that programs of the original may mention, and DVS never gives ---- */

#define EDVSNOENT (-2)
#define EDVSSRCH (-3)
#define EDVSINTR (-4)
#define EDVSIO (-5)
#define EDVSNXIO (-6)
#define EDVS2BIG (-7)
#define EDVSNOEXEC (-8)
#define EDVSBADF (-9)
#define EDVSCHILD (-10)
#define EDVSNOMEM (-12)
#define EDVSACCES (-13)
#define EDVSNOTBLK (-15)
#define EDVSEXIST (-17)
#define EDVSXDEV (-18)
#define EDVSNODEV (-19)
#define EDVSNOTDIR (-20)
#define EDVSISDIR (-21)
#define EDVSNFILE (-23)
#define EDVSMFILE (-24)
#define EDVSNOTTY (-25)
#define EDVSTXTBSY (-26)
#define EDVSFBIG (-27)
#define EDVSNOSPC (-28)
#define EDVSSPIPE (-29)
#define EDVSROFS (-30)
#define EDVSMLINK (-31)
#define EDVSPIPE (-32)
#define EDVSDOM (-33)
#define EDVSRANGE (-34)
#define EDVSDEADLK (-35)
#define EDVSNAMETOOLONG (-36)
#define EDVSNOLCK (-37)
#define EDVSNOTEMPTY (-39)
#define EDVSLOOP (-40)
#define EDVSPACKSIZE (-50)
#define EDVSOUTOFBUFS (-51)
#define EDVSBADIOCTL (-52)
#define EDVSBADMODE (-53)
#define EDVSWOULDBLOCK (-54)
#define EDVSDSTNOTRCH (-56)
#define EDVSISCONN (-57)
#define EDVSADDRINUSE (-58)
#define EDVSCONNREFUSED (-59)
#define EDVSCONNRESET (-60)
#define EDVSURG (-62)
#define EDVSNOURG (-63)
#define EDVSNOCONN (-66)
#define EDVSAFNOSUPPORT (-67)
#define EDVSPROTONOSUPPORT (-68)
#define EDVSPROTOTYPE (-69)
#define EDVSINPROGRESS (-70)
#define EDVSADDRNOTAVAIL (-71)
#define EDVSALREADY (-72)
#define EDVSMSGSIZE (-73)
#define EDVSNOTSOCK (-74)
#define EDVSNOPROTOOPT (-75)
#define EDVSBADSRCDST (-103)
#define EDVSCALLDENIED (-104)
#define EDVSDEADSRCDST (-105)
#define EDVSNOTREADY (-106)
#define EDVSBADREQUEST (-107)
#define EDVSDONTREPLY (-201)
#define EDVSDCNOTRUN (-303)
#define EDVSNOPROXY (-307)
#define EDVSLCLPROC (-309)
#define EDVSPROXYRUN (-311)
#define EDVSACKDST (-312)
#define EDVSACKSRC (-313)
#define EDVSACKWAIT (-314)
#define EDVSNODEBUSY (-315)
#define EDVSNONODE (-316)
#define EDVSNOMSG (-321)
#define EDVSDCRUN (-323)
#define EDVSBADPROXY (-327)
#define EDVSONCOPY (-328)
#define EDVSENQUEUED (-329)
#define EDVSOVERRUN (-330)
#define EDVSBADOWNER (-331)
#define EDVSPROXYFREE (-333)
#define EDVSGRPLEADER (-334)
#define EDVSBADDIR (-340)
#define EDVSBADFILE (-341)
#define EDVSPROXYID (-345)
#define EDVSALIGN (-347)
#define EDVSBADTRAMP (-349)
#define EDVSUSR2USR (-350)
#define EDVSKRN2USR (-351)
#define EDVSUSR2KRN (-352)
#define EDVSPRIMARY (-401)
#define EDVSNOREPLICA (-402)
#define EDVSRESTARTSYS (-512)
#define EDVSDVSBUSY (-317)

#endif /* DVK_ERRORS_H */
