// The source's copying of memory: the mover on a thread of its own, and its frames on the way to
// the link.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "mover/copier.h"

namespace dvs {

// Owned by the Executor's thread, which all of it is called on.
class MemorySource {
 public:
  struct Link {
    std::function<bool(std::string_view body)> send;  // false: it is down
    std::function<bool()> congested;
  };

  // Bandwidth in bytes per second; 0: whatever the link takes.
  MemorySource(Executor& executor, std::string migration, uint64_t bandwidth, Link link);
  // Ends a round under way: waits until the thread has noticed, milliseconds.
  ~MemorySource();
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;

  // One round; `done` when the link has taken all of it. REQUIRES: none is under way. `frozen`: the
  // processes are, and this is the last round (mover::Copier), to which no bandwidth applies.
  void round(std::vector<mover::ProcessId> processes, bool frozen, Done<mover::Round> done);
  // The link has room again.
  void on_writable() { pump(); }
  // Of the round under way, or the last one.
  uint64_t sent_bytes() const { return sent_; }
  uint64_t planned_bytes() const { return copier_.planned_bytes(); }

 private:
  class Queue;

  void pump();
  void finish_if_done();

  Executor& executor_;
  const Link link_;
  const std::shared_ptr<Queue> queue_;
  mover::Copier copier_;
  std::thread worker_;
  std::optional<Result<mover::Round>> ended_;  // of the worker; frames may be left
  Done<mover::Round> done_;
  uint64_t sent_ = 0;
};

}  // namespace dvs
