// The doorbells of this node's regions, and the event loop that listens to them. A doorbell is a
// futex in shared memory, which no event loop can wait for. So while there is something to do, the
// loop looks at the words itself; when it has nothing to do, it sends a thread to sleep on each and
// sleeps: who rings then wakes the thread, which wakes the loop.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <thread>

#include "base/executor.h"
#include "dvk/futex.h"

namespace dvs {

class Doorbells {
 public:
  explicit Doorbells(Executor& executor) : executor_(executor) {}
  ~Doorbells();
  Doorbells(const Doorbells&) = delete;
  Doorbells& operator=(const Doorbells&) = delete;

  // Listens to a doorbell until the handle is destroyed; the word lives longer than that. `rung` is
  // called from run(), and once at the start; it may be called for nothing.
  class Handle;
  using Listening = std::shared_ptr<Handle>;
  Listening listen(dvk::Atomic<uint32_t>& doorbell, std::function<void()> rung);

  // Runs the executor and answers doorbells until the executor is stopped. On one thread.
  void run();

 private:
  bool look();
  void arm();
  void sleep();

  Executor& executor_;
  std::list<std::weak_ptr<Handle>> handles_;
};

}  // namespace dvs
