// The atomic of everything in shared memory: std::atomic. A build with DVK_EXPLORE stops at every
// access instead, so that a test can switch to another process there, or kill this one
// (proxy/explore/).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace dvs::dvk {

// The orders in shared memory, by what they are for; nothing else in src/dvk names one, and what
// names none is kOrdered. Which accesses make a pair: layout.h, "Memory order".
constexpr auto kOrdered = std::memory_order_seq_cst;
constexpr auto kContents = std::memory_order_relaxed;   // stored before the swap that publishes it
constexpr auto kPublished = std::memory_order_acquire;  // loaded after that swap was seen
constexpr auto kUnordered = std::memory_order_relaxed;  // hints and counters: decide nothing

#ifndef DVK_EXPLORE

template <typename T>
using Atomic = std::atomic<T>;

#else

// Before an access to a word, and after it with the value that was there.
void explore_point(const void* word, size_t size, bool writes);
void explore_saw(const void* word, size_t size, uint64_t value);

template <typename T>
class Atomic : public std::atomic<T> {
  using Base = std::atomic<T>;
  using Order = std::memory_order;

  template <typename Change>
  T change(Change operation) {
    explore_point(this, sizeof(T), true);
    const T before = operation(static_cast<Base&>(*this));
    explore_saw(this, sizeof(T), static_cast<uint64_t>(before));
    return before;
  }

 public:
  T load(Order order = kOrdered) const {
    explore_point(this, sizeof(T), false);
    const T value = Base::load(order);
    explore_saw(this, sizeof(T), static_cast<uint64_t>(value));
    return value;
  }
  void store(T value, Order order = kOrdered) {
    change([=](Base& word) { return word.store(value, order), T{}; });
  }
  bool compare_exchange_strong(T& expected, T desired, Order order = kOrdered) {
    const T wanted = expected;
    expected = change([=](Base& word) {
      T found = wanted;
      word.compare_exchange_strong(found, desired, order);
      return found;
    });
    return expected == wanted;
  }
  T fetch_add(T value, Order order = kOrdered) {
    return change([=](Base& word) { return word.fetch_add(value, order); });
  }
  T fetch_or(T value, Order order = kOrdered) {
    return change([=](Base& word) { return word.fetch_or(value, order); });
  }
  T fetch_and(T value, Order order = kOrdered) {
    return change([=](Base& word) { return word.fetch_and(value, order); });
  }
};

#endif

}  // namespace dvs::dvk
