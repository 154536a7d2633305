// Copies the movable memory of a tree of processes, round by round: first all of it, then what has
// changed since the round before.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mover/page_range.h"
#include "mover/reader.h"
#include "mover/tracker.h"

namespace dvs::mover {

struct ProcessId {
  pid_t host_pid = 0;  // as we see it
  pid_t dc_pid = 0;    // what it is called where it goes
};

// Takes what is copied. May block, to slow the copying down. An Error ends the round.
class PageSink {
 public:
  virtual ~PageSink() = default;
  virtual Status pages(pid_t dc_pid, uint64_t address, std::string_view bytes) = 0;
  // These pages are zeros from now on, or are not there any more.
  virtual Status drop(pid_t dc_pid, PageRange range) = 0;
  // These hold something that the sink has not got, or has got an older state of.
  virtual Status owe(pid_t dc_pid, const PageRanges& ranges) = 0;
};

struct Round {
  uint64_t populated_bytes = 0;  // of memory that holds something
  uint64_t changed_bytes = 0;    // since the round before; in a first round all
  uint64_t sent_bytes = 0;       // given to the sink: without pages of zeros
  uint64_t owed_bytes = 0;       // not given to it; see last()
  int64_t interval_ns = 0;       // between the looks of this round and of the one before; 0: none
  int64_t duration_ns = 0;
};

// On one thread at a time.
class Copier {
 public:
  explicit Copier(PageSink& sink, Injector injector = inject_userfaultfd)
      : sink_(sink), injector_(std::move(injector)) {}

  // The processes run. Blocks while it reads and the sink takes. Processes that are new since the
  // round before are copied whole; those that have gone are forgotten. What changes meanwhile is in
  // the next round. An Error: a process cannot be tracked (see track()), or the sink's.
  Result<Round> round(const std::vector<ProcessId>& processes);

  // The processes are frozen. Afterwards the sink's owner has all of their movable memory, or knows
  // what it is owed: if more than `budget` bytes have changed it gets of them only those that
  // changed in the round before as well, and are so the likeliest to be wanted next, up to
  // `budget`. Rounds may have been before or not. Trackers are left in them until this object goes,
  // which takes some ms per GB: when the processes have ended, or go on.
  Result<Round> last(const std::vector<ProcessId>& processes, uint64_t budget = kAll);
  static constexpr uint64_t kAll = UINT64_MAX;

  // What the sink has: by DC pid.
  std::map<pid_t, PageRanges> stored() const;

  // Of the round under way: what has been found to be copied. On any thread.
  uint64_t planned_bytes() const { return planned_.load(std::memory_order_relaxed); }

 private:
  struct Copy {
    std::unique_ptr<Tracker> tracker;
    std::optional<Reader> reader;
    PageRanges changed;  // at the last look
  };
  using Looks = std::vector<std::pair<ProcessId, Look>>;

  Result<Round> copy(const std::vector<ProcessId>& processes, bool frozen, uint64_t budget);
  Status look_at(const ProcessId& process, bool frozen, Looks& looks);
  Status choose(Looks& looks, uint64_t budget, Round& round);
  Status drop_gone(pid_t dc_pid, const Look& look);
  Status send(pid_t dc_pid, const Reader& reader, const PageRanges& changed, Round& round);
  Status send_pieces(pid_t dc_pid, const Reader& reader, const PageRanges& pieces, Round& round);
  Status send_run(pid_t dc_pid, PageRange run, const char* bytes, Round& round);
  Status drop(pid_t dc_pid, PageRange range);

  PageSink& sink_;
  const Injector injector_;
  std::map<pid_t, Copy> copies_;     // by host pid
  std::map<pid_t, PageSet> stored_;  // by DC pid: what the sink has
  std::string buffer_;
  int64_t looked_ns_ = 0;
  std::atomic<uint64_t> planned_ = 0;
};

}  // namespace dvs::mover
