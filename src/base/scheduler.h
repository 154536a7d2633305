// Time, and "later", as protocol logic has them: so that the same code runs in dvsd, on the event
// loop, and in a simulator, in virtual time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "base/executor.h"

namespace dvs {

class Scheduler {
 public:
  using Work = std::function<void()>;

  virtual ~Scheduler() = default;
  virtual int64_t monotonic_ns() const = 0;
  virtual int64_t realtime_ns() const = 0;
  // Runs `work` soon, never from inside the call; in the order of the calls.
  virtual void post(Work work) = 0;
  // Runs `work` after `delay`. That cannot be called off: `work` sees whether it still has to.
  virtual void after(std::chrono::nanoseconds delay, Work work) = 0;
};

// The event loop's.
class EventLoopScheduler final : public Scheduler {
 public:
  explicit EventLoopScheduler(Executor& executor) : executor_(executor) {}

  int64_t monotonic_ns() const override;
  int64_t realtime_ns() const override;
  void post(Work work) override;
  void after(std::chrono::nanoseconds delay, Work work) override;

 private:
  Executor& executor_;
};

}  // namespace dvs
