// Cgroups that a child is born in. Writing a process id to cgroup.procs takes a lock of the whole
// machine, which costs 8 to 16 ms when nobody took it lately (an RCU grace period); the ways taken
// here cost none of that: CLONE_INTO_CGROUP with v2, the per-thread `tasks` file with v1.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace dvs::helper {

class BirthGroups {
 public:
  // Of the groups whose cgroup.procs files are given, at most one of v2. To be called outside:
  // a container need not see the groups.
  static Result<BirthGroups> open(const std::vector<std::string>& procs_files);

  // Like fork(2); the child must call join() before it does anything else.
  Result<pid_t> fork() const;
  Status join() const;

 private:
  std::vector<UniqueFd> v1_tasks_;
  UniqueFd v2_dir_;
};

}  // namespace dvs::helper
