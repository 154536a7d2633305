// The source's copying of memory: the mover on a thread of its own, and its frames on the way to
// the link.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/executor.h"
#include "migrate/page_packing.h"
#include "mover/copier.h"
#include "mover/map_notes.h"

namespace dvs {

// Owned by the Executor's thread, which all of it is called on.
class MemorySource {
 public:
  struct Link {
    std::function<bool(std::string_view body)> send;  // false: it is down
    std::function<bool()> congested;
  };

  // Bandwidth in bytes per second; 0: whatever the link takes.
  MemorySource(Executor& executor, std::string migration, uint64_t bandwidth, Packer packer,
               mover::Injector injector, Link link);
  // Ends a round under way: waits until the thread has noticed, milliseconds.
  ~MemorySource();
  MemorySource(const MemorySource&) = delete;
  MemorySource& operator=(const MemorySource&) = delete;

  // One round; `done` when the link has taken all of it. REQUIRES: none is under way.
  void round(std::vector<mover::ProcessId> processes, Done<mover::Round> done);
  // The last one, of frozen processes (mover::Copier::last). No bandwidth applies to it.
  void last(std::vector<mover::ProcessId> processes, uint64_t budget, Done<mover::Round> done);
  // Ends a round under way: its `done` is called with an Error, soon. None can be begun afterwards.
  void give_up();
  // The link has room again.
  void on_writable() { pump(); }
  // Of the processes of the last round that was not the last: taken at its end, while they ran.
  const std::map<pid_t, mover::MapNotes>& notes() const { return notes_; }
  // What the link was given, and was not told to be something else since: by DC pid. REQUIRES: no
  // round is under way.
  std::map<pid_t, mover::PageRanges> stored() const { return copier_.stored(); }
  // Of the round under way, or the last one.
  uint64_t sent_bytes() const { return sent_; }
  uint64_t planned_bytes() const { return copier_.planned_bytes(); }

 private:
  class Queue;

  using Work = std::function<Result<mover::Round>(mover::Copier& copier)>;
  void start(bool limited, Work work, Done<mover::Round> done);
  void pump_soon();
  void pump();
  void finish_if_done();

  Executor& executor_;
  const Link link_;
  const std::shared_ptr<Queue> queue_;
  mover::Copier copier_;
  std::map<pid_t, mover::MapNotes> notes_;  // by host pid; the worker's, while there is one
  std::thread worker_;
  std::optional<Result<mover::Round>> ended_;  // of the worker; frames may be left
  Done<mover::Round> done_;
  uint64_t sent_ = 0;
  bool pumping_ = false;  // posted
};

}  // namespace dvs
