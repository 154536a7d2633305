// A node for engine tests: pid, mount and time namespaces with a first process that reaps, its own
// tmpfs on /run, and a freezer cgroup for the victim. All of it goes with the object, or with the
// test program.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "migrate/engine/engine.h"
#include "migrate/engine/testing/shared_state.h"

namespace dvs::testing {

std::string runner_program();  // path of dvs-criu

class TestNode {
 public:
  // `clock_offset_s` is added to CLOCK_MONOTONIC inside.
  explicit TestNode(const std::string& name, int64_t clock_offset_s = 0);
  ~TestNode();
  TestNode(const TestNode&) = delete;
  TestNode& operator=(const TestNode&) = delete;

  std::vector<std::string> prefix() const;             // command line to enter
  std::string outside(const std::string& path) const;  // a path inside, as the test sees it
  EngineSite site(const std::string& name) const;      // a directory for images
  SharedState& state() const { return *state_; }

  // Starts the victim program inside and waits until it is at work. Its pid inside.
  Result<pid_t> start_victim(const std::string& mode);
  // Runs a command inside; its output.
  Result<std::string> run(std::vector<std::string> command) const;

  const std::string& cgroup() const { return cgroup_; }
  std::string procs_file() const { return cgroup_ + "/cgroup.procs"; }
  std::vector<pid_t> members() const;  // of the cgroup, as the test sees them
  void freeze() const;
  void thaw() const;
  bool frozen() const;
  void kill_members() const;  // thawed; waits until none is left

 private:
  void start_namespaces(int64_t clock_offset_s);
  void map_state();

  std::string cgroup_;
  bool v2_ = false;
  pid_t parent_ = -1;  // of the first process, a child of ours
  pid_t init_ = -1;
  SharedState* state_ = nullptr;
};

// Waits until `condition` holds; false when it does not within 20 s.
bool eventually(const std::function<bool()>& condition);

}  // namespace dvs::testing
