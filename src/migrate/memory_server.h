// Serves the memory that a migration's target is owed, wherever it is kept meanwhile: in the frozen
// process, or at a third node.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/executor.h"
#include "migrate/memory_frames.h"
#include "migrate/pacer.h"
#include "migrate/page_packing.h"
#include "mover/copier.h"

namespace dvs {

// Where owed memory is. On the Executor's thread.
class MemoryKeeper {
 public:
  virtual ~MemoryKeeper() = default;
  // Reads `pages` to `out`. Microseconds for 64 KiB. An Error: it is not here any more.
  virtual Status read(pid_t pid, mover::PageRange pages, char* out) = 0;
};

// Of frozen processes.
std::unique_ptr<MemoryKeeper> keep_in_processes(const std::vector<mover::ProcessId>& processes);
// Of a directory with a store (mover/store.h).
std::unique_ptr<MemoryKeeper> keep_in_store(std::string directory);

class MemoryServer {
 public:
  struct Link {
    std::function<bool(std::string_view body)> send;  // false: it is down
    std::function<bool()> congested;
  };

  // `bandwidth`, bytes per second, is of what is wanted later; 0: as fast as it goes.
  MemoryServer(Executor& executor, std::string migration, std::unique_ptr<MemoryKeeper> keeper,
               uint64_t bandwidth, Packer packer, Link link)
      : migration_(std::move(migration)),
        keeper_(std::move(keeper)),
        link_(std::move(link)),
        pacer_(bandwidth),
        packer_(packer),
        timer_(executor) {}

  // kWant or kWantLater. What is wanted at once overtakes.
  void on_want(const MemoryFrame& want);
  // The link has room again.
  void on_writable() { pump(); }
  // What was wanted is wanted again when the link is back.
  void on_link_down() { urgent_.clear(), later_.clear(); }
  uint64_t served_bytes() const { return served_; }

 private:
  struct Want {
    pid_t pid;
    mover::PageRange pages;
  };

  void pump();
  bool is_early();
  void pump_at(Pacer::Clock::time_point when);
  Status serve(const Want& want);

  const std::string migration_;
  const std::unique_ptr<MemoryKeeper> keeper_;
  const Link link_;
  std::deque<Want> urgent_;
  std::deque<Want> later_;
  Pacer pacer_;
  Packer packer_;
  bool waited_ = false;  // for the link
  boost::asio::steady_timer timer_;
  std::string buffer_;
  uint64_t served_ = 0;
};

}  // namespace dvs
