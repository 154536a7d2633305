#include "dvk/node_view.h"

#include "dvk/node_parts.h"

namespace dvs::dvk {

void clear_set(const Region& region, SlotSet set) {
  set.repair();  // a search that was killed may have left a member that none finds
  for (uint32_t member = set.find(0); member < region.slots(); member = set.find(0)) {
    set.clear(member);
  }
}

void set_identity(Descriptor& d, const Identity& identity) {
  d.endpoint.store(identity.endpoint);
  d.incarnation.store(identity.incarnation);
  d.epoch.store(identity.epoch);
  d.node.store(identity.node);
  d.pid.store(identity.pid);
  d.tid.store(identity.tid);
  d.name.store(identity.name.c_str());
}

namespace {

void announce_bind(const Region& region, uint32_t slot) {
  event_signal(region.at(slot).event);
  event_signal(region.header().bind_event);
}

// Takes back whatever the slot's owner has outstanding or waits for. The number and the tag go on,
// so that nobody who looked before can mistake what comes later for it.
void end_operations(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  TxWord tx = load_tx(d);
  while (!swap_tx(d, tx, TxWord{TxPhase::kIdle, 0, tx.number})) tx = load_tx(d);
  end_wait(region, slot);
}

// What an owner counts its operations from, the same on all nodes. Not from 0: who looked at the
// slot's last owner's operation must not mistake this one's for it. (48 bits in all.)
uint64_t first_number(uint64_t incarnation, uint32_t successor = 0) {
  return (incarnation % 256) << 40 | uint64_t{successor % 256} << 32;
}

// For a new owner of the slot: nothing of the old one is left, nor of it with others.
void reset_operations(const Region& region, uint32_t slot, uint64_t incarnation) {
  Descriptor& d = region.at(slot);
  d.flags.store(0);
  end_operations(region, slot);
  d.tx.store(TxWord{TxPhase::kIdle, 0, first_number(incarnation)}.pack());
  d.tx_peer.store(NONE);
  d.notify_value.store(0);
  set_permissions(d, default_permissions(region, slot));
  for (auto& touched : d.touching) touched.store(0);
  for (auto* counter : {&d.local_sent, &d.remote_sent, &d.local_copied, &d.remote_copied}) {
    counter->store(0);
  }
  clear_set(region, region.senders(slot));
  clear_set(region, region.notifies(slot));
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    for (SlotSet set : {region.senders(peer), region.notifies(peer)}) {
      if (set.test(slot)) set.clear(slot);
    }
  }
}

}  // namespace

Identity identity_of(const Region& region, uint32_t slot) {
  const Descriptor& d = region.at(slot);
  Identity identity;
  identity.endpoint = d.endpoint.load();
  identity.incarnation = d.incarnation.load();
  identity.epoch = d.epoch.load();
  identity.node = d.node.load();
  identity.kind = load_kind(d);
  identity.pid = d.pid.load();
  identity.tid = d.tid.load();
  char name[sizeof d.name];
  d.name.load(name);
  identity.name = name;
  return identity;
}

namespace {

bool touches(const Descriptor& d, const std::vector<uint32_t>& slots) {
  return std::any_of(std::begin(d.touching), std::end(d.touching), [&](const auto& touched) {
    const uint32_t slot = touched.load();
    return slot != 0 && contains(slots, slot - 1);
  });
}

bool is_touched(const Region& region, const std::vector<uint32_t>& slots) {
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (touches(region.at(peer), slots)) return true;
  }
  return false;
}

// Takes the slot from its predecessor, which may have gone without our hearing of it. Who waits for
// an endpoint that was only named (dvk_rmtbind) has waited for this one. False: not yet.
bool vacate(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  const bool named = load_kind(d) == Kind::kRemote && d.incarnation.load() == 0;
  const bool in_use = load_kind(d) != Kind::kFree || is_leaving(region, slot);
  if (in_use && !named && !unbind(region, slot)) return false;
  if (load_rx(d).phase == RxPhase::kAbandoned || is_touched(region, {slot})) return false;
  if (!named) release_peers(region, slot);  // they meant its predecessor
  return true;
}

}  // namespace

bool is_leaving(const Region& region, uint32_t slot) {
  return (region.at(slot).flags.load() & kLeaving) != 0;
}

std::vector<uint32_t> holders(const Region& region, uint32_t slot) {
  std::vector<uint32_t> found;
  if (region.at(slot).inside.load() != 0) found.push_back(slot);
  const RxWord rx = load_rx(region.at(slot));
  if (rx.phase == RxPhase::kAbandoned && rx.filler < region.slots()) found.push_back(rx.filler);
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (touches(region.at(peer), {slot})) found.push_back(peer);
  }
  return found;
}

bool bind(const Region& region, uint32_t slot, const Identity& identity) {
  Descriptor& d = region.at(slot);
  const bool same = load_kind(d) != Kind::kFree && d.incarnation.load() == identity.incarnation;
  if (!same) {
    if (!vacate(region, slot)) return false;
    reset_operations(region, slot, identity.incarnation);
  }
  set_identity(d, identity);
  d.kind.store(static_cast<uint32_t>(identity.kind));
  announce_bind(region, slot);
  return true;
}

void drop_standby(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  const Kind kind = load_kind(d);
  if (kind != Kind::kBackup && kind != Kind::kReplica) return;
  d.kind.store(static_cast<uint32_t>(Kind::kRemote));
  if (kind == Kind::kReplica) {
    end_operations(region, slot);
    release_peers(region, slot);
  }
  for (auto& touched : d.touching) touched.store(0);
  d.inside.store(0);
  d.busy.store(0);
  d.pid.store(0);
  d.tid.store(0);
  announce_bind(region, slot);
}

void bury(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  for (auto& touched : d.touching) touched.store(0);
  d.inside.store(0);
  end_operations(region, slot);
  // It may have died between the two stores of setting a bit somewhere.
  region.outbound().repair();
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    if (region.notifies(peer).test(slot)) region.notifies(peer).repair();
  }
  release_peers(region, slot);
  wake_everybody(region);
  region.ring_doorbell();
}

void wake_everybody(const Region& region) {
  for (uint32_t slot = 0; slot < region.slots(); ++slot) {
    Atomic<uint32_t>& event = region.at(slot).event;
    if (event.load() != 0) futex_wake_all(event);  // 0: nobody ever used it
  }
}

namespace {

// False: the owner's thread is still inside.
bool leave(const Region& region, uint32_t slot, Kind kind) {
  Descriptor& d = region.at(slot);
  if (acts_here(load_kind(d))) d.flags.fetch_or(kLeaving);
  // The kind first: who posts from now on sees it, who posted before is released below.
  if (load_kind(d) != kind) {
    d.kind.store(static_cast<uint32_t>(kind));
    announce_bind(region, slot);
  }
  if (d.inside.load() != 0 && kind == Kind::kFree) return false;
  end_operations(region, slot);
  // What became of operations for a process elsewhere, its last node knows (RemoteOps).
  if (is_leaving(region, slot)) release_peers(region, slot);
  d.flags.store(0);
  d.busy.store(0);
  d.pid.store(0);
  d.tid.store(0);
  // Specific receivers look again and find nobody to wait for.
  for (uint32_t peer = 0; peer < region.slots(); ++peer) {
    const RxWord rx = load_rx(region.at(peer));
    if (rx.phase == RxPhase::kWaiting && rx.filter == slot) event_signal(region.at(peer).event);
  }
  announce_bind(region, slot);
  return true;
}

}  // namespace

bool unbind(const Region& region, uint32_t slot) { return leave(region, slot, Kind::kFree); }

void retire(const Region& region, uint32_t slot) { leave(region, slot, Kind::kEnded); }

void post_warning(const Region& region, uint32_t slot, int to, message m) {
  Descriptor& d = region.at(slot);
  const uint32_t peer = region.slot_of(to);
  if (load_kind(d) != Kind::kEnded || peer >= region.slots()) return;
  m.m_source = d.endpoint.load();
  d.tx_message.store(m);
  d.tx_kind.store(static_cast<uint32_t>(OpKind::kSend));
  d.tx_peer.store(to);
  const uint64_t number = load_tx(d).number + 1;
  d.tx.store(TxWord{TxPhase::kPosted, 0, number}.pack());
  const Kind kind = load_kind(region.at(peer));
  if (is_gone(kind)) finish(region, slot, number, EDVSDSTDIED);
  if (runs_here(kind)) announce(region, slot, peer);
  region.ring(slot);
}

void succeed(const Region& region, uint32_t slot, uint32_t epoch) {
  Descriptor& d = region.at(slot);
  end_operations(region, slot);
  const uint64_t number = std::max(load_tx(d).number, first_number(d.incarnation.load(), epoch));
  d.tx.store(TxWord{TxPhase::kIdle, 0, number}.pack());
  for (auto& touched : d.touching) touched.store(0);
  d.inside.store(0);
  d.busy.store(0);
  for (auto* counter : {&d.local_sent, &d.remote_sent, &d.local_copied, &d.remote_copied}) {
    counter->store(0);
  }
}

bool has_warned(const Region& region, uint32_t slot) {
  const TxPhase phase = load_tx(region.at(slot)).phase;
  return phase == TxPhase::kDone || phase == TxPhase::kIdle;
}

void close_gate(const Region& region, uint32_t slot) { region.at(slot).flags.fetch_or(kMigrating); }

namespace {

// True when nobody can push into this descriptor (any more).
bool park(Descriptor& d) {
  const RxWord rx = load_rx(d);
  if (rx.phase == RxPhase::kWaiting) return swap_rx(d, rx, rx.with(RxPhase::kParked));
  return rx.phase != RxPhase::kFilling;
}

}  // namespace

bool settle(const Region& region, const std::vector<uint32_t>& slots) {
  for (uint32_t slot : slots) {
    Descriptor& d = region.at(slot);
    if (d.inside.load() != 0 || !park(d)) return false;
  }
  return !is_touched(region, slots);
}

void open_gate(const Region& region, uint32_t slot) {
  Descriptor& d = region.at(slot);
  const RxWord rx = load_rx(d);
  if (rx.phase == RxPhase::kParked) swap_rx(d, rx, rx.with(RxPhase::kWaiting));
  d.flags.fetch_and(~kMigrating);
  event_signal(d.event);
}

}  // namespace dvs::dvk
