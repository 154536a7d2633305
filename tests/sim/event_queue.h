// Virtual time: what is to happen, in order. One thread; the same seed gives the same order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "base/scheduler.h"

namespace dvs::sim {

using Work = std::function<void()>;

// Of something that can die. What it has scheduled dies with it.
using Life = uint64_t;
constexpr Life kForever = 0;

class EventQueue {
 public:
  explicit EventQueue(uint64_t seed) : rng_(seed) {}

  int64_t now_ns() const { return now_ns_; }
  uint64_t random(uint64_t below) {
    return std::uniform_int_distribution<uint64_t>(0, below - 1)(rng_);
  }
  bool chance(int in_1000) { return static_cast<int>(random(1000)) < in_1000; }
  int64_t between_ns(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random(static_cast<uint64_t>(high - low + 1)));
  }

  Life begin_life() {
    alive_.insert(++lives_);
    return lives_;
  }
  void end_life(Life life) { alive_.erase(life); }
  bool is_alive(Life life) const { return life == kForever || alive_.count(life) != 0; }
  // Nothing of this life happens before then; what is due meanwhile happens after it, in order.
  void stall(Life life, int64_t until_ns) { stalled_[life] = std::max(stalled_[life], until_ns); }

  void after(int64_t delay_ns, Life life, Work work) {
    events_[{now_ns_ + delay_ns, ++count_}] = {life, std::move(work)};
  }

  // The next thing happens. False: there is none.
  bool step() {
    if (events_.empty()) return false;
    auto event = events_.extract(events_.begin());
    now_ns_ = event.key().first;
    const Life life = event.mapped().first;
    if (!is_alive(life)) return true;
    const auto stalled = stalled_.find(life);
    if (stalled != stalled_.end() && stalled->second > now_ns_) {
      event.key().first = stalled->second;
      events_.insert(std::move(event));
      return true;
    }
    event.mapped().second();
    return true;
  }

 private:
  std::mt19937_64 rng_;
  std::map<std::pair<int64_t, uint64_t>, std::pair<Life, Work>> events_;
  std::map<Life, int64_t> stalled_;
  std::set<Life> alive_;
  Life lives_ = 0;
  uint64_t count_ = 0;
  int64_t now_ns_ = 1'000'000'000;
};

// What the protocol has for a clock.
class SimScheduler final : public Scheduler {
 public:
  SimScheduler(EventQueue& events, Life life) : events_(events), life_(life) {}

  int64_t monotonic_ns() const override { return events_.now_ns(); }
  int64_t realtime_ns() const override { return kEpochNs + events_.now_ns(); }
  void post(Work work) override { events_.after(0, life_, std::move(work)); }
  void after(std::chrono::nanoseconds delay, Work work) override {
    events_.after(delay.count(), life_, std::move(work));
  }

 private:
  static constexpr int64_t kEpochNs = 1'700'000'000'000'000'000;

  EventQueue& events_;
  const Life life_;
};

}  // namespace dvs::sim
