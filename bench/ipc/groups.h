// Regions for workers of one node, made and bound as dvsd does it, without a dvsd.
#pragma once

#include <sys/types.h>

#include <string>

#include "dvk/region.h"

namespace dvs::bench {

struct GroupRegion {
  std::string path;
  dvk::Region region;
};

// With `bound` endpoints bound to processes that do not exist.
GroupRegion make_region(const std::string& directory, int group, uint32_t slots, int bound);

// The server (index -1) or a client of the group gets its endpoint.
void bind_worker(const GroupRegion& group, int index, pid_t pid);

}  // namespace dvs::bench
