// What dvsd, and so all that it starts, cannot do although it is root.
#pragma once

#include <linux/capability.h>

#include "base/result.h"

namespace dvs {

// None of these is needed by dvsd, its helpers, criu or the programs of DCs (whose own limit is in
// apps/dvs-container/program.cc). All others are: namespaces, mounts and freezing take SYS_ADMIN;
// tracing and copying memory SYS_PTRACE; clocks of time namespaces SYS_TIME; ids of processes
// CHECKPOINT_RESTORE; devices of DCs MKNOD; the network of a restored process NET_ADMIN; its files,
// owners, limits and credentials the rest.
constexpr int kGivenUp[] = {
    CAP_SYS_MODULE,       // to change the kernel itself
    CAP_SYS_RAWIO,        // ports, /dev/mem, raw disks
    CAP_SYS_BOOT,         // reboot, kexec
    CAP_SYSLOG,           // the kernel's log and addresses
    CAP_SYS_PACCT,        // accounting of processes
    CAP_SYS_TTY_CONFIG,   // consoles
    CAP_LINUX_IMMUTABLE,  // files that nobody may change
    CAP_MAC_ADMIN,        // policies of AppArmor, SELinux and the like
    CAP_MAC_OVERRIDE,     // to be above them
    CAP_AUDIT_READ,       // the audit log
    CAP_WAKE_ALARM,       // to wake the machine
    CAP_BLOCK_SUSPEND,    // to keep it awake
    CAP_NET_BROADCAST,    // (of no use to anybody)
    CAP_PERFMON,          // to measure other processes and the kernel
    CAP_BPF,              // to load programs into it
};

// For good, for this process and its children. Call it while there is one thread. Fine when they
// are gone already.
Status give_up_capabilities();

}  // namespace dvs
