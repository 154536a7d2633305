// The single probes, by what they look at. Each gives one Feature and leaves nothing behind.
#pragma once

#include <functional>

#include "check/check.h"

namespace dvs::probe {

Feature ok(std::string name, std::string detail);
Feature degraded(std::string name, std::string detail, std::string remedy);
Feature missing(std::string name, std::string detail, std::string remedy);

// Runs `what` in a forked child and returns what it returned (0 .. 254); -1 when that failed.
// `what` may only make system calls: the parent may have threads.
int in_child(const std::function<int()>& what);

// kernel_probes.cc
Feature root();
Feature kernel();
Feature architecture();
Feature pid_namespace();
Feature mount_namespace();
Feature network_namespace();
Feature time_namespace();
Feature pid_max();

// process_probes.cc
Feature freezer();
Feature pidfd();
Feature futex_waitv();
Feature process_vm();

// memory_probes.cc
Feature userfaultfd();
Feature page_tracking();
Feature soft_dirty();

// program_probes.cc
Feature run_tmpfs();
Feature criu();
Feature etcd();
Feature ip_tool();

}  // namespace dvs::probe
