// Many seeds, by as many processes as the machine has processors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bugs.h"
#include "world.h"

namespace dvs::sim {

struct Seeds {
  uint64_t first = 1;
  uint64_t number = 1000;
  Bug bug = Bug::kNone;
  bool trace = false;
  uint64_t most_failures = 1;  // then it ends
  unsigned jobs = 1;           // 1: in this process
  bool progress = false;       // told on stderr, now and then
};

struct Failure {
  uint64_t seed = 0;
  std::string why;
};

struct Outcome {
  Tally tally;
  std::vector<Failure> failures;  // in the seeds' order
};

// A worker that crashes is a failure of the seed it was at.
Outcome run_seeds(const Seeds& seeds);

}  // namespace dvs::sim
