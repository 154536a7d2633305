// Answers the page faults of restored processes and gives them the rest of their memory: from the
// store, and what is not in it by asking dvsd.
#pragma once

#include <chrono>
#include <functional>
#include <list>

#include "base/unique_fd.h"
#include "mover/pager_words.h"
#include "process.h"

namespace dvs::helper {

struct PagerSockets {
  UniqueFd criu;        // listens: criu connects
  UniqueFd dvsd;        // connected; closed by dvsd when it does not want us, or has died
  UniqueFd other_dvsd;  // listens: a dvsd that was started again connects
};

class Pager {
 public:
  // Without any page that was asked for during `patience` it fails. `keep`: gets each userfaultfd.
  Pager(PagerSockets sockets, std::chrono::milliseconds patience,
        std::function<void(int uffd)> keep)
      : sockets_(std::move(sockets)), patience_(patience), keep_(std::move(keep)) {}

  // Until all memory is where it belongs: true. False: dvsd has gone before criu came.
  bool run();
  const Statistics& statistics() const { return statistics_; }

 private:
  bool done() const;
  void wait();
  bool may_push() const;
  int timeout_ms() const;
  void hear_criu();
  void add_process(pid_t pid, UniqueFd uffd);
  void hear_process(PagedProcess& process);
  void on_fault(PagedProcess& process, uint64_t address);
  void answered(int64_t ns);
  void hear_dvsd();
  void take_new_dvsd();
  void say(mover::PagerVerb verb, pid_t pid, mover::PageRange pages);
  void want(Stored& stored, mover::PageRange pages, bool urgent);
  void ask_ahead();
  void arrived(pid_t pid, mover::PageRange pages, bool zeros);
  void look_after_processes();

  PagerSockets sockets_;
  UniqueFd criu_;
  const std::chrono::milliseconds patience_;
  const std::function<void(int)> keep_;
  std::list<PagedProcess> processes_;
  bool unwanted_ = false;
  bool restored_ = false;  // no process comes any more
  int64_t push_from_ns_ = 0;
  uint64_t wanted_bytes_ = 0;
  int64_t heard_ns_ = 0;  // when a page came, or the first was asked for
  Statistics statistics_;
};

}  // namespace dvs::helper
