#include "mover/page_view.h"

#include <gtest/gtest.h>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

using Piece = PageView::Piece;

constexpr uint64_t kBase = 0x7f0000000000;

// In pages from kBase; stored where it was.
PageRange pages(uint64_t first, uint64_t count) {
  return {kBase + first * kPageSize, kBase + (first + count) * kPageSize};
}
uint64_t at(uint64_t page) { return kBase + page * kPageSize; }

TEST(PageView, WhatIsRemovedIsNotFound) {
  PageView view;
  view.add({pages(0, 10), at(0)});
  view.remove(pages(3, 2));
  EXPECT_EQ(view.find(at(2)), (Piece{pages(0, 3), at(0)}));
  EXPECT_EQ(view.find(at(3)), std::nullopt);
  EXPECT_EQ(view.find(at(5)), (Piece{pages(5, 5), at(5)}));
  EXPECT_EQ(view.find(at(10)), std::nullopt);
  EXPECT_EQ(view.size(), 8 * kPageSize);
  view.remove(pages(0, 100));
  EXPECT_TRUE(view.empty());
  EXPECT_EQ(view.first(), std::nullopt);
}

TEST(PageView, WhatIsMovedComesFromWhereItWas) {
  PageView view;
  view.add({pages(0, 4), at(0)});
  view.add({pages(6, 2), at(6)});
  view.add({pages(100, 2), at(100)});
  view.move(at(2), at(100), 5 * kPageSize);  // pages 2, 3 and 6; what was at 100 has gone
  EXPECT_EQ(view.find(at(1)), (Piece{pages(0, 2), at(0)}));
  EXPECT_EQ(view.find(at(2)), std::nullopt);
  EXPECT_EQ(view.find(at(100)), (Piece{pages(100, 2), at(2)}));
  EXPECT_EQ(view.find(at(102)), std::nullopt);
  EXPECT_EQ(view.find(at(104)), (Piece{pages(104, 1), at(6)}));
  EXPECT_EQ(view.find(at(7)), (Piece{pages(7, 1), at(7)}));
}

// Against a plain array of pages.
TEST(PageView, AgreesWithAnArrayOfPages) {
  constexpr uint64_t kPages = 64;
  auto random = test_random();
  for (int run = 0; run < 300; ++run) {
    PageView view;
    std::vector<uint64_t> model(kPages, 0);
    for (int step = 0; step < 30; ++step) {
      const uint64_t first = random() % kPages;
      const uint64_t count = 1 + random() % (kPages - first);
      const uint64_t to = random() % (kPages - count + 1);
      const bool overlaps = to < first + count && first < to + count;
      if (random() % 3 == 0) {
        view.remove(pages(first, count));
        view.add({pages(first, count), at(1000 + first)});
        for (uint64_t i = 0; i < count; ++i) model[first + i] = at(1000 + first + i);
      } else if (random() % 2 == 0 || overlaps) {
        view.remove(pages(first, count));
        for (uint64_t i = 0; i < count; ++i) model[first + i] = 0;
      } else {
        view.move(at(first), at(to), count * kPageSize);
        for (uint64_t i = 0; i < count; ++i) model[to + i] = std::exchange(model[first + i], 0);
      }
      for (uint64_t page = 0; page < kPages; ++page) {
        const auto piece = view.find(at(page));
        const uint64_t stored = piece ? piece->stored + (at(page) - piece->range.start) : 0;
        ASSERT_EQ(stored, model[page]) << "page " << page << " after step " << step;
      }
    }
  }
}

TEST(PageView, TheNextPieceBeginsAtOrAboveAPage) {
  PageView view;
  view.add({pages(2, 4), at(2)});
  EXPECT_EQ(view.next(at(0)), (Piece{pages(2, 4), at(2)}));
  EXPECT_EQ(view.next(at(4)), (Piece{pages(4, 2), at(4)}));
  EXPECT_EQ(view.next(at(6)), std::nullopt);
}

TEST(PageView, WhatHasArrivedIsTakenFromWhereverItBelongs) {
  PageView view;
  view.add({pages(0, 4), at(0)});
  view.add({pages(6, 2), at(6)});
  EXPECT_EQ(view.take(pages(3, 4)),
            (std::vector<Piece>{{pages(3, 1), at(3)}, {pages(6, 1), at(6)}}));
  EXPECT_EQ(view.size(), 4 * kPageSize);
  view.move(at(1), at(50), 2 * kPageSize);
  EXPECT_EQ(view.take(pages(0, 2)),
            (std::vector<Piece>{{pages(0, 1), at(0)}, {pages(50, 1), at(1)}}));
  EXPECT_EQ(view.take(pages(0, 2)), std::vector<Piece>{});
  EXPECT_EQ(view.find(at(51)), (Piece{pages(51, 1), at(2)}));
}

}  // namespace
}  // namespace dvs::mover
