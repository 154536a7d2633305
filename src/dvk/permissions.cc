#include "dvk/permissions.h"

namespace dvs::dvk {
namespace {

// Between a map of what is allowed, in 16-bit chunks, and a word of what is denied.
template <typename Map>
void to_map(uint64_t denied, Map& map) {
  constexpr int kBits = 16;
  int shift = 0;
  for (bitchunk_t& chunk : map.chunk) {
    chunk = static_cast<bitchunk_t>(~(denied >> shift));
    shift += kBits;
  }
}

template <typename Map>
uint64_t from_map(const Map& map) {
  constexpr int kBits = 16;
  uint64_t allowed = 0;
  int shift = 0;
  for (bitchunk_t chunk : map.chunk) {
    allowed |= uint64_t{chunk} << shift;
    shift += kBits;
  }
  return ~allowed;
}

}  // namespace

Permissions default_permissions(const Region& region, uint32_t slot) {
  Permissions permissions;
  if (!region.is_user(slot)) {
    permissions.level = slot < region.tasks() ? TASK_PRIV : SERVER_PRIV;
    return permissions;
  }
  for (int call : {DVK_SEND, DVK_RECEIVE, DVK_NOTIFY, DVK_RCVRQST, DVK_REPLY, DVK_SETPRIV,
                   DVK_VCOPY, DVK_RELAY, DVK_MIGRATE, DVK_WAKEUPEP}) {
    permissions.denied_calls |= uint64_t{1} << call;
  }
  return permissions;
}

Permissions permissions_of(const Descriptor& d) {
  return {d.denied_calls.load(), d.denied_to.load(), d.denied_from.load(),
          d.priv_level.load(),   d.priv_warn.load(), d.priv_trap_mask.load()};
}

void set_permissions(Descriptor& d, const Permissions& permissions) {
  d.denied_calls.store(permissions.denied_calls);
  d.denied_to.store(permissions.denied_to);
  d.denied_from.store(permissions.denied_from);
  d.priv_level.store(permissions.level);
  d.priv_warn.store(permissions.warn);
  d.priv_trap_mask.store(permissions.trap_mask);
}

void to_record(const Permissions& permissions, uint32_t slot, priv_usr_t& record) {
  record = priv_usr_t{};
  record.priv_id = static_cast<dvk_id_t>(slot);
  record.priv_warn = permissions.warn;
  record.priv_level = permissions.level;
  record.priv_trap_mask = static_cast<short>(permissions.trap_mask);
  to_map(permissions.denied_from, record.priv_ipc_from);
  to_map(permissions.denied_to, record.priv_ipc_to);
  to_map(permissions.denied_calls, record.priv_dvk_allowed);
}

Permissions from_record(const priv_usr_t& record) {
  Permissions permissions;
  permissions.denied_calls = from_map(record.priv_dvk_allowed);
  permissions.denied_to = from_map(record.priv_ipc_to);
  permissions.denied_from = from_map(record.priv_ipc_from);
  permissions.level = record.priv_level;
  permissions.warn = record.priv_warn;
  permissions.trap_mask = static_cast<uint16_t>(record.priv_trap_mask);
  return permissions;
}

}  // namespace dvs::dvk
