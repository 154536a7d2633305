// Those who sleep on doorbells for an event loop, which cannot wait for a futex itself. Where the
// kernel can (io_uring with futexes, Linux 6.7), it is the kernel that does, and a ring wakes the
// loop at once; elsewhere each doorbell has a thread, and a ring wakes first the thread, then the
// loop.
#pragma once

#include <cstdint>
#include <memory>

#include "base/executor.h"
#include "dvk/atomic.h"

namespace dvs {

// Sleeps on one doorbell.
class Sleeper {
 public:
  virtual ~Sleeper() = default;  // wakes nobody after
  // Wakes the loop once, when the count of rings is no longer `seen`. Armed twice is armed once.
  // False: it is another already.
  virtual bool arm(uint32_t seen) = 0;
};

// All calls, and the destructors, on the loop's thread, which is the one that makes it.
class Sleepers {
 public:
  virtual ~Sleepers() = default;
  virtual std::unique_ptr<Sleeper> on(dvk::Atomic<uint32_t>& doorbell) = 0;
  // After the last arm(), before the loop sleeps.
  virtual void begin() = 0;
};

std::unique_ptr<Sleepers> make_sleeping_threads(Executor& executor);
// Null: this kernel cannot, or will not.
std::unique_ptr<Sleepers> make_sleeping_ring(Executor& executor);

}  // namespace dvs
