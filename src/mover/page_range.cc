#include "mover/page_range.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dvs::mover {

uint64_t total_size(const PageRanges& ranges) {
  uint64_t bytes = 0;
  for (const PageRange& range : ranges) bytes += range.size();
  return bytes;
}

void append(PageRanges& ranges, PageRange range) {
  if (range.start == range.end) return;
  if (ranges.empty() || ranges.back().end < range.start) {
    ranges.push_back(range);
    return;
  }
  DVS_CHECK(ranges.back().end == range.start, "{:x} is below {:x}", range.start, ranges.back().end);
  ranges.back().end = range.end;
}

PageRanges unite(const PageRanges& a, const PageRanges& b) {
  PageRanges sorted;
  sorted.reserve(a.size() + b.size());
  std::merge(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(sorted),
             [](const PageRange& x, const PageRange& y) { return x.start < y.start; });
  PageRanges united;
  for (const PageRange& range : sorted) {
    if (united.empty() || united.back().end < range.start) {
      united.push_back(range);
    } else {
      united.back().end = std::max(united.back().end, range.end);
    }
  }
  return united;
}

PageRanges intersect(const PageRanges& a, const PageRanges& b) {
  PageRanges both;
  for (auto i = a.begin(), j = b.begin(); i != a.end() && j != b.end();) {
    const uint64_t start = std::max(i->start, j->start);
    const uint64_t end = std::min(i->end, j->end);
    if (start < end) both.push_back({start, end});
    if (i->end < j->end) {
      ++i;
    } else {
      ++j;
    }
  }
  return both;
}

PageRanges subtract(const PageRanges& a, const PageRanges& b) {
  PageRanges left;
  auto hole = b.begin();
  for (const PageRange& range : a) {
    uint64_t start = range.start;
    while (hole != b.end() && hole->end <= start) ++hole;
    for (auto at = hole; start < range.end; ++at) {
      const uint64_t end = at == b.end() ? range.end : std::min(range.end, at->start);
      if (start < end) append(left, {start, end});
      if (at == b.end()) break;
      start = std::max(start, at->end);
    }
  }
  return left;
}

std::string_view as_bytes(const PageRanges& ranges) {
  return {reinterpret_cast<const char*>(ranges.data()), ranges.size() * sizeof(PageRange)};
}

PageRanges from_bytes(std::string_view bytes) {
  PageRanges ranges(bytes.size() / sizeof(PageRange));
  if (!ranges.empty()) std::memcpy(ranges.data(), bytes.data(), ranges.size() * sizeof(PageRange));
  return ranges;
}

void PageSet::add(PageRange range) {
  auto next = ends_.upper_bound(range.start);
  if (next != ends_.begin() && std::prev(next)->second >= range.start) --next;
  while (next != ends_.end() && next->first <= range.end) {
    range.start = std::min(range.start, next->first);
    range.end = std::max(range.end, next->second);
    next = ends_.erase(next);
  }
  ends_.emplace_hint(next, range.start, range.end);
}

void PageSet::remove(PageRange range) {
  auto next = ends_.upper_bound(range.start);
  if (next != ends_.begin() && std::prev(next)->second > range.start) --next;
  while (next != ends_.end() && next->first < range.end) {
    const auto [start, end] = *next;
    next = ends_.erase(next);
    if (start < range.start) ends_.emplace_hint(next, start, range.start);
    if (end > range.end) ends_.emplace_hint(next, range.end, end);
  }
}

bool PageSet::contains(uint64_t address) const {
  const auto next = ends_.upper_bound(address);
  return next != ends_.begin() && std::prev(next)->second > address;
}

bool PageSet::intersects(PageRange range) const {
  const auto next = ends_.lower_bound(range.end);
  return next != ends_.begin() && std::prev(next)->second > range.start;
}

PageRanges PageSet::ranges() const {
  PageRanges ranges;
  ranges.reserve(ends_.size());
  for (const auto& [start, end] : ends_) ranges.push_back({start, end});
  return ranges;
}

}  // namespace dvs::mover
