// What the test and its victim tell each other, in a file that both have mapped.
#pragma once

#include <atomic>
#include <cstdint>

namespace dvs::testing {

constexpr int kCounters = 8;

struct SharedState {
  std::atomic<uint32_t> ready;   // set by the victim when it is at work
  std::atomic<uint32_t> word;    // a futex
  std::atomic<uint32_t> order;   // set by the test
  std::atomic<uint32_t> answer;  // to the order
  std::atomic<int64_t> result;
  std::atomic<int64_t> clock_ns;  // CLOCK_MONOTONIC as the victim sees it
  std::atomic<uint32_t> wrong_ids;
  std::atomic<uint64_t> counters[kCounters];
};

}  // namespace dvs::testing
