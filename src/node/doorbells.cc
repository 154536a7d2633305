#include "node/doorbells.h"

#include <sched.h>

#include <boost/asio/post.hpp>

#include "base/clock.h"

namespace dvs {
namespace {

// How long the loop goes on looking after there was something to do: a message to another node is
// back sooner, and a sleep costs several times a look.
constexpr int64_t kAwakeNs = 50'000;
constexpr int kProbeEvery = 32;
// A ringer may be killed between the ring and the wake, and the word is the DC's to spoil: neither
// may keep dvsd waiting.
constexpr int64_t kLookMs = 100;

}  // namespace

// One doorbell. Its thread sleeps at the gate until the loop goes to sleep, then on the doorbell.
class Doorbells::Handle : public std::enable_shared_from_this<Handle> {
 public:
  Handle(Executor& executor, dvk::Atomic<uint32_t>& doorbell, std::function<void()> rung)
      : executor_(executor), doorbell_(doorbell), rung_(std::move(rung)) {}
  ~Handle() {
    stopping_ = true;
    dvk::event_signal(gate_);
    dvk::event_signal(doorbell_);
    if (thread_.joinable()) thread_.join();
  }

  void start() {
    thread_ = std::thread([this] { watch(); });
  }

  // From the loop. True: it rang since the last look.
  bool look() {
    const uint32_t now = dvk::event_prepare(doorbell_);
    if (seen_.exchange(now) == now) return false;
    rung_();
    return true;
  }

  // From the loop, which is about to sleep.
  void arm() {
    if (!armed_.exchange(true)) dvk::event_signal(gate_);
  }

 private:
  void watch() {
    while (!stopping_) {
      const uint32_t gate = dvk::event_prepare(gate_);
      if (!armed_) {
        dvk::event_sleep(gate_, gate, dvk::Deadline::never());
        continue;
      }
      const uint32_t now = dvk::event_prepare(doorbell_);
      if (now == seen_) {
        dvk::event_sleep(doorbell_, now, dvk::Deadline::after_ms(kLookMs));
        continue;
      }
      armed_ = false;
      boost::asio::post(executor_, [] {});  // the loop wakes and looks
    }
  }

  Executor& executor_;
  dvk::Atomic<uint32_t>& doorbell_;
  const std::function<void()> rung_;
  std::atomic<uint32_t> seen_ = 1;  // no count is odd: there is something to look at
  dvk::Atomic<uint32_t> gate_ = 0;
  std::atomic<bool> armed_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

Doorbells::~Doorbells() = default;

Doorbells::Listening Doorbells::listen(dvk::Atomic<uint32_t>& doorbell,
                                       std::function<void()> rung) {
  auto handle = std::make_shared<Handle>(executor_, doorbell, std::move(rung));
  handle->start();
  handles_.push_back(handle);
  boost::asio::post(executor_, [] {});
  return handle;
}

bool Doorbells::look() {
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

void Doorbells::arm() {
  for (const auto& weak : handles_) {
    if (const auto handle = weak.lock()) handle->arm();
  }
}

// (Who rings before its thread sleeps is seen by the thread.)
void Doorbells::sleep() {
  arm();
  executor_.run_one();
}

void Doorbells::run() {
  int64_t window_ns = kAwakeNs;  // shrinks while looking is in vain
  int64_t awake_until_ns = 0;
  unsigned sleeps = 0;
  const auto work = boost::asio::make_work_guard(executor_);
  while (!executor_.stopped()) {
    const bool did = executor_.poll() > 0;
    if (look() || did) {
      if (monotonic_ns() < awake_until_ns) window_ns = kAwakeNs;
      awake_until_ns = monotonic_ns() + window_ns;
    } else if (monotonic_ns() < awake_until_ns) {
      sched_yield();
    } else {
      window_ns = ++sleeps % kProbeEvery == 0 ? kAwakeNs : window_ns / 2;
      sleep();
      awake_until_ns = monotonic_ns() + window_ns;
    }
  }
}

}  // namespace dvs
