#include "mover/copier.h"

#include <algorithm>

#include "base/clock.h"
#include "mover/page_runs.h"

namespace dvs::mover {
namespace {

constexpr uint64_t kBytesAtOnce = 1 << 20;

}  // namespace

Result<Round> Copier::round(const std::vector<ProcessId>& processes) {
  return copy(processes, false, kAll);
}

Result<Round> Copier::last(const std::vector<ProcessId>& processes, uint64_t budget) {
  return copy(processes, true, budget);
}

Result<Round> Copier::copy(const std::vector<ProcessId>& processes, bool frozen, uint64_t budget) {
  Round round;
  const int64_t begin = monotonic_ns();
  round.interval_ns = looked_ns_ == 0 ? 0 : begin - looked_ns_;
  looked_ns_ = begin;
  std::erase_if(copies_, [&](const auto& entry) {
    return std::none_of(processes.begin(), processes.end(),
                        [&](const ProcessId& each) { return each.host_pid == entry.first; });
  });
  Looks looks;
  // Who has ended, or executes another program, is begun anew by the next round.
  const auto goes_on = [&](const ProcessId& process, const Status& status) {
    const bool left = !frozen && !status.ok() && status.error().code() == Code::kNotFound;
    if (left) copies_.erase(process.host_pid);
    return left || status.ok();
  };
  for (const ProcessId& process : processes) {
    Status looked = look_at(process, frozen, looks);
    if (!goes_on(process, looked)) return looked.error();
  }
  for (const auto& [process, look] : looks) {
    round.populated_bytes += total_size(look.populated);
    round.changed_bytes += total_size(look.changed);
  }
  planned_.store(round.changed_bytes, std::memory_order_relaxed);
  if (round.changed_bytes > budget) DVS_TRY(choose(looks, budget, round));
  for (const auto& [process, look] : looks) {
    Status sent = drop_gone(process.dc_pid, look);
    if (sent.ok()) {
      sent = send(process.dc_pid, *copies_[process.host_pid].reader, look.changed, round);
    }
    if (!goes_on(process, sent)) return sent.error();
  }
  round.duration_ns = monotonic_ns() - begin;
  return round;
}

Status Copier::look_at(const ProcessId& process, bool frozen, Looks& looks) {
  Copy& copy = copies_[process.host_pid];
  if (!copy.reader) {
    DVS_ASSIGN(copy.reader, Reader::open(process.host_pid));
    // What the sink has under that name is of a process, or of a program, that is no more.
    for (const PageRange& range : stored_[process.dc_pid].ranges()) {
      DVS_TRY(drop(process.dc_pid, range));
    }
    if (!frozen) {
      DVS_ASSIGN(copy.tracker, track(process.host_pid, TrackMethod::kWriteProtect, injector_));
    }
  }
  const bool tracked = copy.tracker != nullptr;
  DVS_ASSIGN(Look look, !tracked ? look_once(process.host_pid)
                        : frozen ? copy.tracker->last_look()
                                 : copy.tracker->look());
  if (!frozen) copy.changed = look.changed;
  looks.emplace_back(process, std::move(look));
  return {};
}

// Leaves in the looks what is to be sent. The rest is owed.
Status Copier::choose(Looks& looks, uint64_t budget, Round& round) {
  for (auto& [process, look] : looks) {
    PageRanges sent;
    for (const PageRange& hot : intersect(look.changed, copies_[process.host_pid].changed)) {
      const uint64_t size = std::min(hot.size(), budget / kPageSize * kPageSize);
      if (size > 0) append(sent, {hot.start, hot.start + size});
      budget -= size;
    }
    const PageRanges owed = subtract(look.changed, sent);
    for (const PageRange& range : owed) stored_[process.dc_pid].remove(range);
    round.owed_bytes += total_size(owed);
    look.changed = std::move(sent);
    if (!owed.empty()) DVS_TRY(sink_.owe(process.dc_pid, owed));
  }
  return {};
}

Status Copier::drop_gone(pid_t dc_pid, const Look& look) {
  for (const PageRange& gone : subtract(stored_[dc_pid].ranges(), look.populated)) {
    DVS_TRY(drop(dc_pid, gone));
  }
  return {};
}

Status Copier::send(pid_t dc_pid, const Reader& reader, const PageRanges& changed, Round& round) {
  PageRanges pieces;
  uint64_t size = 0;
  for (PageRange rest : changed) {
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
    DVS_TRY(for_each_run(piece, bytes, [&](PageRange run, bool zero) {
      return zero ? drop(dc_pid, run)
                  : send_run(dc_pid, run, bytes + (run.start - piece.start), round);
    }));
    bytes += piece.size();
  }
  return {};
}

std::map<pid_t, PageRanges> Copier::stored() const {
  std::map<pid_t, PageRanges> stored;
  for (const auto& [pid, pages] : stored_) stored[pid] = pages.ranges();
  return stored;
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
