// What a cluster holds of the machine, so that it can be seen whether that grows.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "soak/cluster.h"

namespace dvs::soak {

// Counts by name, summed or at most over the nodes; see kBounds.
using Footprint = std::map<std::string, int64_t>;

Footprint take_footprint(const Cluster& cluster);

struct Growth {
  std::string what;
  int64_t before, after, bound;  // the bound is of after
  bool is_too_much() const { return after > bound; }
};
std::vector<Growth> compare(const Footprint& before, const Footprint& after, uint64_t migrations);

}  // namespace dvs::soak
