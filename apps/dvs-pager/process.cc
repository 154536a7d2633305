#include "process.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace dvs::helper {
namespace {

using mover::kPageSize;
using mover::PageView;

// With a fault, what is likely wanted next; by itself, as much as delays a fault by some 50 us.
constexpr uint64_t kAroundFault = 64 << 10;
constexpr uint64_t kPushed = 256 << 10;

}  // namespace

void PagedProcess::serve(uint64_t address, Statistics& statistics) {
  const uint64_t page = address / kPageSize * kPageSize;
  ++statistics.faults;
  const auto piece = view_.find(page);
  if (!piece) {
    ++statistics.zero_faults;
    install_zeros(page);
    return;
  }
  const uint64_t end = std::min(piece->range.end, page + kAroundFault);
  install({{page, end}, piece->stored + (page - piece->range.start)}, statistics);
}

void PagedProcess::push(Statistics& statistics) {
  auto piece = view_.first();
  if (!piece) return;
  piece->range.end = std::min(piece->range.end, piece->range.start + kPushed);
  install(*piece, statistics);
}

// The kernel fills pages of one mapping at a time, and none that is there already.
bool PagedProcess::install(PageView::Piece piece, Statistics& statistics) {
  buffer_.resize(piece.range.size());
  const ssize_t size =
      ::pread(store_->get(), buffer_.data(), buffer_.size(), static_cast<off_t>(piece.stored));
  // Memory that cannot be had must not be taken for zeros: the guardian ends the process.
  if (size != static_cast<ssize_t>(buffer_.size())) std::abort();
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
      if (error != EEXIST && error != ENOENT) std::abort();
      if (length > kPageSize) {
        length = kPageSize;  // one by one
        continue;
      }
      if (error == EEXIST) wake(copy.dst);
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
  if (errno == EEXIST) wake(page);
  return errno != EAGAIN;
}

void PagedProcess::wake(uint64_t page) {
  uffdio_range range{page, kPageSize};
  ::ioctl(uffd_.get(), UFFDIO_WAKE, &range);
}

// Memory is not held twice.
void PagedProcess::installed(PageView::Piece piece) {
  view_.remove(piece.range);
  if (store_.use_count() > 1) return;
  ::fallocate(store_->get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              static_cast<off_t>(piece.stored), static_cast<off_t>(piece.range.size()));
}

}  // namespace dvs::helper
