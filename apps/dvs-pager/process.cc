#include "process.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/clock.h"

namespace dvs::helper {
namespace {

using mover::kPageSize;
using mover::PageView;

// With a fault, what is likely wanted next; by itself, as much as delays a fault by some 50 us.
constexpr uint64_t kAroundFault = 64 << 10;
constexpr uint64_t kPushed = 256 << 10;
constexpr uint64_t kAskedFor = 64 << 10;

}  // namespace

std::optional<mover::PageRange> PagedProcess::serve(uint64_t address, Statistics& statistics) {
  const uint64_t page = address / kPageSize * kPageSize;
  ++statistics.faults;
  if (const auto piece = here_.find(page)) {
    const uint64_t end = std::min(piece->range.end, page + kAroundFault);
    install({{page, end}, piece->stored + (page - piece->range.start)}, statistics);
    return std::nullopt;
  }
  if (!owed_.find(page)) {
    ++statistics.zero_faults;
    install_zeros(page);
    return std::nullopt;
  }
  ++statistics.owed_faults;
  const PageView::Piece piece = *owed_.next(page);
  next_ = page + kAroundFault;
  if (!stored_->waiting_ns.try_emplace(piece.stored, monotonic_ns()).second) return std::nullopt;
  if (!stored_->wanted.contains(piece.stored)) return not_wanted(piece, kAroundFault);
  return mover::PageRange{piece.stored, piece.stored + kPageSize};  // now urgently
}

// The beginning of the piece, as the store has it, up to what has been asked for. REQUIRES: its
// first page has not.
mover::PageRange PagedProcess::not_wanted(PageView::Piece piece, uint64_t most) const {
  const uint64_t limit = piece.stored + std::min(most, piece.range.size());
  uint64_t end = piece.stored + kPageSize;
  while (end < limit && !stored_->wanted.contains(end)) end += kPageSize;
  return {piece.stored, end};
}

std::optional<mover::PageRange> PagedProcess::next_owed() {
  for (bool again = next_ > 0;; again = false) {
    while (const auto piece = owed_.next(next_)) {
      if (!stored_->wanted.contains(piece->stored)) {
        const mover::PageRange pages = not_wanted(*piece, kAskedFor);
        next_ = piece->range.start + pages.size();
        return pages;
      }
      next_ = piece->range.start + kPageSize;
    }
    next_ = 0;
    if (!again) return std::nullopt;
  }
}

void PagedProcess::push(Statistics& statistics) {
  auto piece = here_.first();
  if (!piece) return;
  piece->range.end = std::min(piece->range.end, piece->range.start + kPushed);
  install(*piece, statistics);
}

void PagedProcess::on_stored(mover::PageRange pages, Statistics& statistics) {
  for (const PageView::Piece& piece : owed_.take(pages)) {
    here_.add(piece);
    install(piece, statistics);
  }
}

// Whoever waits for one of them faults again, and gets zeros then.
void PagedProcess::on_zeros(mover::PageRange pages) {
  for (const PageView::Piece& piece : owed_.take(pages)) wake(piece.range);
}

void PagedProcess::on_gone(uint64_t start, uint64_t end) {
  here_.remove({start, end});
  owed_.remove({start, end});
}

void PagedProcess::on_moved(uint64_t from, uint64_t to, uint64_t length) {
  here_.move(from, to, length);
  owed_.move(from, to, length);
}

// Nothing is protected against writes, so to end that changes nothing; but it tells whether the
// process has its memory still. (An address that nothing is at would not do: below mmap_min_addr
// the kernel does not look at the process.)
void PagedProcess::look() {
  const auto owed = owed_.first();
  if (!owed) return;
  uffdio_writeprotect nothing{};
  nothing.range = {owed->range.start, kPageSize};
  if (::ioctl(uffd_.get(), UFFDIO_WRITEPROTECT, &nothing) != 0 && errno == ESRCH) ended_ = true;
}

// The kernel fills pages of one mapping at a time, and none that is there already.
bool PagedProcess::install(PageView::Piece piece, Statistics& statistics) {
  buffer_.resize(piece.range.size());
  const ssize_t size = ::pread(stored_->file.get(), buffer_.data(), buffer_.size(),
                               static_cast<off_t>(piece.stored));
  // Memory that cannot be had must not be taken for zeros.
  if (size != static_cast<ssize_t>(buffer_.size())) fail("the store cannot be read");
  uint64_t length = piece.range.size();
  for (uint64_t done = 0; done < piece.range.size();) {
    uffdio_copy copy{};
    copy.dst = piece.range.start + done;
    copy.src = reinterpret_cast<uint64_t>(buffer_.data()) + done;
    copy.len = std::min(length, piece.range.size() - done);
    const bool whole = ::ioctl(uffd_.get(), UFFDIO_COPY, &copy) == 0;
    const int error = whole ? 0 : errno;
    uint64_t advanced = whole ? copy.len : copy.copy > 0 ? static_cast<uint64_t>(copy.copy) : 0;
    if (advanced == 0) {
      if (error == ESRCH) return ended_ = true;
      if (error == EAGAIN) return false;
      if (error != EEXIST && error != ENOENT) {
        fail(std::string("the kernel does not take a page: ") + std::strerror(error));
      }
      if (length > kPageSize) {
        length = kPageSize;  // one by one
        continue;
      }
      if (error == EEXIST) wake({copy.dst, copy.dst + kPageSize});
      advanced = kPageSize;
    } else {
      statistics.installed_bytes += advanced;
    }
    installed({{copy.dst, copy.dst + advanced}, piece.stored + done});
    done += advanced;
  }
  return true;
}

bool PagedProcess::install_zeros(uint64_t page) {
  uffdio_zeropage zero{};
  zero.range = {page, kPageSize};
  if (::ioctl(uffd_.get(), UFFDIO_ZEROPAGE, &zero) == 0) return true;
  if (errno == ESRCH) return ended_ = true;
  if (errno == EEXIST) wake({page, page + kPageSize});
  return errno != EAGAIN;
}

void PagedProcess::wake(mover::PageRange range) {
  uffdio_range woken{range.start, range.size()};
  ::ioctl(uffd_.get(), UFFDIO_WAKE, &woken);
}

// Memory is not held twice.
void PagedProcess::installed(PageView::Piece piece) {
  here_.remove(piece.range);
  if (stored_.use_count() > 1) return;
  ::fallocate(stored_->file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(piece.stored), static_cast<off_t>(piece.range.size()));
}

}  // namespace dvs::helper
