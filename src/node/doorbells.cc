#include "node/doorbells.h"

#include <sched.h>

#include <algorithm>
#include <boost/asio/post.hpp>

#include "base/clock.h"
#include "dvk/futex.h"

namespace dvs {

void HaltPoll::waited(int64_t ns) {
  if (ns <= kMostNs) {
    window_ns_ = kMostNs;
  } else {
    window_ns_ /= 2;
  }
}

// One doorbell.
class Doorbells::Handle {
 public:
  Handle(std::unique_ptr<Sleeper> sleeper, dvk::Atomic<uint32_t>& doorbell,
         std::function<void()> rung)
      : sleeper_(std::move(sleeper)), doorbell_(doorbell), rung_(std::move(rung)) {}

  // True: it rang since the last look.
  bool look() {
    const uint32_t now = dvk::event_prepare(doorbell_);
    if (std::exchange(seen_, now) == now) return false;
    rung_();
    return true;
  }

  bool arm() { return sleeper_->arm(seen_); }

 private:
  std::unique_ptr<Sleeper> sleeper_;
  dvk::Atomic<uint32_t>& doorbell_;
  const std::function<void()> rung_;
  uint32_t seen_ = 1;  // no count is odd: there is something to look at
};

namespace {

// A handler so soon after an event was posted by it.
constexpr int64_t kFollowUpNs = 5'000;

std::unique_ptr<Sleepers> best_sleepers(Executor& executor) {
  auto ring = make_sleeping_ring(executor);
  return ring ? std::move(ring) : make_sleeping_threads(executor);
}

constexpr int kTurns = 4;  // of the event loop, between looks

}  // namespace

Doorbells::Doorbells(Executor& executor) : Doorbells(executor, best_sleepers(executor)) {}

Doorbells::Doorbells(Executor& executor, std::unique_ptr<Sleepers> sleepers)
    : executor_(executor), sleepers_(std::move(sleepers)) {}

Doorbells::~Doorbells() = default;

Doorbells::Listening Doorbells::listen(dvk::Atomic<uint32_t>& doorbell,
                                       std::function<void()> rung) {
  auto handle = std::make_shared<Handle>(sleepers_->on(doorbell), doorbell, std::move(rung));
  handles_.push_back(handle);
  boost::asio::post(executor_, [] {});
  return handle;
}

bool Doorbells::look_at_doorbells() {
  bool rang = false;
  for (auto it = handles_.begin(); it != handles_.end();) {
    if (const auto handle = it->lock()) {
      rang |= handle->look();
      ++it;
    } else {
      it = handles_.erase(it);
    }
  }
  return rang;
}

// There may always be more to do: a link whose other end sends as fast as we read.
Doorbells::Cause Doorbells::look(bool asleep) {
  bool handled = false;
  if (asleep) {
    handled = executor_.run_one() > 0;
  } else {
    for (int turn = 0; turn < kTurns && executor_.poll_one() > 0; ++turn) handled = true;
  }
  if (look_at_doorbells()) return kRing;
  return handled ? kHandler : kNothing;
}

// False: one has rung since it was looked at.
bool Doorbells::arm() {
  bool quiet = true;
  for (const auto& weak : handles_) {
    if (const auto handle = weak.lock()) quiet &= handle->arm();
  }
  sleepers_->begin();
  return quiet;
}

// What follows a ring (an answer from another node, mostly) and what follows a handler (the next
// request, mostly) take different times, so each has its own patience.
void Doorbells::run() {
  std::array<HaltPoll, 3> patience;
  Cause last = kNothing;
  int64_t since_ns = monotonic_ns();
  bool asleep = false;
  const auto work = boost::asio::make_work_guard(executor_);
  while (!executor_.stopped()) {
    const Cause cause = look(asleep);
    asleep = false;
    const int64_t waited_ns = monotonic_ns() - since_ns;
    if (cause == kHandler && waited_ns < kFollowUpNs) {
      since_ns += waited_ns;
    } else if (cause != kNothing) {
      patience[last].waited(waited_ns);
      last = cause;
      since_ns += waited_ns;
    } else if (waited_ns < patience[last].window_ns()) {
      sched_yield();
    } else {
      asleep = arm();
    }
  }
}

}  // namespace dvs
