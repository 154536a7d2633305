// The doorbells of this node's regions, and the event loop that listens to them. A doorbell is a
// futex in shared memory, which no event loop can wait for. So while there is something to do, the
// loop looks at the words itself; when it has nothing to do, others sleep on them for it
// (node/sleepers.h).
#pragma once

#include <array>
#include <functional>
#include <list>
#include <memory>

#include "base/executor.h"
#include "dvk/atomic.h"
#include "node/sleepers.h"

namespace dvs {

// How long it is worth to go on looking before a sleep: it learns from how long it had to wait.
class HaltPoll {
 public:
  static constexpr int64_t kMostNs = 200'000;

  int64_t window_ns() const { return window_ns_; }
  // Something came after so long. What would have come within kMostNs is looked for at once;
  // what takes longer is looked for less and less.
  void waited(int64_t ns);

 private:
  int64_t window_ns_ = kMostNs;
};

class Doorbells {
 public:
  // (The first form takes what sleeps best on this kernel.)
  explicit Doorbells(Executor& executor);
  Doorbells(Executor& executor, std::unique_ptr<Sleepers> sleepers);
  ~Doorbells();
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;

  // Listens to a doorbell until the handle is destroyed; the word lives longer than that, and this
  // longer than the handle. `rung` is called from run(), and once at the start; it may be called
  // for nothing.
  class Handle;
  using Listening = std::shared_ptr<Handle>;
  Listening listen(dvk::Atomic<uint32_t>& doorbell, std::function<void()> rung);

  // Runs the executor and answers doorbells until the executor is stopped. On the thread that made
  // this.
  void run();

 private:
  enum Cause { kNothing, kRing, kHandler };

  Cause look(bool asleep);
  bool look_at_doorbells();
  bool arm();

  Executor& executor_;
  std::unique_ptr<Sleepers> sleepers_;
  std::list<std::weak_ptr<Handle>> handles_;
};

}  // namespace dvs
