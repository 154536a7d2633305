#include "migrate/memory_source.h"

#include <boost/asio/post.hpp>

#include "migrate/transfer.h"

namespace dvs {
namespace {

constexpr size_t kMostQueued = 4 << 20;  // bytes
constexpr size_t kBytesPerFrame = 64 << 10;

}  // namespace

// Between the worker, which waits when it is full, and the executor, which empties it.
class MemorySource::Queue final : public mover::PageSink {
 public:
  Queue(std::string migration, std::function<void()> filled)
      : migration_(std::move(migration)), filled_(std::move(filled)) {}

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
    if (closed_) return Error(Code::kUnavailable, "the copying was given up");
    bytes_ += body.size();
    const bool first = bodies_.empty();
    bodies_.push_back(std::move(body));
    lock.unlock();
    if (first) filled_();
    return {};
  }

  const std::string migration_;
  const std::function<void()> filled_;
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

MemorySource::MemorySource(Executor& executor, std::string migration, Link link)
    : executor_(executor),
      link_(std::move(link)),
      queue_(std::make_shared<Queue>(
          std::move(migration),
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
