#include <atomic>
#include <boost/asio/post.hpp>
#include <thread>

#include "dvk/futex.h"
#include "node/sleepers.h"

namespace dvs {
namespace {

// The word is the DC's to spoil: that must not keep the thread, for whose end dvsd waits.
constexpr int64_t kLookMs = 100;

// Its thread sleeps at the gate until it is armed, then on the doorbell.
class SleepingThread final : public Sleeper {
 public:
  SleepingThread(Executor& executor, dvk::Atomic<uint32_t>& doorbell)
      : executor_(executor), doorbell_(doorbell), thread_([this] { watch(); }) {}
  ~SleepingThread() override {
    stopping_ = true;
    dvk::event_signal(gate_);
    dvk::event_signal(doorbell_);
    thread_.join();
  }
  SleepingThread(const SleepingThread&) = delete;
  SleepingThread& operator=(const SleepingThread&) = delete;

  bool arm(uint32_t seen) override {
    seen_ = seen;
    if (!armed_.exchange(true)) dvk::event_signal(gate_);
    return true;  // (the thread looks before it sleeps)
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
  dvk::Atomic<uint32_t> gate_ = 0;
  std::atomic<uint32_t> seen_ = 0;
  std::atomic<bool> armed_ = false;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

class SleepingThreads final : public Sleepers {
 public:
  explicit SleepingThreads(Executor& executor) : executor_(executor) {}
  std::unique_ptr<Sleeper> on(dvk::Atomic<uint32_t>& doorbell) override {
    return std::make_unique<SleepingThread>(executor_, doorbell);
  }
  void begin() override {}

 private:
  Executor& executor_;
};

}  // namespace

std::unique_ptr<Sleepers> make_sleeping_threads(Executor& executor) {
  return std::make_unique<SleepingThreads>(executor);
}

}  // namespace dvs
