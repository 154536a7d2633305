// What the engine could not move, as far as /proc tells while the processes run: so that they need
// not be stopped to find out. What only the engine can see it names when it dumps (criu_log.h).
#pragma once

#include <vector>

#include "mover/copier.h"

namespace dvs {

// `processes`: a task's, of which `root`, as the DC numbers it, is the first. Blocks for some
// microseconds per descriptor and mapping. kUnsupported, naming the process, also as the DC numbers
// it, and what it has. Who ends meanwhile is passed over.
Status check_movable(const std::vector<mover::ProcessId>& processes, pid_t root);

}  // namespace dvs
