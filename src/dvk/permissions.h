// The permission record of an endpoint (priv_usr_t of dvk.h): which calls it may make, and whom it
// may talk to. In shared memory it is what is denied, so that a mirror denies nothing.
#pragma once

#include "dvk/region.h"

namespace dvs::dvk {

struct Permissions {
  uint64_t denied_calls = 0;  // DVK_SEND ...
  uint64_t denied_to = 0;     // slots below NR_SYS_PROCS
  uint64_t denied_from = 0;
  int level = USER_PRIV;
  int warn = NONE;
  uint32_t trap_mask = 0;
};

// What an endpoint may do from the start: servers everything; user processes may ask servers.
Permissions default_permissions(const Region& region, uint32_t slot);

Permissions permissions_of(const Descriptor& d);
void set_permissions(Descriptor& d, const Permissions& permissions);

void to_record(const Permissions& permissions, uint32_t slot, priv_usr_t& record);
Permissions from_record(const priv_usr_t& record);

inline bool may_call(const Descriptor& d, int call) {
  return (d.denied_calls.load(kUnordered) >> call & 1) == 0;
}
inline bool may_send(const Descriptor& d, uint32_t slot) {
  return slot >= NR_SYS_PROCS || (d.denied_to.load(kUnordered) >> slot & 1) == 0;
}
inline bool may_receive(const Descriptor& d, uint32_t slot) {
  return slot >= NR_SYS_PROCS || (d.denied_from.load(kUnordered) >> slot & 1) == 0;
}

}  // namespace dvs::dvk
