#include "migrate/memory_source.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <chrono>

#include "migrate/transfer.h"

namespace dvs {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMostQueued = 4 << 20;  // bytes
constexpr size_t kBytesPerFrame = 64 << 10;
constexpr auto kBurst = std::chrono::milliseconds(5);  // what was not used may be made up for

}  // namespace

// Between the worker, which waits when it is full, and the executor, which empties it.
class MemorySource::Queue final : public mover::PageSink {
 public:
  Queue(std::string migration, uint64_t bandwidth, std::function<void()> filled)
      : migration_(std::move(migration)), bandwidth_(bandwidth), filled_(std::move(filled)) {}

  // Before a round.
  void set_limited(bool limited) {
    limited_ = limited && bandwidth_ > 0;
    free_at_ = Clock::now();
  }

  Status pages(pid_t dc_pid, uint64_t address, std::string_view bytes) override {
    while (!bytes.empty()) {
      const auto part = bytes.substr(0, kBytesPerFrame);
      DVS_TRY(push(pages_body(migration_, dc_pid, address, part)));
      address += part.size();
      bytes.remove_prefix(part.size());
    }
    return {};
  }
  Status drop(pid_t dc_pid, mover::PageRange range) override {
    return push(drop_body(migration_, dc_pid, range));
  }

  std::optional<std::string> take() {
    const std::lock_guard lock(mutex_);
    if (bodies_.empty()) return std::nullopt;
    std::string body = std::move(bodies_.front());
    bodies_.pop_front();
    bytes_ -= body.size();
    room_.notify_one();
    return body;
  }
  bool empty() {
    const std::lock_guard lock(mutex_);
    return bodies_.empty();
  }
  // The worker gets an Error from now on.
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    room_.notify_one();
  }

 private:
  Status push(std::string body) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || bytes_ < kMostQueued; });
    if (limited_) pace(lock, body.size());
    if (closed_) return Error(Code::kUnavailable, "the copying was given up");
    bytes_ += body.size();
    const bool first = bodies_.empty();
    bodies_.push_back(std::move(body));
    lock.unlock();
    if (first) filled_();
    return {};
  }

  void pace(std::unique_lock<std::mutex>& lock, size_t size) {
    room_.wait_until(lock, free_at_, [&] { return closed_; });
    const std::chrono::duration<double> time(static_cast<double>(size) /
                                             static_cast<double>(bandwidth_));
    free_at_ = std::max(free_at_, Clock::now() - kBurst) +
               std::chrono::duration_cast<Clock::duration>(time);
  }

  const std::string migration_;
  const uint64_t bandwidth_;
  const std::function<void()> filled_;
  // The worker's.
  bool limited_ = false;
  Clock::time_point free_at_;  // when the next body may go
  // Everybody's.
  std::mutex mutex_;
  std::condition_variable room_;
  std::deque<std::string> bodies_;
  size_t bytes_ = 0;
  bool closed_ = false;
};

namespace {

// What the worker posts may arrive when the object has gone.
template <typename T>
std::function<void()> unless_gone(const std::weak_ptr<T>& alive, std::function<void()> work) {
  return [alive, work = std::move(work)] {
    if (!alive.expired()) work();
  };
}

}  // namespace

MemorySource::MemorySource(Executor& executor, std::string migration, uint64_t bandwidth, Link link)
    : executor_(executor),
      link_(std::move(link)),
      queue_(std::make_shared<Queue>(
          std::move(migration), bandwidth,
          [this] {
            boost::asio::post(executor_, unless_gone(std::weak_ptr(queue_), [this] { pump(); }));
          })),
      copier_(*queue_) {}

MemorySource::~MemorySource() {
  queue_->close();
  if (worker_.joinable()) worker_.join();
}

void MemorySource::round(std::vector<mover::ProcessId> processes, bool frozen,
                         Done<mover::Round> done) {
  done_ = std::move(done);
  sent_ = 0;
  ended_.reset();
  if (worker_.joinable()) worker_.join();
  queue_->set_limited(!frozen);
  worker_ = std::thread([this, processes = std::move(processes), frozen] {
    auto round = frozen ? copier_.last(processes) : copier_.round(processes);
    boost::asio::post(
        executor_, unless_gone(std::weak_ptr(queue_), [this, round = std::move(round)]() mutable {
          ended_ = std::move(round);
          finish_if_done();
        }));
  });
}

void MemorySource::pump() {
  while (!link_.congested()) {
    const auto body = queue_->take();
    if (!body) break;
    sent_ += body->size();
    if (link_.send(*body)) continue;
    queue_->close();  // the worker's round ends with an Error, unless it has ended already
    if (ended_ && ended_->ok()) ended_ = Error(Code::kUnavailable, "the link is down");
    break;
  }
  finish_if_done();
}

void MemorySource::finish_if_done() {
  if (!ended_ || !done_ || (ended_->ok() && !queue_->empty())) return;
  std::exchange(done_, nullptr)(std::move(*std::exchange(ended_, std::nullopt)));
}

}  // namespace dvs
