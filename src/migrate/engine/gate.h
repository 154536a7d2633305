// The gate at which a restored tree waits before its first instruction. Files in the image
// directory, so that it outlives dvsd:
//
//   gate.in        FIFO for the decision: "go" or "no". The first one counts
//   gate.command   "PID STARTTIME" of the restoring command, as dvsd sees it
//   gate.held      exists when the tree waits, or has waited
//   gate.resumed   exists when the tree runs
//
// apps/dvs-criu is the other side.
#pragma once

#include <memory>
#include <string>

#include "migrate/engine/engine.h"

namespace dvs {

// Creates the FIFO in `dir` (which exists), and removes the files of an earlier try.
Status create_gate(const std::string& dir);

// The tree restored in `dir` has been told to run, and does.
bool has_passed_gate(const std::string& dir);

// Notes the restoring command, for find_held() in a later dvsd.
Status record_command(const std::string& dir, pid_t pid);

// The tree of the restoring command recorded in `dir`. kNotFound: none is running.
// It may not have reached the gate yet: a decision is kept for it until it does.
Result<std::unique_ptr<HeldTree>> open_held_tree(Executor& executor, const std::string& dir);

}  // namespace dvs
