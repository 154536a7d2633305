// Counts of durations, as close as 1 in 128, in a few kilobytes, however many there are.
#pragma once

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dvs::bench {

class Histogram {
 public:
  void add(uint64_t value) {
    ++counts_[index_of(value)];
    ++total_;
  }

  // The value that the share `part` of all are below, from within its bucket; 0 when empty.
  double quantile(double part) const {
    double left = part * static_cast<double>(total_);
    for (size_t i = 0; i < counts_.size(); ++i) {
      const auto here = static_cast<double>(counts_[i]);
      if (here > 0 && left <= here) {
        return low_of(i) + (low_of(i + 1) - low_of(i)) * left / here;
      }
      left -= here;
    }
    return 0;
  }

 private:
  // Values below 2^7 each have a bucket; above, each doubling has 2^7 of them.
  static constexpr int kBits = 7;
  static constexpr uint64_t kStep = uint64_t{1} << kBits;

  static size_t index_of(uint64_t value) {
    if (value < kStep) return value;
    const int shift = std::bit_width(value) - 1 - kBits;
    return static_cast<size_t>(shift) * kStep + (value >> shift);
  }
  static double low_of(size_t index) {
    if (index < 2 * kStep) return static_cast<double>(index);
    const size_t shift = index / kStep - 1;
    return std::ldexp(static_cast<double>(index - shift * kStep), static_cast<int>(shift));
  }

  std::vector<uint64_t> counts_ = std::vector<uint64_t>((64 - kBits + 1) * kStep);
  uint64_t total_ = 0;
};

}  // namespace dvs::bench
