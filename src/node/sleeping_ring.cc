#include <liburing.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <unordered_map>

#include "base/check.h"
#include "dvk/futex.h"
#include "node/sleepers.h"

namespace dvs {
namespace {

// Of <linux/io_uring.h> and <linux/futex.h> since Linux 6.7; Debian 12's are older.
constexpr uint8_t kOpFutexWait = 51;
constexpr int kFutex2SizeU32 = 2;

constexpr unsigned kEntries = 64;

class Ring {
 public:
  Ring() = default;
  ~Ring() {
    if (good_) io_uring_queue_exit(&ring_);
    if (event_ >= 0) ::close(event_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Completions come only when they are asked for: nothing else of the loop is interrupted.
  bool open() {
    if (io_uring_queue_init(kEntries, &ring_,
                            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) != 0) {
      return false;
    }
    good_ = true;
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    const bool can = probe != nullptr && io_uring_opcode_supported(probe, kOpFutexWait) != 0;
    io_uring_free_probe(probe);
    event_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return can && event_ >= 0 && io_uring_register_eventfd(&ring_, event_) == 0;
  }

  // Becomes readable when there may be completions. (The ring itself does not, before they are
  // asked for.)
  int event() const { return event_; }

  void wait(dvk::Atomic<uint32_t>& word, uint32_t expected, uint64_t id) {
    io_uring_sqe* entry = next();
    io_uring_prep_rw(kOpFutexWait, entry, kFutex2SizeU32, &word, 0, expected);
    entry->addr3 = FUTEX_BITSET_MATCH_ANY;
    io_uring_sqe_set_data64(entry, id);
  }

  void cancel(uint64_t id) {
    io_uring_sqe* entry = next();
    io_uring_prep_cancel64(entry, id, 0);
    io_uring_sqe_set_data64(entry, 0);
    submit();
  }

  void submit() { io_uring_submit(&ring_); }

  template <typename F>
  void for_each_completion(F each) {
    uint64_t count = 0;
    (void)!::read(event_, &count, sizeof count);
    io_uring_get_events(&ring_);
    io_uring_cqe* completion = nullptr;
    while (io_uring_peek_cqe(&ring_, &completion) == 0) {
      const uint64_t id = io_uring_cqe_get_data64(completion);
      io_uring_cqe_seen(&ring_, completion);
      each(id);
    }
  }

 private:
  io_uring_sqe* next() {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      submit();
      entry = io_uring_get_sqe(&ring_);
    }
    DVS_CHECK(entry != nullptr);
    return entry;
  }

  io_uring ring_{};
  bool good_ = false;
  int event_ = -1;
};

class SleepingRing final : public Sleepers {
 public:
  SleepingRing(Executor& executor, std::unique_ptr<Ring> ring)
      : ring_(std::move(ring)), readable_(executor, ring_->event()), look_(executor) {
    watch();
    look_again();
  }
  ~SleepingRing() override { readable_.release(); }
  SleepingRing(const SleepingRing&) = delete;
  SleepingRing& operator=(const SleepingRing&) = delete;

  std::unique_ptr<Sleeper> on(dvk::Atomic<uint32_t>& doorbell) override {
    return std::make_unique<OfRing>(*this, doorbell);
  }
  void begin() override {
    if (std::exchange(prepared_, false)) ring_->submit();
  }

 private:
  class OfRing final : public Sleeper {
   public:
    OfRing(SleepingRing& sleepers, dvk::Atomic<uint32_t>& doorbell)
        : sleepers_(sleepers), doorbell_(doorbell) {}
    ~OfRing() override {
      if (id_ != 0) sleepers_.forget(id_);
    }
    OfRing(const OfRing&) = delete;
    OfRing& operator=(const OfRing&) = delete;

    bool arm(uint32_t seen) override {
      if (!dvk::event_mark(doorbell_, seen)) return false;
      if (id_ == 0) id_ = sleepers_.wait(*this, doorbell_, seen | 1);
      return true;
    }
    void woken() { id_ = 0; }

   private:
    SleepingRing& sleepers_;
    dvk::Atomic<uint32_t>& doorbell_;
    uint64_t id_ = 0;  // 0: not armed
  };

  uint64_t wait(OfRing& sleeper, dvk::Atomic<uint32_t>& doorbell, uint32_t expected) {
    const uint64_t id = ++last_id_;
    armed_.emplace(id, &sleeper);
    ring_->wait(doorbell, expected, id);
    prepared_ = true;
    return id;
  }

  // The kernel does not look at the doorbell any more when this returns.
  void forget(uint64_t id) {
    armed_.erase(id);
    ring_->cancel(id);
  }

  void watch() {
    readable_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                         [this](const boost::system::error_code& error) {
                           if (error) return;
                           collect();
                           watch();
                         });
  }

  void collect() {
    ring_->for_each_completion([this](uint64_t id) {
      const auto found = armed_.find(id);
      if (found == armed_.end()) return;
      found->second->woken();
      armed_.erase(found);
    });
  }

  // A ringer may be killed between the ring and the wake.
  void look_again() {
    constexpr auto kLook = std::chrono::milliseconds(100);
    look_.expires_after(kLook);
    look_.async_wait([this](const boost::system::error_code& error) {
      if (!error) look_again();
    });
  }

  std::unique_ptr<Ring> ring_;
  boost::asio::posix::stream_descriptor readable_;
  boost::asio::steady_timer look_;
  std::unordered_map<uint64_t, OfRing*> armed_;
  uint64_t last_id_ = 0;
  bool prepared_ = false;
};

}  // namespace

std::unique_ptr<Sleepers> make_sleeping_ring(Executor& executor) {
  auto ring = std::make_unique<Ring>();
  if (!ring->open()) return nullptr;
  return std::make_unique<SleepingRing>(executor, std::move(ring));
}

}  // namespace dvs
