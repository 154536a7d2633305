#include "mover/copier.h"

#include <algorithm>
#include <cstring>

#include "base/clock.h"

namespace dvs::mover {
namespace {

constexpr uint64_t kBytesAtOnce = 1 << 20;

bool is_zero(const char* page) {
  return page[0] == 0 && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

}  // namespace

Result<Round> Copier::round(const std::vector<ProcessId>& processes) {
  return copy(processes, false);
}

Result<Round> Copier::last(const std::vector<ProcessId>& processes) {
  return copy(processes, true);
}

Result<Round> Copier::copy(const std::vector<ProcessId>& processes, bool frozen) {
  Round round;
  planned_.store(0, std::memory_order_relaxed);
  const int64_t begin = monotonic_ns();
  round.interval_ns = looked_ns_ == 0 ? 0 : begin - looked_ns_;
  looked_ns_ = begin;
  std::erase_if(copies_, [&](const auto& entry) {
    return std::none_of(processes.begin(), processes.end(),
                        [&](const ProcessId& each) { return each.host_pid == entry.first; });
  });
  for (const ProcessId& process : processes) {
    Status copied = copy_process(process, frozen, round);
    // It has ended, or executes another program: the next round begins anew with it.
    if (!frozen && !copied.ok() && copied.error().code() == Code::kNotFound) {
      copies_.erase(process.host_pid);
      continue;
    }
    if (!copied.ok()) return copied.error();
  }
  round.duration_ns = monotonic_ns() - begin;
  return round;
}

Status Copier::copy_process(const ProcessId& process, bool frozen, Round& round) {
  Copy& copy = copies_[process.host_pid];
  if (!copy.reader) {
    DVS_ASSIGN(copy.reader, Reader::open(process.host_pid));
    // What the sink has under that name is of a process, or of a program, that is no more.
    for (const PageRange& range : stored_[process.dc_pid].ranges()) {
      DVS_TRY(drop(process.dc_pid, range));
    }
    if (!frozen) {
      DVS_ASSIGN(copy.tracker, track(process.host_pid, TrackMethod::kWriteProtect));
    }
  }
  DVS_ASSIGN(const Look seen, look(process, copy, frozen));
  return send(process.dc_pid, *copy.reader, seen, round);
}

Result<Look> Copier::look(const ProcessId& process, Copy& copy, bool frozen) {
  if (copy.tracker == nullptr) return look_once(process.host_pid);
  return frozen ? copy.tracker->last_look() : copy.tracker->look();
}

Status Copier::send(pid_t dc_pid, const Reader& reader, const Look& look, Round& round) {
  round.populated_bytes += total_size(look.populated);
  round.changed_bytes += total_size(look.changed);
  planned_.store(round.changed_bytes, std::memory_order_relaxed);
  for (const PageRange& gone : subtract(stored_[dc_pid].ranges(), look.populated)) {
    DVS_TRY(drop(dc_pid, gone));
  }
  PageRanges pieces;
  uint64_t size = 0;
  for (PageRange rest : look.changed) {
    while (rest.start < rest.end) {
      const uint64_t end = std::min(rest.end, rest.start + kBytesAtOnce - size);
      pieces.push_back({rest.start, end});
      size += end - rest.start;
      rest.start = end;
      if (size < kBytesAtOnce) continue;
      DVS_TRY(send_pieces(dc_pid, reader, pieces, round));
      pieces.clear();
      size = 0;
    }
  }
  return pieces.empty() ? Status() : send_pieces(dc_pid, reader, pieces, round);
}

// Runs of pages that are not zeros go out, the others are dropped.
Status Copier::send_pieces(pid_t dc_pid, const Reader& reader, const PageRanges& pieces,
                           Round& round) {
  buffer_.resize(total_size(pieces));
  // What has vanished is zeros.
  if (auto vanished = reader.read(pieces, buffer_.data()); !vanished.ok()) return vanished.error();
  const char* bytes = buffer_.data();
  for (const PageRange& piece : pieces) {
    const auto zero_at = [&](uint64_t at) { return is_zero(bytes + (at - piece.start)); };
    for (uint64_t at = piece.start; at < piece.end;) {
      const bool zero = zero_at(at);
      uint64_t end = at + kPageSize;
      while (end < piece.end && zero_at(end) == zero) end += kPageSize;
      DVS_TRY(zero ? drop(dc_pid, {at, end})
                   : send_run(dc_pid, {at, end}, bytes + (at - piece.start), round));
      at = end;
    }
    bytes += piece.size();
  }
  return {};
}

Status Copier::send_run(pid_t dc_pid, PageRange run, const char* bytes, Round& round) {
  stored_[dc_pid].add(run);
  round.sent_bytes += run.size();
  return sink_.pages(dc_pid, run.start, {bytes, run.size()});
}

Status Copier::drop(pid_t dc_pid, PageRange range) {
  PageSet& stored = stored_[dc_pid];
  bool known = false;
  for (uint64_t at = range.start; at < range.end && !known; at += kPageSize) {
    known = stored.contains(at);
  }
  if (!known) return {};
  stored.remove(range);
  return sink_.drop(dc_pid, range);
}

}  // namespace dvs::mover
