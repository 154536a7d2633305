// Operations between nodes, one at a time: each kind, each direction, and each fault at every
// single point where it can strike. (Random mixtures of all of it: explore/explorer_test.cc.)
#include "proxy/remote_ops.h"

#include <gtest/gtest.h>

#include <cstring>

#include "proxy/explore/world.h"

namespace dvs::explore {
namespace {

using dvk::Caller;
using dvk::Deadline;
using dvk::RxMode;

constexpr int kServer = 1;
constexpr int kClient = _ENDPOINT(1, 70);
constexpr int kThird = _ENDPOINT(1, 71);
constexpr int kRequests = 3;

Deadline never() { return Deadline::never(); }

// A server that adds one and remembers what it saw, and a client that asks for it, then sends, then
// notifies.
struct Conversation {
  Conversation(World& w, NodeId client_node, NodeId server_node)
      : world(w),
        client(w.add_process(client_node, {kClient})),
        server(w.add_process(server_node, {kServer})) {
    world.run_in(server, kServer, [this] { serve(); });
    world.run_in(client, kClient, [this] { ask(); });
  }

  void serve() {
    for (;;) {
      message m{};
      const int rc = world.call(
          server, kServer, [&](Caller& c) { return c.receive(ANY, m, never(), RxMode::kAny); });
      if (rc != OK) return;
      seen.push_back(m.m_type);
      if (m.m_type >= 100) continue;
      m.m_type += 1;
      answers.push_back(world.call(server, kServer, [&](Caller& c) {
        return by_send ? c.send(kClient, m, never()) : c.reply(kClient, m, never());
      }));
    }
  }

  void ask() {
    for (int i = 0; i < kRequests; ++i) {
      message m{};
      m.m_type = i * 10;
      results.push_back(
          world.call(client, kClient, [&](Caller& c) { return c.sendrec(kServer, m, never()); }));
      got.push_back(m.m_type);
    }
    message m{};
    m.m_type = 100;
    results.push_back(
        world.call(client, kClient, [&](Caller& c) { return c.send(kServer, m, never()); }));
    results.push_back(world.call(client, kClient,
                                 [&](Caller& c) { return c.notify(SELF, kServer, 7, never()); }));
    over = true;
  }

  // `repeated`: the notification may have come twice (a dvsd was killed while recording it).
  void expect_perfect(bool repeated = false) {
    EXPECT_TRUE(over) << "the client waits for ever" << world.describe_state();
    EXPECT_EQ(results, std::vector<int>(kRequests + 2, OK));
    EXPECT_EQ(got, (std::vector<int>{1, 11, 21}));
    EXPECT_EQ(answers, std::vector<int>(kRequests, OK));
    const int notified = NOTIFY_FROM(70);
    if (repeated && seen.size() == 6 && seen.back() == notified) seen.pop_back();
    EXPECT_EQ(seen, (std::vector<int>{0, 10, 20, 100, notified}));
    EXPECT_EQ(world.failure(), "");
  }

  World& world;
  Process& client;
  Process& server;
  bool by_send = false;
  bool over = false;
  std::vector<int> seen, answers, results, got;
};

Options quiet() {
  Options options;
  options.copy_chunk = 4096;
  return options;
}

TEST(RemoteOpsTest, RequestsMessagesAndNotifications) {
  World world(quiet());
  Conversation conversation(world, 0, 1);
  EXPECT_TRUE(world.run());
  conversation.expect_perfect();
}

TEST(RemoteOpsTest, AnAnswerMayBeSent) {
  World world(quiet());
  Conversation conversation(world, 0, 1);
  conversation.by_send = true;
  EXPECT_TRUE(world.run());
  conversation.expect_perfect();
}

TEST(RemoteOpsTest, TheLinkIsLostWithAnyFrame) {
  for (uint64_t lost = 1;; ++lost) {
    SCOPED_TRACE("lost with frame " + std::to_string(lost));
    World world(quiet());
    Conversation conversation(world, 0, 1);
    world.on_frame = [&](uint64_t frame) {
      if (frame == lost) world.drop_link(0, 1);
    };
    EXPECT_TRUE(world.run());
    conversation.expect_perfect();
    if (HasFailure()) return;
    if (world.frames() < lost) {
      EXPECT_GT(lost, 10u);
      return;
    }
  }
}

TEST(RemoteOpsTest, TheLinkIsLostWithAnyTwoFrames) {
  for (uint64_t first = 1; first <= 10; ++first) {
    for (uint64_t second = first + 1; second <= 14; ++second) {
      SCOPED_TRACE("lost with frames " + std::to_string(first) + ", " + std::to_string(second));
      World world(quiet());
      Conversation conversation(world, 0, 1);
      world.on_frame = [&](uint64_t frame) {
        if (frame == first || frame == second) world.drop_link(0, 1);
      };
      EXPECT_TRUE(world.run());
      conversation.expect_perfect();
      if (HasFailure()) return;
    }
  }
}

class DvsdKilledTest : public testing::TestWithParam<NodeId> {};

TEST_P(DvsdKilledTest, AtAnyAccessToSharedMemory) {
  uint64_t accesses = 1;
  for (uint64_t at = 0; at < accesses; ++at) {
    SCOPED_TRACE("killed at access " + std::to_string(at));
    World world(quiet());
    Conversation conversation(world, 0, 1);
    world.dvsd_dies_at = [&](NodeId node, uint64_t access) {
      if (node != GetParam()) return false;
      accesses = std::max(accesses, access);
      return access == at;
    };
    EXPECT_TRUE(world.run());
    conversation.expect_perfect(true);
    if (HasFailure()) return;
  }
  EXPECT_GT(accesses, 500u);
}

INSTANTIATE_TEST_SUITE_P(OfClientAndServer, DvsdKilledTest, testing::Values(0, 1));

// A migration begins at any access to shared memory that the client or the server makes.
struct Move {
  const char* name;
  NodeId client;
  NodeId server;
  bool of_server;
  NodeId target;
};
void PrintTo(const Move& move, std::ostream* out) { *out << move.name; }

class MoveTest : public testing::TestWithParam<Move> {};

TEST_P(MoveTest, AtAnyAccessToSharedMemory) {
  const Move& move = GetParam();
  for (uint64_t at = 0;; ++at) {
    SCOPED_TRACE("moved at access " + std::to_string(at));
    World world(quiet());
    Conversation conversation(world, move.client, move.server);
    Process& moved = move.of_server ? conversation.server : conversation.client;
    bool begun = false;
    uint64_t accesses = 0;
    world.process_dies_at = [&](const Process&, uint64_t) {
      if (accesses++ == at) {
        begun = true;
        world.start_migration(moved, move.target);
      }
      return false;
    };
    EXPECT_TRUE(world.run());
    conversation.expect_perfect();
    if (HasFailure()) return;
    if (!begun) {
      EXPECT_GT(at, 100u);
      return;
    }
    EXPECT_EQ(moved.node, move.target);
  }
}

INSTANTIATE_TEST_SUITE_P(All, MoveTest,
                         testing::Values(Move{"ServerToTheClient", 0, 1, true, 0},
                                         Move{"ServerAwayFromTheClient", 0, 0, true, 1},
                                         Move{"ServerToAThirdNode", 0, 1, true, 2},
                                         Move{"ClientToTheServer", 0, 1, false, 1},
                                         Move{"ClientAwayFromTheServer", 0, 0, false, 1},
                                         Move{"ClientToAThirdNode", 0, 1, false, 2}),
                         [](const auto& param) { return param.param.name; });

class DvsdKilledWhileMovingTest : public testing::TestWithParam<NodeId> {};

// The server moves from node 1 to node 2 while its client on node 0 has a request there.
TEST_P(DvsdKilledWhileMovingTest, AtAnyAccessToSharedMemory) {
  uint64_t accesses = 1;
  for (uint64_t at = 0; at < accesses; ++at) {
    SCOPED_TRACE("killed at access " + std::to_string(at));
    World world(quiet());
    Conversation conversation(world, 0, 1);
    world.on_frame = [&](uint64_t frame) {
      if (frame == 3) world.start_migration(conversation.server, 2);
    };
    world.dvsd_dies_at = [&](NodeId node, uint64_t access) {
      if (node != GetParam()) return false;
      accesses = std::max(accesses, access);
      return access == at;
    };
    EXPECT_TRUE(world.run());
    conversation.expect_perfect(true);
    EXPECT_EQ(conversation.server.node, 2);
    if (HasFailure()) return;
  }
  EXPECT_GT(accesses, 500u);
}

INSTANTIATE_TEST_SUITE_P(OnAnyNode, DvsdKilledWhileMovingTest, testing::Values(0, 1, 2));

// ---- time-outs

TEST(RemoteOpsTest, ASendThatTimesOutIsNeverReceived) {
  World world(quiet());
  Process& client = world.add_process(0, {kClient});
  Process& server = world.add_process(1, {kServer});
  int rc = 0;
  world.run_in(client, kClient, [&] {
    message m{};
    rc = world.call(client, kClient,
                    [&](Caller& c) { return c.send(kServer, m, Deadline::after_ms(50)); });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(rc, EDVSTIMEDOUT);
  int received = 0;
  world.run_in(server, kServer, [&] {
    message m{};
    received = world.call(server, kServer, [&](Caller& c) {
      return c.receive(ANY, m, Deadline::after_ms(1000), RxMode::kAny);
    });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(received, EDVSTIMEDOUT);
}

TEST(RemoteOpsTest, ASendThatWasTakenBeforeItsTimeOutSaysSo) {
  World world(quiet());
  Process& client = world.add_process(0, {kClient});
  Process& server = world.add_process(1, {kServer});
  // The acknowledgement is lost, the link comes back only when nobody can go on but by time-out.
  world.on_frame = [&](uint64_t frame) {
    if (frame == 2) world.drop_link(0, 1);
  };
  int rc = 1;
  int received = 1;
  world.run_in(server, kServer, [&] {
    message m{};
    received = world.call(server, kServer,
                          [&](Caller& c) { return c.receive(ANY, m, never(), RxMode::kAny); });
  });
  world.run_in(client, kClient, [&] {
    message m{};
    rc = world.call(client, kClient,
                    [&](Caller& c) { return c.send(kServer, m, Deadline::after_ms(50)); });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(received, OK);
  EXPECT_EQ(rc, OK);
}

TEST(RemoteOpsTest, AClientThatGaveUpGetsNoAnswer) {
  World world(quiet());
  Process& client = world.add_process(0, {kClient});
  Process& server = world.add_process(1, {kServer});
  int asked = 1;
  int replied = 1;
  message m{};
  world.run_in(client, kClient, [&] {
    message request{};
    asked = world.call(client, kClient, [&](Caller& c) {
      return c.sendrec(kServer, request, Deadline::after_ms(50));
    });
  });
  world.run_in(server, kServer, [&] {
    world.call(server, kServer,
               [&](Caller& c) { return c.receive(ANY, m, never(), RxMode::kAny); });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(asked, EDVSTIMEDOUT);
  world.run_in(server, kServer, [&] {
    replied = world.call(server, kServer, [&](Caller& c) { return c.reply(kClient, m, never()); });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(replied, EDVSPROCSTS);
}

// ---- ends

class DeathTest : public testing::TestWithParam<bool> {};

// Whoever is left gets an error, or what it asked for, and never waits for ever.
TEST_P(DeathTest, OfOnePartyAtAnyAccessToSharedMemory) {
  for (uint64_t at = 0;; ++at) {
    SCOPED_TRACE("killed at access " + std::to_string(at));
    World world(quiet());
    Conversation conversation(world, 0, 1);
    const Process& victim = GetParam() ? conversation.server : conversation.client;
    world.process_dies_at = [&](const Process& process, uint64_t access) {
      return &process == &victim && access == at;
    };
    EXPECT_TRUE(world.run());
    EXPECT_EQ(world.failure(), "");
    if (GetParam()) {
      EXPECT_TRUE(conversation.over) << world.describe_state();
    }
    for (size_t i = 1; i < conversation.seen.size(); ++i) {
      EXPECT_GT(conversation.seen[i], conversation.seen[i - 1]);
    }
    EXPECT_EQ(world.stuck_outside_receive(), "");
    if (HasFailure()) return;
    if (victim.alive) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, DeathTest, testing::Bool(),
                         [](const auto& param) { return param.param ? "Server" : "Client"; });

TEST(RemoteOpsTest, AnUnboundServersClientsAreTold) {
  World world(quiet());
  Process& client = world.add_process(0, {kClient});
  Process& third = world.add_process(2, {kThird});
  Process& server = world.add_process(1, {kServer});
  int taken = 1;
  int posted = 1;
  int served = 1;
  world.run_in(server, kServer, [&] {
    message m{};
    served = world.call(server, kServer,
                        [&](Caller& c) { return c.receive(ANY, m, never(), RxMode::kAny); });
  });
  world.run_in(client, kClient, [&] {
    message m{};
    taken = world.call(client, kClient, [&](Caller& c) { return c.sendrec(kServer, m, never()); });
  });
  ASSERT_TRUE(world.run());
  EXPECT_EQ(served, OK);
  world.run_in(third, kThird, [&] {
    message m{};
    posted = world.call(third, kThird, [&](Caller& c) { return c.send(kServer, m, never()); });
  });
  ASSERT_TRUE(world.run());
  world.unbind(world.slot(kServer));
  ASSERT_TRUE(world.run());
  // Its own node may hear of it before the server's node says that the request had been taken.
  EXPECT_TRUE(taken == EDVSSRCDIED || taken == EDVSDSTDIED) << taken;
  EXPECT_EQ(posted, EDVSDSTDIED);
}

TEST(RemoteOpsTest, WhenANodeIsLostItsPeersAreTold) {
  for (uint64_t lost = 1; lost < 12; ++lost) {
    SCOPED_TRACE("lost with frame " + std::to_string(lost));
    World world(quiet());
    Conversation conversation(world, 0, 1);
    world.on_frame = [&](uint64_t frame) {
      if (frame == lost) world.lose_node(1);
    };
    EXPECT_TRUE(world.run());
    EXPECT_TRUE(conversation.over) << world.describe_state();
    EXPECT_NE(conversation.results.back(), OK);
  }
}

// ---- copies

struct Copying {
  const char* name;
  NodeId source, target;  // the requester is on node 0, and may be a party itself
  bool source_is_self, target_is_self;
};
void PrintTo(const Copying& copying, std::ostream* out) { *out << copying.name; }

class CopyTest : public testing::TestWithParam<Copying> {
 protected:
  static constexpr size_t kBytes = 10'000;  // more than two windows

  // The parties wait for an answer of somebody who never gives one.
  void wait(World& world, Process& process, int endpoint) {
    world.run_in(process, endpoint, [&world, &process, endpoint] {
      message m{};
      world.call(process, endpoint,
                 [&](Caller& c) { return c.receive(ANY, m, never(), RxMode::kAny); });
    });
  }

  void copy_once(const std::function<void(World&)>& disturb, uint64_t& frames) {
    const Copying& param = GetParam();
    World world(quiet());
    Process& requester = world.add_process(0, {kServer});
    Process& source = world.add_process(param.source, {kClient});
    Process& target = world.add_process(param.target, {kThird});
    wait(world, source, kClient);
    wait(world, target, kThird);
    ASSERT_TRUE(world.run());
    std::string from(kBytes, 'x');
    for (size_t i = 0; i < kBytes; ++i) from[i] = static_cast<char>(i * 13 / 7);
    std::string to(kBytes + 1, '#');
    int rc = 1;
    world.run_in(requester, kServer, [&] {
      rc = world.call(requester, kServer, [&](Caller& c) {
        return c.vcopy(param.source_is_self ? SELF : kClient, from.data(),
                       param.target_is_self ? SELF : kThird, to.data(), kBytes, never());
      });
      // What is written from now on would be seen.
      std::fill(from.begin(), from.end(), '-');
    });
    const std::string expected = from + "#";
    disturb(world);
    ASSERT_TRUE(world.run()) << world.failure();
    EXPECT_EQ(rc, OK);
    EXPECT_TRUE(to == expected);
    frames = world.frames();
  }
};

TEST_P(CopyTest, MovesEveryByte) {
  uint64_t frames = 0;
  copy_once([](World&) {}, frames);
}

TEST_P(CopyTest, WithTheLinksLostWithAnyFrame) {
  uint64_t frames = 1;
  for (uint64_t lost = 1; lost <= frames && !HasFailure(); ++lost) {
    SCOPED_TRACE("lost with frame " + std::to_string(lost));
    copy_once(
        [lost](World& world) {
          world.on_frame = [&world, lost](uint64_t frame) {
            if (frame != lost) return;
            world.drop_link(0, 1);
            world.drop_link(0, 2);
          };
        },
        frames);
  }
}

TEST_P(CopyTest, WithAnyPartyMovedAtAnyFrame) {
  for (int who : {kServer, kClient, kThird}) {
    for (uint64_t at = 1; at <= 8 && !HasFailure(); ++at) {
      SCOPED_TRACE(std::to_string(who) + " moved at frame " + std::to_string(at));
      uint64_t frames = 0;
      copy_once(
          [who, at](World& world) {
            world.on_frame = [&world, who, at](uint64_t frame) {
              Process& process = *world.process_of(world.slot(who));
              if (frame == at) world.start_migration(process, (process.node + 1) % 3);
            };
          },
          frames);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CopyTest,
                         testing::Values(Copying{"FromHereToAnotherNode", 1, 1, true, false},
                                         Copying{"FromAnotherNodeToHere", 1, 1, false, true},
                                         Copying{"OnOneOtherNode", 1, 1, false, false},
                                         Copying{"BetweenTwoOtherNodes", 1, 2, false, false}),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace dvs::explore
