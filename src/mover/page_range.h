// Ranges of whole pages of a process's address space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

namespace dvs::mover {

constexpr uint64_t kPageSize = 4096;
// Above it there is no user memory on x86-64 (with five levels of page tables).
constexpr uint64_t kAddressLimit = 1ull << 56;

constexpr bool is_page_aligned(uint64_t address) { return address % kPageSize == 0; }

// [start, end) in bytes, both multiples of kPageSize, not empty.
struct PageRange {
  uint64_t start = 0;
  uint64_t end = 0;
  uint64_t size() const { return end - start; }
  bool operator==(const PageRange&) const = default;
};

// Ascending and without overlap. Two may touch: where one mapping ends and the next begins.
using PageRanges = std::vector<PageRange>;

uint64_t total_size(const PageRanges& ranges);  // bytes
// At the end of `ranges`, joined with the last if it touches it. REQUIRES: it begins there or
// above.
void append(PageRanges& ranges, PageRange range);
// What is in either, in both, in `a` and not in `b`. The results have no two that touch, except
// that intersect() keeps the edges of both.
PageRanges unite(const PageRanges& a, const PageRanges& b);
PageRanges intersect(const PageRanges& a, const PageRanges& b);
PageRanges subtract(const PageRanges& a, const PageRanges& b);

// As a file of this machine has them.
std::string_view as_bytes(const PageRanges& ranges);  // of which it is a view
PageRanges from_bytes(std::string_view bytes);        // a rest that is no range is left out

// A set of pages that changes range by range: O(log n) for one that touches few others.
class PageSet {
 public:
  void add(PageRange range);
  void remove(PageRange range);
  bool contains(uint64_t address) const;
  bool intersects(PageRange range) const;
  PageRanges ranges() const;
  size_t range_count() const { return ends_.size(); }

 private:
  std::map<uint64_t, uint64_t> ends_;  // by start; no two touch
};

}  // namespace dvs::mover
