#include "mover/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>
#include <string>

namespace dvs::mover {
namespace {

constexpr uint64_t kBytesPerCall = 1 << 20;
constexpr size_t kPiecesPerCall = 256;

// No piece is larger than a call may be.
PageRanges cut(const PageRanges& ranges) {
  PageRanges pieces;
  for (PageRange rest : ranges) {
    while (rest.start < rest.end) {
      const uint64_t end = std::min(rest.end, rest.start + kBytesPerCall);
      pieces.push_back({rest.start, end});
      rest.start = end;
    }
  }
  return pieces;
}

}  // namespace

Result<Reader> Reader::open(pid_t pid) {
  const std::string name = "process " + std::to_string(pid);
  UniqueFd mem(::open(("/proc/" + std::to_string(pid) + "/mem").c_str(), O_RDONLY | O_CLOEXEC));
  if (!mem.valid()) return errno_error("cannot open the memory of " + name);
  Reader reader(pid, std::move(mem));
  DVS_TRY(reader.check_alive());
  return reader;
}

// Of memory that nobody uses any more nothing can be read, not even an error. While it is in use
// the pid is nobody else's.
Status Reader::check_alive() const {
  char byte = 0;
  if (::pread(mem_.get(), &byte, 1, 0) != 0) return {};
  return Error(Code::kNotFound, "process " + std::to_string(pid_) + " has ended");
}

// Copies `count` pieces; how many bytes came, up to the first page that could not be read.
Result<size_t> Reader::copy(const PageRanges& pieces, size_t first, size_t count, char* out) const {
  iovec remote[kPiecesPerCall];
  size_t size = 0;
  for (size_t i = 0; i < count; ++i) {
    const PageRange& piece = pieces[first + i];
    remote[i] = {reinterpret_cast<void*>(piece.start), piece.size()};
    size += piece.size();
  }
  const iovec local{out, size};
  const ssize_t copied = ::process_vm_readv(pid_, &local, 1, remote, count, 0);
  if (copied >= 0) return static_cast<size_t>(copied) / kPageSize * kPageSize;
  if (errno == EFAULT) return 0;
  return errno_error("cannot read the memory of process " + std::to_string(pid_));
}

// By /proc/PID/mem, which minds no protection but is slower. How many bytes came.
size_t Reader::force(PageRange range, char* out) const {
  const ssize_t size = ::pread(mem_.get(), out, range.size(), static_cast<off_t>(range.start));
  return size < 0 ? 0 : static_cast<size_t>(size) / kPageSize * kPageSize;
}

Result<PageRanges> Reader::read(const PageRanges& ranges, char* out) const {
  PageRanges pieces = cut(ranges);
  PageRanges vanished;
  for (size_t next = 0; next < pieces.size();) {
    size_t count = 0;
    for (uint64_t size = 0; next + count < pieces.size() && count < kPiecesPerCall; ++count) {
      size += pieces[next + count].size();
      if (size > kBytesPerCall) break;
    }
    DVS_ASSIGN(size_t copied, copy(pieces, next, count, out));
    out += copied;
    for (; count > 0 && copied >= pieces[next].size(); --count) copied -= pieces[next++].size();
    if (count == 0) continue;
    // The page it stopped at, and what follows it in this piece.
    PageRange& stuck = pieces[next];
    stuck.start += copied;
    uint64_t forced = force(stuck, out);
    if (forced == 0) {
      forced = kPageSize;
      std::memset(out, 0, kPageSize);
      append(vanished, {stuck.start, stuck.start + kPageSize});
    }
    out += forced;
    stuck.start += forced;
    if (stuck.start == stuck.end) ++next;
  }
  DVS_TRY(check_alive());
  return vanished;
}

}  // namespace dvs::mover
