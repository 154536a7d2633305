#include "mover/page_range.h"

#include <gtest/gtest.h>

#include <bitset>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

constexpr size_t kPages = 64;
using Bits = std::bitset<kPages>;

PageRanges ranges_of(const Bits& bits) {
  PageRanges ranges;
  for (size_t i = 0; i < kPages; ++i) {
    if (bits[i]) append(ranges, {i * kPageSize, (i + 1) * kPageSize});
  }
  return ranges;
}

// The same, with edges inside.
PageRanges pieces_of(const Bits& bits, std::mt19937_64& random) {
  PageRanges pieces;
  for (const PageRange& range : ranges_of(bits)) {
    for (uint64_t at = range.start; at < range.end; at += kPageSize) {
      if (at == range.start || random() % 3 == 0) {
        pieces.push_back({at, at + kPageSize});
      } else {
        pieces.back().end = at + kPageSize;
      }
    }
  }
  return pieces;
}

Bits bits_of(const PageRanges& ranges) {
  Bits bits;
  uint64_t last = 0;
  for (const PageRange& range : ranges) {
    EXPECT_LT(range.start, range.end);
    EXPECT_GE(range.start, last);
    last = range.end;
    for (uint64_t at = range.start; at < range.end; at += kPageSize) bits[at / kPageSize] = true;
  }
  return bits;
}

TEST(PageRanges, SetOperationsAgreeWithBits) {
  auto random = test_random();
  for (int round = 0; round < 5000; ++round) {
    const Bits a = Bits(random()) & Bits(random());
    const Bits b = Bits(random()) | Bits(round % 2 == 0 ? 0 : random());
    const PageRanges x = pieces_of(a, random);
    const PageRanges y = pieces_of(b, random);
    EXPECT_EQ(unite(x, y), ranges_of(a | b));
    EXPECT_EQ(bits_of(intersect(x, y)), a & b);
    EXPECT_EQ(subtract(x, y), ranges_of(a & ~b));
    EXPECT_EQ(total_size(x), a.count() * kPageSize);
  }
}

TEST(PageRanges, ASetAgreesWithBits) {
  auto random = test_random();
  PageSet set;
  Bits bits;
  for (int round = 0; round < 20'000; ++round) {
    const uint64_t start = random() % kPages;
    const uint64_t end = start + 1 + random() % std::min<uint64_t>(8, kPages - start);
    const bool add = random() % 2 == 0;
    for (uint64_t i = start; i < end; ++i) bits[i] = add;
    const PageRange range{start * kPageSize, end * kPageSize};
    add ? set.add(range) : set.remove(range);
    ASSERT_EQ(set.ranges(), ranges_of(bits));
    ASSERT_EQ(set.contains(start * kPageSize + 5), add);
    const uint64_t other = random() % kPages;
    ASSERT_EQ(set.intersects({other * kPageSize, kPages * kPageSize}), (bits >> other).any());
    ASSERT_EQ(set.intersects({0, (other + 1) * kPageSize}), (bits << (kPages - 1 - other)).any());
  }
}

}  // namespace
}  // namespace dvs::mover
