// A task: what one `dvs run` started, with all its children. It lives in one cgroup, writes one
// log, and migrates as a whole.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace dvs {

struct Task {
  std::string id;  // unique in the cluster
  std::vector<std::string> command;
  int root_pid = 0;        // DC-wide
  uint32_t slot = 0;       // the endpoint it was started with
  int64_t started_ns = 0;  // CLOCK_REALTIME
  // Set when its last process has ended (on this node).
  std::optional<int> exit_status;  // as of wait(2); absent: unknown
  bool ended = false;
  // It runs on another node; here its memory is kept until that has come. (Not in the JSON.)
  bool departed = false;
};

Json to_json(const Task& task);
Result<Task> task_from_json(const Json& json);

}  // namespace dvs
