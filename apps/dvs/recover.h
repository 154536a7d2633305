// What of a cluster needs a person, as dvsd's facts show it, and what can be done about it.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace dvs::cli {

struct Finding {
  std::string subject;  // "node n2", "migration m-17"
  std::string says;     // what is wrong, and what follows from it
  std::string advice;   // what a person can do; empty: nothing but wait
  std::string cancels;  // the migration that `dvs recover --fix` rolls back; empty: none
};

// `nodes`, `dcs`, `migrations`: the lists that GET /v1/nodes and so on give. `now_ns`:
// CLOCK_REALTIME. What takes care of itself within a minute is not mentioned.
std::vector<Finding> find_trouble(const Json& nodes, const Json& dcs, const Json& migrations,
                                  int64_t now_ns);

Json to_json(const Finding& finding);

}  // namespace dvs::cli
