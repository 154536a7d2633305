// The atomic of everything in shared memory: std::atomic. A build with DVK_EXPLORE stops at every
// access instead, so that a test can switch to another process there, or kill this one
// (proxy/explore/).
#pragma once

#include <atomic>

namespace dvs::dvk {

#ifndef DVK_EXPLORE

template <typename T>
using Atomic = std::atomic<T>;

#else

void explore_point();

template <typename T>
class Atomic : public std::atomic<T> {
  using Base = std::atomic<T>;
  using Order = std::memory_order;
  static constexpr Order kSeqCst = std::memory_order_seq_cst;
  const Base& at() const { return explore_point(), *this; }
  Base& at() { return explore_point(), *this; }

 public:
  T load(Order order = kSeqCst) const { return at().load(order); }
  void store(T value, Order order = kSeqCst) { at().store(value, order); }
  bool compare_exchange_strong(T& expected, T desired, Order order = kSeqCst) {
    return at().compare_exchange_strong(expected, desired, order);
  }
  T fetch_add(T value, Order order = kSeqCst) { return at().fetch_add(value, order); }
  T fetch_or(T value, Order order = kSeqCst) { return at().fetch_or(value, order); }
  T fetch_and(T value, Order order = kSeqCst) { return at().fetch_and(value, order); }
};

#endif

}  // namespace dvs::dvk
