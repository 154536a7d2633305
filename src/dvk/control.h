// Requests of an application to this node's dvsd (bind, unbind, migration steps), through the
// control slots of the region: no socket, so nothing to re-open after a move. The requester sleeps
// on its slot; dvsd answers there. If the requester dies, dvsd frees the slot; if dvsd dies, its
// successor answers.
#pragma once

#include "dvk/region.h"

namespace dvs::dvk {

struct ControlRequest {
  ControlOp op = ControlOp::kNone;
  int command = 0;
  int pid = 0;
  int endpoint = 0;
  int node = 0;
  const char* name = nullptr;
};

// Asks and waits for the answer; asks again while its process is being moved (kAskAgain), there or
// where it then is. EDVSRSCBUSY: no free slot, or no answer before the deadline.
int control_call(const Region& region, int tid, const ControlRequest& request, Deadline deadline);

}  // namespace dvs::dvk
