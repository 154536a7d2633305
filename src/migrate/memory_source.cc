#include "migrate/memory_source.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>

#include "migrate/memory_frames.h"
#include "migrate/pacer.h"

namespace dvs {
namespace {

constexpr size_t kMostQueued = 4 << 20;  // bytes
constexpr int kPatientNice = 10;
constexpr size_t kMostAtOnce = 256 << 10;  // then others of the event loop have their turn

}  // namespace

// Between the worker, which waits when it is full, and the executor, which empties it.
class MemorySource::Queue final : public mover::PageSink {
 public:
  Queue(std::string migration, uint64_t bandwidth, Packer packer, std::function<void()> filled)
      : migration_(std::move(migration)),
        pacer_(bandwidth),
        packer_(packer),
        filled_(std::move(filled)) {}

  // Before a round.
  void set_limited(bool limited) { limited_ = limited; }

  Status pages(pid_t dc_pid, uint64_t address, std::string_view bytes) override {
    while (!bytes.empty()) {
      const auto part = bytes.substr(0, kMemoryBytesPerFrame);
      const mover::PageRange range{address, address + part.size()};
      if (const auto packed = packer_.pack(part, std::exchange(waited_, false))) {
        DVS_TRY(push({MemoryPart::kPacked, dc_pid, range, *packed}));
      } else {
        DVS_TRY(push({MemoryPart::kPages, dc_pid, range, part}));
      }
      address += part.size();
      bytes.remove_prefix(part.size());
    }
    return {};
  }
  Status drop(pid_t dc_pid, mover::PageRange range) override {
    return push({MemoryPart::kDrop, dc_pid, range, {}});
  }
  Status owe(pid_t dc_pid, const mover::PageRanges& ranges) override {
    for (std::string& body : encode_owed(migration_, dc_pid, ranges))
      DVS_TRY(push(std::move(body)));
    return {};
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
  Status push(const MemoryFrame& frame) { return push(encode_memory(migration_, frame)); }
  Status push(std::string body) {
    std::unique_lock lock(mutex_);
    const auto has_room = [&] { return closed_ || bytes_ < kMostQueued; };
    waited_ |= !has_room() || (limited_ && Pacer::Clock::now() < pacer_.next());
    room_.wait(lock, has_room);
    if (limited_) {
      room_.wait_until(lock, pacer_.next(), [&] { return closed_; });
      pacer_.sent(body.size());
    }
    if (closed_) return Error(Code::kUnavailable, "the copying was given up");
    bytes_ += body.size();
    const bool first = bodies_.empty();
    bodies_.push_back(std::move(body));
    lock.unlock();
    if (first) filled_();
    return {};
  }

  const std::string migration_;
  // The worker's.
  Pacer pacer_;
  Packer packer_;
  bool waited_ = false;
  const std::function<void()> filled_;
  bool limited_ = false;
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

MemorySource::MemorySource(Executor& executor, std::string migration, uint64_t bandwidth,
                           Packer packer, mover::Injector injector, Link link)
    : executor_(executor),
      link_(std::move(link)),
      queue_(std::make_shared<Queue>(
          std::move(migration), bandwidth, packer,
          [this] {
            boost::asio::post(executor_, unless_gone(std::weak_ptr(queue_), [this] { pump(); }));
          })),
      copier_(*queue_, std::move(injector)) {}

MemorySource::~MemorySource() {
  queue_->close();
  if (worker_.joinable()) worker_.join();
}

void MemorySource::round(std::vector<mover::ProcessId> processes, Done<mover::Round> done) {
  start(
      true,
      [this, processes = std::move(processes)](mover::Copier& copier) {
        auto round = copier.round(processes);
        notes_.clear();
        for (const mover::ProcessId& each : processes) {
          auto notes = mover::MapNotes::take(each.host_pid);
          if (notes.ok()) notes_[each.host_pid] = std::move(*notes);
        }
        return round;
      },
      std::move(done));
}

void MemorySource::last(std::vector<mover::ProcessId> processes, uint64_t budget,
                        Done<mover::Round> done) {
  start(
      false,
      [processes = std::move(processes), budget](mover::Copier& copier) {
        return copier.last(processes, budget);
      },
      std::move(done));
}

void MemorySource::start(bool limited, Work work, Done<mover::Round> done) {
  done_ = std::move(done);
  sent_ = 0;
  ended_.reset();
  if (worker_.joinable()) worker_.join();
  queue_->set_limited(limited);
  worker_ = std::thread([this, limited, work = std::move(work)] {
    // While processes run, they and the event loop go first.
    if (limited) ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kPatientNice);
    auto round = work(copier_);
    boost::asio::post(
        executor_, unless_gone(std::weak_ptr(queue_), [this, round = std::move(round)]() mutable {
          ended_ = std::move(round);
          finish_if_done();
        }));
  });
}

void MemorySource::give_up() {
  queue_->close();
  if (ended_ && ended_->ok()) ended_ = Error(Code::kUnavailable, "the copying was given up");
  boost::asio::post(executor_, unless_gone(std::weak_ptr(queue_), [this] { finish_if_done(); }));
}

// Not more often than it is posted: the queue may be filled as quickly as it is emptied.
void MemorySource::pump_soon() {
  if (std::exchange(pumping_, true)) return;
  boost::asio::post(executor_, unless_gone(std::weak_ptr(queue_), [this] {
                      pumping_ = false;
                      pump();
                    }));
}

void MemorySource::pump() {
  for (size_t bytes = 0; !link_.congested();) {
    if (bytes >= kMostAtOnce) return pump_soon();
    const auto body = queue_->take();
    if (!body) break;
    bytes += body->size();
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
