#include "ipc/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace dvs::bench {
namespace {

TEST(Histogram, QuantilesAreWithinAHundredthWhateverTheSize) {
  for (const uint64_t scale : {uint64_t{1}, uint64_t{1} << 10, uint64_t{1} << 40}) {
    Histogram histogram;
    for (uint64_t value = 1; value <= 10'000; ++value) histogram.add(value * scale);
    for (const double part : {0.01, 0.5, 0.99}) {
      const double expected = part * 10'000 * static_cast<double>(scale);
      EXPECT_NEAR(histogram.quantile(part), expected, expected / 100) << part << " of " << scale;
    }
  }
}

TEST(Histogram, ATailOfOneInAHundredIsSeen) {
  Histogram histogram;
  for (int i = 0; i < 980; ++i) histogram.add(300);
  for (int i = 0; i < 20; ++i) histogram.add(2'000'000);
  EXPECT_NEAR(histogram.quantile(0.5), 300, 3);
  EXPECT_NEAR(histogram.quantile(0.99), 2e6, 2e4);
}

TEST(Histogram, EmptyAndExtremeValuesDoNoHarm) {
  Histogram histogram;
  EXPECT_EQ(histogram.quantile(0.5), 0);
  histogram.add(0);
  histogram.add(UINT64_MAX);
  EXPECT_LE(histogram.quantile(0.25), 1);
  EXPECT_GT(histogram.quantile(1), 1e19);
}

}  // namespace
}  // namespace dvs::bench
