// A restored process whose memory is still in the store, or owed.
#pragma once

#include <linux/userfaultfd.h>
#include <sys/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "mover/page_view.h"
#include "mover/store.h"

namespace dvs::helper {

struct Statistics {
  uint64_t faults = 0;
  uint64_t zero_faults = 0;
  uint64_t owed_faults = 0;  // that had to wait for pages to come
  uint64_t installed_bytes = 0;
  std::vector<int64_t> fault_ns;  // from when it was heard until it was answered; of the first
};

// One process's part of the store. Children made by fork() share it.
struct Stored {
  explicit Stored(pid_t owner, mover::StoredMemory memory)
      : pid(owner), file(std::move(memory.file)) {}
  pid_t pid = 0;  // as the store names it
  UniqueFd file;
  mover::PageSet wanted;                   // asked for and not here yet
  std::map<uint64_t, int64_t> waiting_ns;  // by page: since when somebody waits for it
};

class PagedProcess {
 public:
  PagedProcess(UniqueFd uffd, std::shared_ptr<Stored> stored, mover::PageView here,
               mover::PageView owed)
      : uffd_(std::move(uffd)),
        stored_(std::move(stored)),
        here_(std::move(here)),
        owed_(std::move(owed)) {}

  int uffd() const { return uffd_.get(); }
  const std::shared_ptr<Stored>& stored() const { return stored_; }
  bool has_something_here() const { return !ended_ && !here_.empty(); }
  bool is_owed() const { return !ended_ && !owed_.empty(); }

  // A fault at this address. Gives it the page, and some after it. If they are owed: what to ask
  // for at once.
  std::optional<mover::PageRange> serve(uint64_t address, Statistics& statistics);
  // Gives it the next piece of what is here.
  void push(Statistics& statistics);
  // What to ask for next, when nobody waits.
  std::optional<mover::PageRange> next_owed();

  // These pages are in the store now, or are zeros.
  void on_stored(mover::PageRange pages, Statistics& statistics);
  void on_zeros(mover::PageRange pages);

  void on_gone(uint64_t start, uint64_t end);
  void on_moved(uint64_t from, uint64_t to, uint64_t length);
  PagedProcess forked(UniqueFd uffd) const { return {std::move(uffd), stored_, here_, owed_}; }
  // Notices that it has ended.
  void look();

 private:
  // `piece` is within one of those here. False: the mappings are just changing; events tell how.
  bool install(mover::PageView::Piece piece, Statistics& statistics);
  bool install_zeros(uint64_t page);
  void wake(mover::PageRange range);
  void installed(mover::PageView::Piece piece);
  mover::PageRange not_wanted(mover::PageView::Piece piece, uint64_t most) const;

  UniqueFd uffd_;
  std::shared_ptr<Stored> stored_;
  mover::PageView here_;
  mover::PageView owed_;
  uint64_t next_ = 0;  // where to go on asking
  std::string buffer_;
  bool ended_ = false;
};

// Nothing right can be given to the processes any more: says why and ends this program, upon which
// the guardian ends them.
[[noreturn]] void fail(const std::string& why);

}  // namespace dvs::helper
