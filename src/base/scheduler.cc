#include "base/scheduler.h"

#include <boost/asio/post.hpp>

#include "base/clock.h"

namespace dvs {

int64_t EventLoopScheduler::monotonic_ns() const { return dvs::monotonic_ns(); }
int64_t EventLoopScheduler::realtime_ns() const { return dvs::realtime_ns(); }
void EventLoopScheduler::post(Work work) { boost::asio::post(executor_, std::move(work)); }
void EventLoopScheduler::after(std::chrono::nanoseconds delay, Work work) {
  run_after(executor_, delay, std::move(work));
}

}  // namespace dvs
