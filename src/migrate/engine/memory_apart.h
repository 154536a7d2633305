// A dump that leaves a process's memory alone.
//
// criu copies every page of the processes it dumps, while they are frozen; even when the pages are
// to follow later it pins each (some 100 ms per GB). It passes over those that an earlier dump has
// and that were not written since, though, and where the kernel has no soft-dirty bits no page ever
// seems written. So we give it an earlier dump that claims to have all of memory, and let it
// believe that the kernel tracks writes (apps/dvs-criu). Then what the mover does not carry is put
// into the images here.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "mover/copier.h"

namespace dvs {

inline constexpr const char* kEarlierDump = "parent";  // in the images' directory

// Before the dump: makes the earlier dump.
Status make_earlier_dump(const std::string& dir, const std::vector<mover::ProcessId>& processes);

// After it, the processes frozen still: movable memory (mover/memory_map.h) is marked as following
// later, all else is read from the processes into the images. Removes the earlier dump.
// kCorrupt: these images are not what we know.
Status complete_images(const std::string& dir, const std::vector<mover::ProcessId>& processes);

}  // namespace dvs
