// A task's cgroup: the handle by which a whole process tree is frozen, thawed, listed and killed.
// Works with the v1 freezer hierarchy where the host has one, else with v2's cgroup.freeze.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "base/executor.h"

namespace dvs {

class Cgroups {
 public:
  // Finds a usable hierarchy from /proc/self/mountinfo. kUnsupported when the host has none.
  static Result<Cgroups> detect();
  // Exactly that hierarchy; for tests of the kind the host would not choose.
  static Cgroups at(std::string mount_point, bool v2);

  bool v2() const { return v2_; }
  const std::string& mount_point() const { return mount_; }

  // Directory of group `name` ("dvs/cluster/node/dc/task").
  std::string dir(const std::string& name) const;
  std::string procs_file(const std::string& name) const;
  // By which somebody else may end all of it: cgroup.kill, or (v1) the list of its processes.
  std::string kill_file(const std::string& name) const;

  Status create(const std::string& name) const;  // with its parents; fine when it exists
  // Removes an empty group and all groups below it; kConflict while a process lives there.
  Status remove(const std::string& name) const;
  std::vector<std::string> list(const std::string& name) const;  // names of the child groups

  // Asks for it and waits (polling, microseconds first) until every task has stopped.
  // kTimeout: thawed again, nothing changed.
  void freeze(Executor& executor, const std::string& name, std::chrono::milliseconds limit,
              Done<bool> done) const;
  Status thaw(const std::string& name) const;
  Result<bool> frozen(const std::string& name) const;

  Result<std::vector<pid_t>> processes(const std::string& name) const;  // host pids
  // SIGKILL to all, thawed if frozen (a frozen process dies without executing anything), until
  // the group is empty.
  void kill(Executor& executor, const std::string& name, Done<bool> done) const;

 private:
  std::string mount_;
  bool v2_ = false;
};

}  // namespace dvs
