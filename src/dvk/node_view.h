// What dvsd may do to a region: bind and unbind, undo what dead processes left, and take an
// endpoint through a migration. One thread of one dvsd calls this; processes use the region
// meanwhile. Everything read from the region is input: a wrong value costs its DC, never dvsd.
#pragma once

#include <string>
#include <vector>

#include "dvk/capsule.h"
#include "dvk/rendezvous.h"

namespace dvs::dvk {

// Who is bound to a slot, as the directory says (and, for a process of this node, its ids).
struct Identity {
  int endpoint = 0;
  uint64_t incarnation = 0;
  uint32_t epoch = 0;
  uint32_t node = 0;
  Kind kind = Kind::kFree;
  int pid = 0;  // DC-wide; 0 when the process is on another node
  int tid = 0;
  std::string name;
};

Identity identity_of(const Region& region, uint32_t slot);

// Binds or re-binds a slot. A new incarnation starts with nothing outstanding (and a notification
// of its predecessor that nobody has fetched is gone); the same one keeps its operations (its node
// or kind has changed). False: nothing is bound yet, since somebody is in the middle of something
// with its predecessor; to be called again. That is over soon, unless somebody was stopped there.
[[nodiscard]] bool bind(const Region& region, uint32_t slot, const Identity& identity);

// The endpoint is gone, everywhere. Wakes everybody who waits for it; operations for one that was
// elsewhere are still RemoteOps's to end. False: it is gone, but its thread, which lives, is still
// inside a call; to be called again, or else what others have given it is not ended. (A dead one is
// buried before.)
bool unbind(const Region& region, uint32_t slot);

// Whether an unbind of it is not at its end, and whose threads (the slots that they are or were
// bound to) are in the middle of something with the slot's last owner.
bool is_leaving(const Region& region, uint32_t slot);
std::vector<uint32_t> holders(const Region& region, uint32_t slot);

// The backup or replica in a slot of this node has gone: what is left is the mirror of its primary.
void drop_standby(const Region& region, uint32_t slot);

// A thread died (or dvsd was restarted and finds it dead): ends what it was doing, so that no
// survivor waits for it. The slot stays bound; unbind() follows once the directory knows.
void bury(const Region& region, uint32_t slot);

// Everybody who sleeps looks once. Who was killed may have been about to wake somebody, and have
// taken the mark that says so already: nobody's signal would do it then. Part of bury(); for dvsd
// when it was restarted.
void wake_everybody(const Region& region);

// The process in a slot has ended and has somebody to tell (dc_warn2proc, priv_warn): for everybody
// else it is gone at once. Then post_warning() for one after the other, each when has_warned() says
// that the last one is over; dvsd is told by the doorbell. unbind() at the end. REQUIRES: buried.
void retire(const Region& region, uint32_t slot);
void post_warning(const Region& region, uint32_t slot, int to, message m);
bool has_warned(const Region& region, uint32_t slot);

// ---- migration; `slots` are all endpoints of the processes that move ----

// Another process has the endpoint from now on, by a COMMIT by hand with this epoch: nothing that
// the old one had outstanding is left, and no node takes what this one does for a repetition of it.
// REQUIRES: the gate is closed.
void succeed(const Region& region, uint32_t slot, uint32_t epoch);

// START: closes the gate. Also for endpoints elsewhere (their senders just go on waiting).
void close_gate(const Region& region, uint32_t slot);

// On the source, repeatedly after close_gate(): true once every thread is outside, nobody touches
// them and nobody can push a message into them any more.
bool settle(const Region& region, const std::vector<uint32_t>& slots);

// On the source, when the processes are frozen: everything that moves with the endpoints.
Capsule extract(const Region& region, const std::vector<uint32_t>& slots);

// ROLLBACK, or the end of a migration elsewhere: opens the gate, as if nothing had been.
void open_gate(const Region& region, uint32_t slot);

// COMMIT may be repeated on both: a dvsd that was killed in the middle does it again.
//
// COMMIT on the source: the endpoints are at `node` now; nothing of them is left here but their
// mirrors. Posted operations for them are re-driven by RemoteOps.
void commit_away(const Region& region, const std::vector<uint32_t>& slots, uint32_t node,
                 uint32_t epoch);

// COMMIT on the target, before the processes run: takes the capsule in. False: nothing is done yet,
// since somebody is in the middle of something with an earlier owner of a slot, or waits here for
// what these endpoints have taken and is itself about to leave; to be called again.
[[nodiscard]] bool commit_here(const Region& region, const Capsule& capsule, uint32_t self,
                               uint32_t epoch);

}  // namespace dvs::dvk
