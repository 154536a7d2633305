// An endpoint with much outstanding: what others want of it, and what it owes them, goes where it
// goes, once, whether its migration succeeds or not; and how many nodes there may be.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "proxy/explore/world.h"

namespace dvs::explore {
namespace {

using dvk::Caller;
using dvk::Deadline;
using dvk::RxMode;

constexpr int kServer = 1;
constexpr int kOther = 2;
constexpr int kNear = _ENDPOINT(1, 70);
constexpr int kFar = _ENDPOINT(1, 71);
constexpr int kThird = _ENDPOINT(1, 72);
constexpr int kUnknown = 1;  // the result of a call that has not returned

class BusyEndpointTest : public testing::Test {
 protected:
  // One call, and what came of it.
  struct Call {
    int rc = kUnknown;
    message m{};
  };

  static Options four_nodes() {
    Options options;
    options.nodes = 4;
    return options;
  }

  Call& call(Process& process, int endpoint, const std::function<int(Caller&, message&)>& body) {
    Call& made = calls_.emplace_back();
    world_.run_in(process, endpoint, [this, &process, endpoint, &made, body] {
      made.rc =
          world_.call(process, endpoint, [&](Caller& caller) { return body(caller, made.m); });
    });
    return made;
  }
  Call& send(Process& process, int from, int to, int type) {
    return call(process, from, [to, type](Caller& c, message& m) {
      m.m_type = type;
      return c.send(to, m, Deadline::never());
    });
  }
  Call& sendrec(Process& process, int from, int to, int type) {
    return call(process, from, [to, type](Caller& c, message& m) {
      m.m_type = type;
      return c.sendrec(to, m, Deadline::never());
    });
  }
  Call& notify(Process& process, int from, int to, long value) {
    return call(process, from, [to, value](Caller& c, message&) {
      return c.notify(SELF, to, value, Deadline::never());
    });
  }
  // What the server is given at once.
  Call receive(int from = ANY, RxMode mode = RxMode::kAny) {
    Call& made = call(server_, kServer, [from, mode](Caller& c, message& m) {
      return c.receive(from, m, Deadline::at_ns(0), mode);
    });
    EXPECT_TRUE(world_.run());
    return made;
  }
  int reply(int to, int type) {
    const Call& made = call(server_, kServer, [to, type](Caller& c, message& m) {
      m.m_type = type;
      return c.reply(to, m, Deadline::never());
    });
    EXPECT_TRUE(world_.run());
    return made.rc;
  }
  // `meanwhile` while the gates are closed.
  void move_server(
      NodeId target, bool commit, const std::function<void()>& meanwhile = [] {}) {
    Migration* migration = world_.start_migration(server_, target);
    ASSERT_TRUE(world_.run_until([&] { return migration->gate_closed; }));
    meanwhile();
    ASSERT_TRUE(world_.run_until([&] { return !migration->capsule.empty(); }));
    world_.decide(*migration, commit);
    ASSERT_TRUE(world_.run());
    EXPECT_EQ(server_.node == target, commit);
  }

  World world_{four_nodes()};
  Process& server_ = world_.add_process(1, {kServer});
  Process& other_ = world_.add_process(3, {kOther});
  Process& near_ = world_.add_process(1, {kNear});
  Process& far_ = world_.add_process(0, {kFar});
  Process& third_ = world_.add_process(2, {kThird});
  std::deque<Call> calls_;
};

class QueuedTest : public BusyEndpointTest, public testing::WithParamInterface<bool> {};

TEST_P(QueuedTest, SendersAreServedWhereItIs) {
  const Call& sent = send(near_, kNear, kServer, 10);
  const Call& sent_far = send(far_, kFar, kServer, 11);
  const Call& asked = sendrec(third_, kThird, kServer, 12);
  ASSERT_TRUE(world_.run());
  move_server(2, GetParam());
  for (const Call* each : {&sent, &sent_far, &asked}) {
    EXPECT_EQ(each->rc, kUnknown) << "it was told of a delivery, or of the migration";
  }
  std::vector<int> taken;
  for (int i = 0; i < 3; ++i) taken.push_back(receive().m.m_type);
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(taken, (std::vector<int>{10, 11, 12}));
  EXPECT_EQ(receive().rc, EDVSAGAIN) << "one came twice";
  EXPECT_EQ(sent.rc, OK);
  EXPECT_EQ(sent_far.rc, OK);
  EXPECT_EQ(asked.rc, kUnknown);
  EXPECT_EQ(reply(kThird, 13), OK);
  EXPECT_EQ(asked.rc, OK);
  EXPECT_EQ(asked.m.m_type, 13);
}

TEST_P(QueuedTest, WhoComesMeanwhileWaitsForTheOutcome) {
  std::vector<Call*> sent;
  move_server(2, GetParam(), [&] {
    sent = {&send(near_, kNear, kServer, 20), &send(far_, kFar, kServer, 21),
            &send(third_, kThird, kServer, 22)};
  });
  for (int i = 0; i < 3; ++i) EXPECT_EQ(receive().rc, OK);
  for (const Call* each : sent) EXPECT_EQ(each->rc, OK);
}

TEST_P(QueuedTest, NotificationsAreKeptAndForwarded) {
  const Call& before = notify(near_, kNear, kServer, 70);
  const Call& before_far = notify(far_, kFar, kServer, 71);
  ASSERT_TRUE(world_.run());
  EXPECT_EQ(before.rc, OK);
  EXPECT_EQ(before_far.rc, OK);
  const Call* during = nullptr;
  move_server(2, GetParam(), [&] { during = &notify(third_, kThird, kServer, 72); });
  EXPECT_EQ(during->rc, OK);
  for (const int source : {kNear, kFar, kThird}) {
    const Call got = receive(source);
    EXPECT_EQ(got.rc, OK);
    EXPECT_EQ(got.m.m_type, NOTIFY_FROM(_ENDPOINT_P(source)));
    EXPECT_EQ(got.m.m9_l1, _ENDPOINT_P(source));
  }
  EXPECT_EQ(receive().rc, EDVSAGAIN);
}

INSTANTIATE_TEST_SUITE_P(All, QueuedTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Commit" : "Rollback"; });

class OwedTest : public BusyEndpointTest, public testing::WithParamInterface<RxMode> {};

// However it took them, whoever queues meanwhile: they neither keep it from moving nor stay behind.
TEST_P(OwedTest, AnswersAreGivenAfterAMove) {
  const Call& near = sendrec(near_, kNear, kServer, 1);
  const Call& far = sendrec(far_, kFar, kServer, 1);
  ASSERT_TRUE(world_.run());
  EXPECT_EQ(receive(ANY, GetParam()).rc, OK);
  EXPECT_EQ(receive(ANY, GetParam()).rc, OK);
  const Call& queued = sendrec(third_, kThird, kServer, 1);
  ASSERT_TRUE(world_.run());
  move_server(2, true);
  EXPECT_EQ(reply(kNear, 30), OK);
  move_server(0, true);  // between two answers
  EXPECT_EQ(reply(kFar, 31), OK);
  EXPECT_EQ(reply(kFar, 31), EDVSPROCSTS) << "twice";
  EXPECT_EQ(near.m.m_type, 30);
  EXPECT_EQ(far.m.m_type, 31);
  EXPECT_EQ(queued.rc, kUnknown);
  EXPECT_EQ(receive(ANY, GetParam()).rc, OK);
  move_server(1, true);
  EXPECT_EQ(reply(kThird, 32), OK);
  EXPECT_EQ(queued.m.m_type, 32);
}

INSTANTIATE_TEST_SUITE_P(All, OwedTest, testing::Values(RxMode::kAny, RxMode::kRequest),
                         [](const auto& param) {
                           return param.param == RxMode::kAny ? "ByReceive" : "ByRcvrqst";
                         });

// A request of its own to another node, while it owes answers to three.
TEST_F(BusyEndpointTest, ManyOperationsBetweenNodesAtOnce) {
  const Call& near = sendrec(near_, kNear, kServer, 1);
  const Call& far = sendrec(far_, kFar, kServer, 1);
  const Call& third = sendrec(third_, kThird, kServer, 1);
  ASSERT_TRUE(world_.run());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(receive().rc, OK);
  const Call& own = sendrec(server_, kServer, kOther, 5);
  const Call& notified = notify(other_, kOther, kServer, 1);
  ASSERT_TRUE(world_.run());
  EXPECT_EQ(notified.rc, OK);
  EXPECT_EQ(own.rc, kUnknown);
  call(other_, kOther, [](Caller& c, message& m) {
    if (int rc = c.receive(kServer, m, Deadline::never(), RxMode::kRequest); rc != OK) return rc;
    return c.reply(kServer, m, Deadline::never());
  });
  ASSERT_TRUE(world_.run());
  EXPECT_EQ(own.rc, OK);
  for (const int client : {kThird, kNear, kFar}) EXPECT_EQ(reply(client, client), OK);
  EXPECT_EQ(near.m.m_type, kNear);
  EXPECT_EQ(far.m.m_type, kFar);
  EXPECT_EQ(third.m.m_type, kThird);
}

// What cannot be delivered is an error of its sender's, not of the link.
TEST_F(BusyEndpointTest, AMessageForOneWhoHasGoneCostsNoLink) {
  const Call& queued = send(far_, kFar, kServer, 1);
  ASSERT_TRUE(world_.run());
  world_.kill(server_);
  const Call& late = send(third_, kThird, kServer, 2);
  const Call& healthy = notify(near_, kNear, kOther, 3);
  ASSERT_TRUE(world_.run());
  EXPECT_EQ(queued.rc, EDVSDSTDIED);
  EXPECT_EQ(late.rc, EDVSDSTDIED);
  EXPECT_EQ(healthy.rc, OK);
  EXPECT_FALSE(world_.disturbed());
  EXPECT_TRUE(world_.link_is_up(0, 1));
  EXPECT_TRUE(world_.link_is_up(2, 1));
}

TEST_F(BusyEndpointTest, CountersGoAlong) {
  for (int i = 0; i < 2; ++i) {
    notify(server_, kServer, kNear, i);
    ASSERT_TRUE(world_.run());
  }
  notify(server_, kServer, kFar, 2);
  ASSERT_TRUE(world_.run());
  move_server(2, true);
  notify(server_, kServer, kThird, 3);
  ASSERT_TRUE(world_.run());
  const dvk::Descriptor& d = world_.region(2).at(world_.slot(kServer));
  EXPECT_EQ(d.local_sent.load(), 3u);
  EXPECT_EQ(d.remote_sent.load(), 1u);
}

TEST(ManyNodesTest, MoreThanAWordHasBits) {
  constexpr uint32_t kNodes = 70;
  Options options;
  options.nodes = kNodes;
  World world(options);
  Process& server = world.add_process(kNodes - 1, {kServer});
  int served = 0;
  world.run_in(server, kServer, [&] {
    for (;;) {
      message m{};
      const int rc = world.call(server, kServer, [&](Caller& c) {
        if (int failed = c.receive(ANY, m, Deadline::never(), RxMode::kAny)) return failed;
        return c.reply(m.m_source, m, Deadline::never());
      });
      if (rc != OK) return;
      ++served;
    }
  });
  std::vector<int> results(kNodes, kUnknown);
  for (uint32_t node = 0; node < kNodes; ++node) {
    const int endpoint = 10 + static_cast<int>(node);
    Process& client = world.add_process(static_cast<NodeId>(node), {endpoint});
    world.run_in(client, endpoint, [&world, &client, &results, node, endpoint] {
      message m{};
      results[node] = world.call(
          client, endpoint, [&](Caller& c) { return c.sendrec(kServer, m, Deadline::never()); });
    });
  }
  world.start_migration(server, 40);
  ASSERT_TRUE(world.run());
  EXPECT_EQ(results, std::vector<int>(kNodes, OK));
  EXPECT_EQ(served, static_cast<int>(kNodes));
  EXPECT_EQ(server.node, 40);
}

}  // namespace
}  // namespace dvs::explore
