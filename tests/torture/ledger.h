// The torture's shared account of what every worker did, kept outside the region that is tested: in
// shared memory, written without locks by workers that may be killed between any two stores.
//
// Each message has a record, found by the life that sent it and its number in it. Its sender writes
// there what its call said, its receivers that they have it. Whoever comes second sees whether both
// fit together; what only later can be said is judged when the lives concerned are over.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "dvk/dvk.h"

namespace dvs::torture {

// Who there is: an actor is an endpoint that is bound again and again, each time for a new life.
// Servers wait for whoever comes, clients ask servers and wait for ever, and wild ones do anything
// to anybody, for a moment. A process plays one actor, or two with two threads.
constexpr int kProcesses = 11;
constexpr int kActors = 14;
enum class Role { kServer, kClient, kWild };
struct Cast {
  int number;  // of the slot
  int process;
  Role role;
};
extern const Cast kCast[kActors];

constexpr uint32_t kLives = 4096;       // records are used again after so many
constexpr uint32_t kMessages = 1024;    // of one life
constexpr uint32_t kOwnMessages = 896;  // the others are for its signal handler

// What a message is. kRequest wants an answer.
enum class Sort : uint8_t { kNone = 0, kMessage = 1, kRequest = 2, kReply = 3 };
constexpr int kUnderWay = 1;  // Record::rc before the call is over
constexpr uint32_t kNobody = 0;

struct Record {
  std::atomic<uint8_t> arrivals;
  std::atomic<Sort> sort;
  std::atomic<int16_t> rc;
  std::atomic<int32_t> to;        // endpoint
  std::atomic<uint32_t> to_life;  // who had it before and after the call; kNobody: not the same
};

enum class End : uint32_t { kNone, kOrderly, kViolent };
struct Life {
  std::atomic<uint32_t> id;
  std::atomic<int32_t> endpoint;
  std::atomic<End> end;
  std::atomic<uint32_t> lost;  // messages that it took, as their senders know, and did not see
  Record records[kMessages];
};

// The last notification that a source knows to be recorded, per destination: when its call began
// and between whom, in one word.
struct Notified {
  std::atomic<uint64_t> last;
};

struct Actor {
  std::atomic<uint32_t> life;  // kNobody while nobody is bound
  std::atomic<int32_t> endpoint;
  std::atomic<int32_t> tid;
  std::atomic<uint32_t> began;  // the life that has a timer and is at work
  std::atomic<uint32_t> quiet;  // the life that will not send any more
  std::atomic<uint32_t> heard;  // the life that got everybody's last notification
  // The call in progress: of the thread, and of its signal handler.
  std::atomic<int64_t> limit_ns[2];  // when it must be over; 0: no call, or one that may wait
  std::atomic<const char*> call[2];
};

enum class Phase : uint32_t { kRun, kDrain, kExchange, kExit };

struct Totals {
  std::atomic<uint64_t> calls, sent, received, requests, replies, failed, notified, notices, copies,
      wakeups, binds_awaited, threads_ended, signals, busy_in_handler, done_in_handler, lost,
      unsettled;
};

struct Ledger {
  std::atomic<Phase> phase;
  std::atomic<int> errors;
  std::atomic<int> error_written;
  char error[400];
  uint64_t seed;
  int64_t began_ns;
  Actor actors[kActors];
  std::atomic<uint64_t> notify_begun[kActors][kActors];  // source, destination
  std::atomic<uint64_t> notify_seen[kActors][kActors];
  Notified notified[2][kActors][kActors];
  Totals totals;
  Life lives[kLives];

  static Ledger* create(uint64_t seed);
  void complain(const std::string& what);

  Life& life(uint32_t id) { return lives[id % kLives]; }
  void open_life(uint32_t id, int endpoint);
  // When nobody can touch this life's messages any more.
  void judge(uint32_t id);

  // The receiver in `endpoint` holds this message.
  void arrived(const message& m, int endpoint);
  // A call that sent a message is over.
  void over(Record& record, uint32_t life, uint32_t number, int rc);
};

// An error of a send, sendrec or reply that promises that the message was not received.
bool means_not_received(Sort sort, int rc);

int actor_of(int endpoint);  // -1: none

// The message `number` of a life, and whether one is that, unharmed.
message make_message(uint32_t life, uint32_t number, Sort sort, int source, uint64_t answers);
struct Parsed {
  uint32_t life = 0;
  uint32_t number = 0;
  Sort sort = Sort::kNone;
  uint64_t answers = 0;  // identity_of() the request
};
bool parse(const message& m, Parsed& parsed);
inline uint64_t identity_of(uint32_t life, uint32_t number) {
  return uint64_t{life} << 32 | number;
}

}  // namespace dvs::torture
