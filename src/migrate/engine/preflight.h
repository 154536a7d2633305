// What can be known before anything is stopped: does the target's CPU offer what a process of the
// source may have found there?
#pragma once

#include <string>

#include "migrate/engine/engine.h"

namespace dvs {

// This node's CPU as criu describes it (the bytes of its cpuinfo image, some hundred): the same
// for the life of the node, to be sent to a target. `scratch_dir`: a directory of ours to work in,
// created and removed.
void describe_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
                  Done<std::string> done);

// Can a process that ran on the CPU described so continue on this node? It may be richer in
// features. kUnsupported saying what is missing; kCorrupt when it is no such description.
void check_cpu(Executor& executor, const CriuOptions& options, const std::string& scratch_dir,
               const std::string& description, Done<bool> done);

}  // namespace dvs
