// Answers the page faults of restored processes and gives them the rest of their memory.
#pragma once

#include <functional>
#include <list>

#include "base/unique_fd.h"
#include "process.h"

namespace dvs::helper {

class Pager {
 public:
  // `listener`: where criu connects. `dvsd`: closed when it has died or does not want us any more,
  // which counts until criu has connected. `keep`: gets each userfaultfd.
  Pager(UniqueFd listener, int dvsd, std::function<void(int uffd)> keep)
      : listener_(std::move(listener)), dvsd_(dvsd), keep_(std::move(keep)) {}

  // Until all memory is where it belongs.
  void run();
  const Statistics& statistics() const { return statistics_; }

 private:
  bool done() const;
  void wait();
  void hear_criu();
  void add_process(pid_t pid, UniqueFd uffd);
  void hear_process(PagedProcess& process);

  UniqueFd listener_;
  UniqueFd criu_;
  const int dvsd_;
  const std::function<void(int)> keep_;
  std::list<PagedProcess> processes_;
  bool unwanted_ = false;
  bool restored_ = false;  // no process comes any more
  Statistics statistics_;
};

}  // namespace dvs::helper
