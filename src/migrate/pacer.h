// Keeps a stream below a bandwidth: tells when the next piece may go.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace dvs {

class Pacer {
 public:
  using Clock = std::chrono::steady_clock;

  // Bytes per second; 0: as fast as it goes.
  explicit Pacer(uint64_t bandwidth) : bandwidth_(bandwidth) {}

  Clock::time_point next() const { return next_; }
  void sent(uint64_t bytes) {
    if (bandwidth_ == 0) return;
    const std::chrono::duration<double> time(static_cast<double>(bytes) /
                                             static_cast<double>(bandwidth_));
    next_ =
        std::max(next_, Clock::now() - kBurst) + std::chrono::duration_cast<Clock::duration>(time);
  }

 private:
  static constexpr auto kBurst = std::chrono::milliseconds(5);  // may be made up for

  const uint64_t bandwidth_;
  Clock::time_point next_{};
};

}  // namespace dvs
