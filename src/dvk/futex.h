// Shared futexes with absolute CLOCK_MONOTONIC deadlines.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>

#include "dvk/atomic.h"

namespace dvs::dvk {

// When a wait gives up: never, or at a CLOCK_MONOTONIC time. All nodes of a DC have one monotonic
// clock, so a deadline keeps its meaning when its owner moves.
class Deadline {
 public:
  static Deadline never() { return Deadline(INT64_MAX); }
  static Deadline at_ns(int64_t when) { return Deadline(when); }
  static Deadline after_ms(int64_t ms) {
    return ms < 0 ? never() : Deadline(now_ns() + ms * 1'000'000);
  }

  static Deadline earlier(Deadline a, Deadline b) { return a.when_ns_ < b.when_ns_ ? a : b; }

  bool is_never() const { return when_ns_ == INT64_MAX; }
  bool passed() const { return !is_never() && now_ns() >= when_ns_; }
  int64_t when_ns() const { return when_ns_; }

  static int64_t now_ns();

 private:
  explicit Deadline(int64_t when) : when_ns_(when) {}
  int64_t when_ns_;
};

// CLOCK_REALTIME.
timespec wall_time();

// Sleeps while *word == expected, until woken or the deadline. Returns 0, or EAGAIN, EINTR,
// ETIMEDOUT as futex(2) does; the caller looks at the state again in any case. (A restore by
// criu ends a timed wait with EINTR.)
#ifndef DVK_EXPLORE
inline int futex_wait(Atomic<uint32_t>& word, uint32_t expected, Deadline deadline) {
  timespec when{deadline.when_ns() / 1'000'000'000, deadline.when_ns() % 1'000'000'000};
  long rc = syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_BITSET, expected,
                    deadline.is_never() ? nullptr : &when, nullptr, FUTEX_BITSET_MATCH_ANY);
  return rc == 0 ? 0 : errno;
}

inline void futex_wake_all(Atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}
#else
int futex_wait(Atomic<uint32_t>& word, uint32_t expected, Deadline deadline);
void futex_wake_all(Atomic<uint32_t>& word);
#endif

// An event count: a word whose low bit says that somebody sleeps and whose rest counts changes.
// Waker: change the state, then event_signal(). Sleeper: event_prepare(), look at the state, then
// event_sleep() with what prepare returned.
inline void event_signal(Atomic<uint32_t>& event) {
  if ((event.fetch_add(2) & 1) == 0) return;
  event.fetch_and(~1u);
  futex_wake_all(event);
}

inline uint32_t event_prepare(Atomic<uint32_t>& event) { return event.load() & ~1u; }

// Says that somebody is about to sleep on it. False: there was a change since prepare.
inline bool event_mark(Atomic<uint32_t>& event, uint32_t prepared) {
  uint32_t expected = prepared;
  return event.compare_exchange_strong(expected, prepared | 1) || expected == (prepared | 1);
}

// Sleeps until a change since prepare. True: something may have changed; false: the deadline
// passed.
inline bool event_sleep(Atomic<uint32_t>& event, uint32_t prepared, Deadline deadline) {
  return !event_mark(event, prepared) || futex_wait(event, prepared | 1, deadline) != ETIMEDOUT;
}

// Where the one who is expected to cause the change runs.
enum class Near {
  kAsleep,     // nowhere, or nobody knows: it will take longer than a sleep
  kElsewhere,  // on another processor
  kHere,       // on this one, once we leave it
};

// Waits for a change since prepare without sleeping, as long as that has been worth it lately and
// for some microseconds at most. False: there was none.
bool event_await(Atomic<uint32_t>& event, uint32_t prepared, Near near);

}  // namespace dvs::dvk
