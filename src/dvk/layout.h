// The region: one DC's descriptors on one node, in shared memory (a file on tmpfs, mapped
// MAP_SHARED by every process of the DC and by dvsd). This header is the whole layout.
//
// Who writes what:
//   header, node table        dvsd
//   Descriptor identity       dvsd
//   Descriptor rx, tx         by compare-and-swap along the transitions below, by the owner (the
//   thread
//                             bound to the endpoint), by a peer in the same region, or by dvsd for
//                             peers on other nodes
//   sender/notify bit sets    anybody sets a bit; the owner of the set clears it
//
// Nobody holds a lock. A process may die (or be frozen for ever) between any two stores; what it
// leaves is one of the states below, and dvsd, which sees the death, completes or undoes it
// (src/dvk/node_view.h). dvsd itself may be killed likewise; its successor finds everything here.
//
// tx: the owner's one outstanding operation. It lives in the sender's descriptor until answered.
//   kIdle ──post──▶ kPosted ──taken──▶ kDone(rc)                    (send, notify, vcopy)
//                   kPosted ──taken──▶ kTaken ──answer──▶ kDone(rc)  (sendrec)
//                   kPosted/kTaken ──deadline──▶ kCancel ──▶ kDone(rc)
//   The word holds the operation's number, which only grows during an incarnation of the endpoint:
//   it is what makes every step idempotent, within a node and between nodes.
//   kTaken is also a notification that dvsd is recording (rendezvous.h).
// rx: the owner's readiness to receive.
//   kIdle ──▶ kWaiting ──claimed by one filler──▶ kFilling ──▶ kFull ──▶ kIdle
//             (the filler is the source's slot, or the owner's own when dvsd delivers an answer)
//             kWaiting ⇄ kParked          (dvsd, while the endpoint is migrating)
//             kWaiting ──▶ kIdle          (owner: deadline, or it looks for queued senders again)
//             kFilling ──▶ kAbandoned ──▶ kIdle  (the owner has gone; the filler, when it has found
//                                                 that out, or dvsd, when the filler is dead)
//
// Rendezvous. A sender first tries to push: it claims the receiver's rx, writes the message and
// publishes kFull. Otherwise it posts: the message stays in its own tx and its bit is set in the
// receiver's sender set; the receiver pulls it. The receiver announces kWaiting and THEN looks at
// its sender set; a sender posts and THEN looks at rx: with sequentially consistent accesses one of
// the two sees the other, so no wake-up is lost.
//
// Slots are used again. A thread touches its own descriptor, and acts in its name, only while it is
// `inside`, which it enters and then looks whether it is still bound. An endpoint that is taken
// from a living process is gone for others at once (kind), but its slot is not given to a next
// owner before its thread is outside, nor while anybody fills its wait or touches its memory: so
// nobody needs to ask at each store whose descriptor it is by now. bind() and unbind() say whether
// it is that far; none of these moments lasts longer than a few instructions, a copy, or a thread's
// turn on the processor. Whoever addresses a slot looks for the endpoint between the look at the
// word that it swaps and the swap.
//
// Mirrors. A descriptor whose process lives on another node is that process's proxy here: dvsd
// writes its remote operation into the mirror's tx (and, for a sendrec, opens its rx for the
// answer), and local processes then treat it as any local peer: they take its message, or push the
// answer into it. What they did, dvsd reads back from the mirror and sends home
// (src/proxy/remote_ops.h).
//
// Memory order (the names are atomic.h's). Each word below is in one of these lists; `make lint`
// looks whether any is missing.
//
// Both sides store a word and then load the other's, and one of the two must see the other. That
// takes sequential consistency, of all four accesses:
//   receive: rx = kWaiting, senders, notifies      post(), announce(), notify(): the bit, then rx
//   post(): tx = kPosted, kind of the peer         unbind(), bind(), RemoteOps::on_place_changed():
//                                                  kind, everybody's tx
//   enter(): inside, flags                         close_gate(), settle(): flags, inside
//   touch(): touching, flags of the peer           close_gate(), settle(): flags, touching
//   claim_memory(): touched, rx                    await_copies(): rx, touched, touching
//   SlotSet::set(): its word, its summary          SlotSet::find(): its summary, its word
//   event_sleep(): event with its mark, the state  event_signal(): the state, event
//   ring(): the outbound set, doorbell             dvsd: doorbell, the outbound set
//   dvk_wakeup(): flags, event                     receive: event, flags
//   control_call(): phase = kPosted, doorbell      dvsd: doorbell, phase
//   wait4bind: bind_event, kind                    bind(), unbind(): kind, bind_event
//
// Written before, and read after, a word that publishes it:
//   rx = kFull (swapped by the filler)             rx_kind, rx_message
//   tx = kPosted                                   tx_kind, tx_peer, tx_message, copy_source,
//                                                  copy_target, copy_source_addr,
//                                                  copy_target_addr, copy_bytes
//   the bit in the receiver's notify set           notify_value
//   kind                                           endpoint, node, epoch, incarnation, pid, tid
//   phase = kPosted                                op, command, pid, endpoint, node, ticket, name
//   phase = kDone                                  result
//   state                                          name of a node
// Of messages only the swap that follows a load tells whether what was read counts.
//
// Used by who swapped another word: busy, by its thread's calls; next_sender, by who is inside;
// phase and tid of a control slot.
//
// Alone: nothing else is concluded from when one is seen. cpu, partner; name; priv_trap_mask,
// denied_calls, denied_to, denied_from, priv_level, priv_warn; warn_endpoint, warn_type;
// local_sent, remote_sent, local_copied, remote_copied, sent, received, sent_at_ns,
// received_at_ns; reserved0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "dvk/atomic.h"
#include "dvk/dvk.h"

namespace dvs::dvk {

constexpr uint64_t kRegionMagic = 0x314e4f4947455244;  // "DREGION1"
constexpr uint32_t kRegionVersion = 1;
constexpr uint32_t kMaxSlots = 16384;
constexpr uint32_t kRegionNodes = 256;  // nodes a region can name
constexpr int kDcIds = 65536;           // numbers of DCs are below it
constexpr uint32_t kCopyWindow = 256 * 1024;
constexpr uint32_t kControlSlots = 64;  // concurrent requests to dvsd
constexpr uint32_t kAnySlot = 0xffff;   // filter: from anybody

// How this node sees an endpoint. Values are in shared memory: never renumber.
enum class Kind : uint32_t {
  kFree = 0,
  kLocal = 1,
  kRemote = 2,
  kBackup = 3,
  kReplica = 4,
  kEnded = 5,  // its process has ended; its warning (dc_warn2proc) is on the way, then it is free
};

// Descriptor::flags
constexpr uint32_t kMigrating = 1u << 0;  // START seen, no outcome yet: the gate is closed
constexpr uint32_t kWokenUp = 1u << 1;    // dvk_wakeup() while not receiving
constexpr uint32_t kLeaving = 1u << 2;    // unbound, but its owner's thread is still inside

// Descriptor::busy: a tid, which of the slot's owners it is (incarnation modulo 256), and
constexpr uint32_t kTidBits = 22;  // pid_max is 2^22 at most
constexpr uint32_t kResting =
    1u << 31;  // its thread sleeps in a receive: a signal's handler may send
constexpr uint32_t kNested = 1u << 30;  // ... and is just doing so

enum class TxPhase : uint8_t { kIdle = 0, kPosted = 1, kTaken = 2, kDone = 3, kCancel = 4 };
enum class RxPhase : uint8_t {
  kIdle = 0,
  kWaiting = 1,
  kParked = 2,
  kFilling = 3,
  kFull = 4,
  kAbandoned = 5
};

// What an operation is. On the wire too: never renumber.
enum class OpKind : uint8_t {
  kNone = 0,
  kSend = 1,
  kSendRec = 2,
  kNotify = 3,
  kVcopy = 4,
  kReply = 5,
  kRelay = 6,  // an answer that tells the client to ask `m_source` instead (dvk_relay)
};

// What a waiting receiver accepts.
enum class RxMode : uint8_t {
  kAny = 0,      // receive: messages and notifications
  kRequest = 1,  // rcvrqst: messages only
  kAnswer = 2,   // second half of sendrec: only from the peer that took the request
};

// The word Descriptor::tx: phase, result, number of the operation.
struct TxWord {
  TxPhase phase = TxPhase::kIdle;
  int rc = 0;           // -2047 .. 2047
  uint64_t number = 0;  // 48 bits

  uint64_t pack() const {
    return static_cast<uint64_t>(phase) | (static_cast<uint64_t>(rc + 2048) & 0xfff) << 4 |
           number << 16;
  }
  static TxWord unpack(uint64_t word) {
    TxWord tx;
    tx.phase = static_cast<TxPhase>(word & 0xf);
    tx.rc = static_cast<int>((word >> 4) & 0xfff) - 2048;
    tx.number = word >> 16;
    return tx;
  }
  bool operator==(const TxWord&) const = default;
};

// The word Descriptor::rx: phase, what is accepted, who fills it, a tag against reuse.
struct RxWord {
  RxPhase phase = RxPhase::kIdle;
  RxMode mode = RxMode::kAny;
  uint16_t filter = kAnySlot;  // slot messages are accepted from
  uint16_t filler = 0;         // kFilling, kFull, kAbandoned: slot of the source
  uint32_t tag = 0;            // 24 bits, grows with every wait

  uint64_t pack() const {
    return static_cast<uint64_t>(phase) | static_cast<uint64_t>(mode) << 4 |
           static_cast<uint64_t>(filter) << 8 | static_cast<uint64_t>(filler) << 24 |
           static_cast<uint64_t>(tag & 0xffffff) << 40;
  }
  static RxWord unpack(uint64_t word) {
    RxWord rx;
    rx.phase = static_cast<RxPhase>(word & 0xf);
    rx.mode = static_cast<RxMode>((word >> 4) & 0xf);
    rx.filter = static_cast<uint16_t>(word >> 8);
    rx.filler = static_cast<uint16_t>(word >> 24);
    rx.tag = static_cast<uint32_t>(word >> 40);
    return rx;
  }
  RxWord with(RxPhase new_phase) const {
    RxWord rx = *this;
    rx.phase = new_phase;
    return rx;
  }
  bool operator==(const RxWord&) const = default;
};

// A message in shared memory: written and read word by word, because a reader may look at one that
// its owner is taking back; the compare-and-swap that follows tells whether the copy counts.
struct SharedMessage {
  Atomic<uint64_t> words[8];

  void store(const message& m) {
    uint64_t raw[8];
    __builtin_memcpy(raw, &m, sizeof raw);
    for (int i = 0; i < 8; ++i) words[i].store(raw[i], kContents);
  }
  message load() const {
    uint64_t raw[8];
    for (int i = 0; i < 8; ++i) raw[i] = words[i].load(kPublished);
    message m;
    __builtin_memcpy(&m, raw, sizeof m);
    return m;
  }
};
static_assert(sizeof(message) == 64);

// A name in shared memory: whoever reads one that is being replaced may see half of each.
struct SharedName {
  Atomic<uint64_t> words[2];

  // Cut to 15 bytes.
  void store(const char* name) {
    char raw[16] = {};
    for (int i = 0; i < 15 && name[i] != 0; ++i) raw[i] = name[i];
    uint64_t packed[2];
    __builtin_memcpy(packed, raw, sizeof packed);
    for (int i = 0; i < 2; ++i) words[i].store(packed[i], kUnordered);
  }
  void load(char (&name)[16]) const {
    uint64_t packed[2];
    for (int i = 0; i < 2; ++i) packed[i] = words[i].load(kUnordered);
    __builtin_memcpy(name, packed, sizeof packed);
    name[15] = 0;
  }
};

struct alignas(64) Descriptor {
  // Identity; dvsd writes, everybody reads. `kind` is stored last when an endpoint appears and
  // first when it goes.
  Atomic<uint32_t> kind;         // Kind
  Atomic<int32_t> endpoint;      // slot + generation
  Atomic<uint32_t> node;         // where its process (the primary) runs
  Atomic<uint32_t> epoch;        // raised by each committed change of location
  Atomic<uint64_t> incarnation;  // grows from one bind of this slot to the next
  Atomic<int32_t> pid;           // DC-wide ids of process and thread; 0 when remote
  Atomic<int32_t> tid;
  Atomic<uint32_t> flags;
  Atomic<uint32_t> reserved0;
  SharedName name;

  // Sleeping and the gate.
  alignas(64) Atomic<uint32_t> event;  // futex: bit 0 = somebody sleeps, rest counts changes
  Atomic<uint32_t> inside;  // 1 while the owner's thread is between the gate and its next wait
  Atomic<uint32_t> busy;    // the thread in a call: see kTidBits

  // The permission record: what is NOT allowed, bit by bit (calls: DVK_SEND ...; peers: slots below
  // 64). Written by dvk_setpriv(), kept from misuse by libdvk alone.
  Atomic<uint32_t> priv_trap_mask;
  Atomic<uint64_t> denied_calls;
  Atomic<uint64_t> denied_to;
  Atomic<uint64_t> denied_from;
  Atomic<int32_t> priv_level;
  Atomic<int32_t> priv_warn;  // endpoint to tell when this one ends

  // Hints about how to wait: where the owner's thread was last seen to wait, and whom it answered
  // last (slot + 1).
  Atomic<uint32_t> cpu;
  Atomic<uint32_t> partner;
  // Somebody may have begun to copy from or to the owner's memory while it waits: see `touching`.
  Atomic<uint32_t> touched;

  // Receiving.
  alignas(64) Atomic<uint64_t> rx;  // RxWord
  Atomic<uint32_t> rx_kind;         // OpKind of what was delivered
  Atomic<uint32_t> next_sender;     // where the owner's next look at its sender set begins
  SharedMessage rx_message;

  // The outstanding operation.
  alignas(64) Atomic<uint64_t> tx;  // TxWord
  Atomic<uint32_t> tx_kind;         // OpKind
  Atomic<int32_t> tx_peer;          // endpoint it is addressed to
  Atomic<int64_t> notify_value;     // of the owner's last notification
  SharedMessage tx_message;

  // Peers (slot + 1; 0: none) the owner is touching directly: copying from or to their memory, or
  // setting a bit in their notify set. The migration of a peer waits until it is let go.
  alignas(64) Atomic<uint32_t> touching[2];
  // Arguments of an outstanding vcopy.
  Atomic<int32_t> copy_source;  // endpoints
  Atomic<int32_t> copy_target;
  Atomic<uint64_t> copy_source_addr;
  Atomic<uint64_t> copy_target_addr;
  Atomic<uint64_t> copy_bytes;

  // Counters, as the original's p_lclsent ... p_rmtcopy.
  Atomic<uint64_t> local_sent;
  Atomic<uint64_t> remote_sent;
  Atomic<uint64_t> local_copied;
  Atomic<uint64_t> remote_copied;
};
static_assert(std::is_trivially_destructible_v<Descriptor>);
static_assert(Atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(Descriptor) == 512);

// A request to dvsd (bind and the like): claimed by a thread, answered by dvsd.
enum class ControlPhase : uint32_t { kFree = 0, kClaimed = 1, kPosted = 2, kDone = 3 };
// The result of a request that is to be made again, perhaps at another node: its process is moving.
constexpr int kAskAgain = -1'000'000;
enum class ControlOp : uint32_t {
  kNone = 0,
  kBind = 1,
  kUnbind = 2,
  kMigrate = 3,
  kHardwareNotify = 4,
};
struct alignas(64) ControlSlot {
  Atomic<uint32_t> phase;  // ControlPhase; also the futex the requester sleeps on
  Atomic<int32_t> tid;     // who claimed it (DC-wide), so that a dead one's can be freed
  Atomic<uint32_t> op;
  Atomic<int32_t> command;  // bind kind / migration operation
  Atomic<int32_t> pid;
  Atomic<int32_t> endpoint;
  Atomic<int32_t> node;
  Atomic<int32_t> result;
  Atomic<uint32_t> ticket;  // counts uses; dvsd's answer to an old use is not believed
  SharedName name;
};

constexpr uint32_t kNodeUnknown = 0;
constexpr uint32_t kNodeDown = 1;  // in the DC
constexpr uint32_t kNodeUp = 2;
struct NodeEntry {
  Atomic<uint32_t> state;
  SharedName name;
  Atomic<uint64_t> sent, received;             // frames, for dvk_getnodeinfo
  Atomic<int64_t> sent_at_ns, received_at_ns;  // CLOCK_REALTIME
};

struct alignas(64) RegionHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t size_of_descriptor;
  uint64_t total_size;
  uint32_t slots;     // tasks + processes
  uint32_t tasks;     // slots with negative process numbers
  uint32_t sysprocs;  // slots below this index are servers, without generations
  int32_t dcid;
  uint32_t local_node;
  uint32_t max_copy_bytes;  // limit of one vcopy
  uint32_t copy_chunk;      // window of a remote vcopy
  char dc_name[16];
  char cluster[32];
  Atomic<int32_t> warn_endpoint;  // dc_warn2proc, or NONE
  Atomic<int32_t> warn_type;

  alignas(64) Atomic<uint32_t> doorbell;    // futex: dvsd has something to look at
  alignas(64) Atomic<uint32_t> bind_event;  // futex: some endpoint appeared or went
  NodeEntry nodes[kRegionNodes];
  ControlSlot control[kControlSlots];
};

// After the header, each at a multiple of 64 bytes:
//   Descriptor[slots]
//   per slot: sender set, notify set         (two-level bit sets of `slots` bits)
//   outbound set                             (slots dvsd must look at)

}  // namespace dvs::dvk
