// The gate at which a restored tree waits before its first instruction. Files in the image
// directory, so that it outlives dvsd:
//
//   gate           the action script criu runs, a link to dvs-gate; at `post-restore` it reports and
//                  waits
//   gate.in        FIFO for the decision: "go" or "no". The first one counts
//   gate.out       FIFO for the report "held"
//   gate.command   "PID STARTTIME" of the restoring command, as dvsd sees it
//   gate.held      exists when the tree waits, or has waited
//   gate.resumed   exists when the tree runs
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <string>

#include "migrate/engine/engine.h"

namespace dvs {

// The name of the script, for criu's --action-script.
inline constexpr const char* kGateScript = "/gate";

// Creates link and FIFOs in `outer_dir` (which exists), removing those of an earlier try. `program`:
// path of dvs-gate, as seen by criu.
Status create_gate(const std::string& outer_dir, const std::string& program);

// Notes the restoring command, for find_held() in a later dvsd.
Status record_command(const std::string& outer_dir, pid_t pid);

// Calls `held` when the tree waits at the gate, unless stopped before that.
class GateWatch {
 public:
  explicit GateWatch(Executor& executor) : reports_(executor) {}
  Status start(const std::string& outer_dir, std::function<void()> held);
  void stop();

 private:
  void await(std::function<void()> held);

  boost::asio::posix::stream_descriptor reports_;
};

// The tree of the restoring command recorded in `outer_dir`. kNotFound: none is running.
// It may not have reached the gate yet: a decision is kept for it until it does.
Result<std::unique_ptr<HeldTree>> open_held_tree(Executor& executor, const std::string& outer_dir);

}  // namespace dvs
