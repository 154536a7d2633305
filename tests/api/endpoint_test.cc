// dvk::Endpoint: binding, and messages as they are. Time-outs.
#include <gtest/gtest.h>
#include <unistd.h>

#include <dvk/dvk.hpp>
#include <latch>
#include <thread>

#include "support/one_node.h"

namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using dvk::Deadline;
using dvs::testing::OneNode;

struct Sum {
  int a, b;
};
static_assert(dvk::Payload<Sum>);
static_assert(!dvk::Payload<char[57]>);
static_assert(!std::is_copy_constructible_v<dvk::Endpoint>);

TEST(Endpoint, IsBoundWhileTheObjectLives) {
  OneNode& node = OneNode::instance();
  {
    auto self = dvk::Endpoint::create(11);
    ASSERT_TRUE(self) << self.error_name();
    EXPECT_EQ(self->number(), 11);
    EXPECT_TRUE(node.is_bound(11));
    const dvk::Endpoint moved = std::move(*self);
    EXPECT_EQ(moved.number(), 11);
  }
  EXPECT_FALSE(node.is_bound(11));
  {
    auto self = dvk::Endpoint::create(11);
    ASSERT_TRUE(self) << self.error_name();
    self->release();
  }
  EXPECT_TRUE(node.is_bound(11)) << "released: it stays";
  node.unbind(11);
}

TEST(Endpoint, TheErrorsOfBindingAreTold) {
  EXPECT_EQ(dvk::Endpoint::create(1'000'000).error(), EDVSENDPOINT);
  OneNode::instance().bind(12, 1);
  EXPECT_EQ(dvk::Endpoint::create(12).error(), EDVSSLOTUSED);
  OneNode::instance().unbind(12);
  EXPECT_EQ(dvk::Endpoint::given(1ms).error(), EDVSTIMEDOUT);
  EXPECT_EQ(dvk::Endpoint::given(dvk::kNoWait).error(), EDVSAGAIN);
}

TEST(Endpoint, ThreadsHaveTheirOwn) {
  std::latch bound(2);
  std::thread server([&] {
    auto self = dvk::Endpoint::create_for_thread(21);
    ASSERT_TRUE(self) << self.error_name();
    bound.arrive_and_wait();
    const auto request = self->receive_request(5s);
    ASSERT_TRUE(request) << request.error_name();
    EXPECT_EQ(request->m_source, 22);
    const auto sum = dvk::payload<Sum>(*request);
    EXPECT_TRUE(self->reply(22, dvk::typed(2, sum.a + sum.b)));
  });
  std::thread client([&] {
    auto self = dvk::Endpoint::create_for_thread(22);
    ASSERT_TRUE(self) << self.error_name();
    bound.arrive_and_wait();
    const auto answer = self->sendrec(21, dvk::typed(1, Sum{40, 2}), 5s);
    ASSERT_TRUE(answer) << answer.error_name();
    EXPECT_EQ(answer->m_type, 2);
    EXPECT_EQ(dvk::payload<int>(*answer), 42);
  });
  server.join();
  client.join();
  EXPECT_FALSE(OneNode::instance().is_bound(21));
}

// Who may do what is for permission records to say, not for the system's users.
TEST(Endpoint, NeedsNoPrivileges) {
  OneNode& node = OneNode::instance();
  auto self = dvk::Endpoint::create(21);
  ASSERT_TRUE(self) << self.error_name();
  auto ask = [] {
    constexpr uid_t kNobody = 65534;
    if (::geteuid() == 0 && ::setresuid(kNobody, kNobody, kNobody) != 0) return 10;
    auto mine = dvk::Endpoint::create(22);
    if (!mine) return 11;
    if (!mine->sendrec(21, dvk::typed(1, 20), 5s)) return 12;
    return mine->notify(21) ? 0 : 13;
  };
  const pid_t asker = node.start(ask);
  const auto request = self->receive(ANY, 5s);
  ASSERT_TRUE(request) << request.error_name();
  EXPECT_TRUE(self->reply(22, dvk::typed(2, 23)));
  EXPECT_EQ(node.finish(asker), 0);
}

TEST(Endpoint, ADeadlineIsATimeOrADuration) {
  auto self = dvk::Endpoint::create(11);
  ASSERT_TRUE(self) << self.error_name();
  EXPECT_EQ(self->receive(ANY, dvk::kNoWait).error(), EDVSAGAIN);
  EXPECT_EQ(self->receive(ANY, 0ms).error(), EDVSAGAIN);
  EXPECT_EQ(self->receive(ANY, -5s).error(), EDVSAGAIN);
  const auto began = Clock::now();
  EXPECT_EQ(self->receive(ANY, began + 20ms).error(), EDVSTIMEDOUT);
  EXPECT_GE(Clock::now() - began, 20ms);
  EXPECT_EQ(self->receive(ANY, began).error(), EDVSTIMEDOUT) << "it is over: not EDVSAGAIN";
  EXPECT_EQ(self->receive(ANY, 1500us).error(), EDVSTIMEDOUT);
  EXPECT_EQ(self->send(13, dvk::empty(1)).error(), EDVSDSTDIED);
}

TEST(Deadline, TurnsIntoMillisecondsThatAreNeverTooShort) {
  EXPECT_EQ(dvk::kForever.timeout_ms(), TIMEOUT_FOREVER);
  EXPECT_EQ(Deadline(std::chrono::hours::max()).timeout_ms(), TIMEOUT_FOREVER);
  EXPECT_EQ(Deadline(Clock::time_point::max()).timeout_ms(), TIMEOUT_FOREVER);
  EXPECT_EQ(dvk::kNoWait.timeout_ms(), TIMEOUT_NOWAIT);
  EXPECT_EQ(Deadline(Clock::now() - 1h).timeout_ms(), TIMEOUT_NOWAIT);
  const long month = Deadline(std::chrono::days(30)).timeout_ms();
  EXPECT_GT(month, 30L * 24 * 3600 * 1000 - 60'000);
  EXPECT_LE(month, 30L * 24 * 3600 * 1000);
  EXPECT_FALSE(Deadline(1h).passed());
  EXPECT_TRUE(Deadline(Clock::now()).passed());
}

}  // namespace
