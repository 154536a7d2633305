// A restored process whose memory is still in the store.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/types.h>

#include <memory>
#include <string>

#include "base/unique_fd.h"
#include "mover/page_view.h"

namespace dvs::helper {

struct Statistics {
  uint64_t faults = 0;
  uint64_t zero_faults = 0;
  uint64_t installed_bytes = 0;
};

class PagedProcess {
 public:
  // `store`: the process's file, or none. A child made by fork() shares it with its parent.
  PagedProcess(UniqueFd uffd, std::shared_ptr<UniqueFd> store, mover::PageView view)
      : uffd_(std::move(uffd)), store_(std::move(store)), view_(std::move(view)) {}

  int uffd() const { return uffd_.get(); }
  bool empty() const { return ended_ || view_.empty(); }

  // A fault at this address: gives it the page, and some after it.
  void serve(uint64_t address, Statistics& statistics);
  // Gives it the next piece of what is left.
  void push(Statistics& statistics);

  void on_gone(uint64_t start, uint64_t end) { view_.remove({start, end}); }
  void on_moved(uint64_t from, uint64_t to, uint64_t length) { view_.move(from, to, length); }
  PagedProcess forked(UniqueFd uffd) const { return {std::move(uffd), store_, view_}; }

 private:
  // `piece` is within one of the view. False: the mappings are just changing; events tell how.
  bool install(mover::PageView::Piece piece, Statistics& statistics);
  bool install_zeros(uint64_t page);
  void wake(uint64_t page);
  void installed(mover::PageView::Piece piece);

  UniqueFd uffd_;
  std::shared_ptr<UniqueFd> store_;
  mover::PageView view_;
  std::string buffer_;
  bool ended_ = false;
};

}  // namespace dvs::helper
