// A dump that leaves a process's movable memory (mover/memory_map.h) alone.
//
// criu copies every page of the processes it dumps, while they are frozen; even when the pages are
// to follow later it looks at each, and pins it (some 100 ms per GB). So we hide them: criu loads a
// library of ours (apps/dvs-criu/memory_filter.cc), which follows the files made here.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "mover/copier.h"
#include "mover/map_notes.h"

namespace dvs {

using NotesOfProcesses = std::map<pid_t, mover::MapNotes>;  // by host pid

// Before the dump, the processes frozen: makes the library's files. `notes` make it quicker.
Status hide_movable_memory(const std::string& dir, const std::vector<mover::ProcessId>& processes,
                           const NotesOfProcesses& notes);

// After it: removes them. kUnsupported: movable memory is in the images nevertheless; criu did not
// load the library, or does not ask the kernel as it expects. kCorrupt: these images are not what
// we know.
Status check_hidden(const std::string& dir, const std::vector<mover::ProcessId>& processes);

}  // namespace dvs
