// Links between nodes that behave.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "proxy/link_testing.h"

namespace dvs::link_testing {
namespace {

TEST_F(LinkTest, TenThousandFramesEachWayArriveInOrder) {
  open_pair();
  constexpr size_t kFrames = 10'000;
  const auto body = [](size_t i) {
    return std::to_string(i) + ":" + std::string(i * 37 % 1000, static_cast<char>(i));
  };
  for (size_t i = 0; i < kFrames; ++i) {
    ASSERT_TRUE(low.send(2, body(i)));
    ASSERT_TRUE(high.send(1, body(i)));
    if (i % 100 == 0) executor.poll();
  }
  ASSERT_TRUE(run_until(
      executor, [&] { return low.frames.size() == kFrames && high.frames.size() == kFrames; }))
      << low.frames.size() << " and " << high.frames.size();
  for (size_t i = 0; i < kFrames; ++i) {
    ASSERT_EQ(low.frames[i].body.view(), body(i));
    ASSERT_EQ(high.frames[i].body.view(), body(i));
    ASSERT_EQ(low.frames[i].type, FrameType::kOperation);
  }
}

TEST_F(LinkTest, TheLargestFrameAndAnEmptyOneArrive) {
  open_pair();
  const std::string large(wire::kMaxBody, 'L');
  ASSERT_TRUE(low.links->send(2, FrameType::kImage, large));
  ASSERT_TRUE(low.links->send(2, FrameType::kControl, ""));
  ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() == 2; }));
  EXPECT_TRUE(high.frames[0].body.view() == large);
  EXPECT_EQ(high.frames[1].type, FrameType::kControl);
  EXPECT_EQ(high.frames[1].body.view(), "");
}

TEST_F(LinkTest, AFrameSentAtOnceOnComingUpArrives) {
  high.on_up = [&](NodeId peer) { EXPECT_TRUE(high.send(peer, std::string(100'000, 'h'))); };
  low.on_up = [&](NodeId peer) { EXPECT_TRUE(low.send(peer, std::string(100'000, 'l'))); };
  open_pair();
  EXPECT_TRUE(run_until(executor, [&] { return !low.frames.empty() && !high.frames.empty(); }));
}

TEST_F(LinkTest, SendOnAnIdleLinkNeedsNoTurnOfTheEventLoop) {
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return peer.count(FrameType::kHello) == 1; }));
  executor.poll();
  ASSERT_TRUE(high.send(1, "now"));
  EXPECT_EQ(peer.count(FrameType::kOperation), 1u);
}

TEST_F(LinkTest, NothingIsSentWhileALinkIsDown) {
  low.open();
  EXPECT_FALSE(low.send(2, "x"));
  low.links->expect(2, "n2", loopback(), 1);
  EXPECT_FALSE(low.links->is_up(2));
  EXPECT_FALSE(low.send(2, "x"));
  EXPECT_FALSE(low.links->congested(2));
}

TEST_F(LinkTest, ComesBackAfterADropByEitherSide) {
  open_pair();
  for (Node* dropper : {&low, &high}) {
    Node* other = dropper == &low ? &high : &low;
    const auto downs = other->downs.size();
    dropper->links->drop(other->options.node, "cut by the test");
    EXPECT_FALSE(dropper->links->is_up(other->options.node));
    EXPECT_FALSE(dropper->send(other->options.node, "x"));
    EXPECT_EQ(dropper->downs.size(), downs) << "on_down came from inside drop()";
    ASSERT_TRUE(run_until(executor, [&] { return other->downs.size() > downs; }));
    ASSERT_TRUE(both_up());
    EXPECT_EQ(dropper->downs.back(), "cut by the test");
    ASSERT_TRUE(dropper->send(other->options.node, "again"));
    const auto frames = other->frames.size();
    ASSERT_TRUE(run_until(executor, [&] { return other->frames.size() > frames; }));
  }
  EXPECT_EQ(low.ups, 3);
  EXPECT_EQ(high.ups, 3);
}

TEST_F(LinkTest, FindsAPeerThatStartsLater) {
  high.open();
  high.close();
  low.open();
  low.links->expect(2, "n2", loopback(), high.options.listen_port);
  run_for(executor, milliseconds(50));
  EXPECT_EQ(low.ups, 0);
  high.open();
  high.links->expect(1, "n1", loopback(), low.links->port());
  EXPECT_TRUE(both_up());
}

TEST_F(LinkTest, ARestartOfAPeerIsSeenAsDownAndUp) {
  open_pair();
  for (Node* restarting : {&low, &high}) {
    Node* other = restarting == &low ? &high : &low;
    const auto downs = other->downs.size();
    const auto ups = other->ups;
    restarting->close();
    ++restarting->options.incarnation;
    restarting->open();
    restarting->links->expect(other->options.node, other->options.name, loopback(),
                              other->links->port());
    ASSERT_TRUE(run_until(executor, [&] { return other->ups > ups; }));
    ASSERT_TRUE(both_up());
    EXPECT_EQ(other->downs.size(), downs + 1);
  }
}

TEST_F(LinkTest, ASecondConnectionOfAPeerReplacesTheFirst) {
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  RawPeer first(high.links->port());
  first.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[1]; }));
  RawPeer second(high.links->port());
  second.write(hello_frame(good_hello(1, 2)) + wire::encode_frame(FrameType::kControl, "second"));
  ASSERT_TRUE(run_until(executor, [&] { return first.closed() && !high.frames.empty(); }));
  EXPECT_EQ(high.downs, std::vector<std::string>{"the peer connected anew"});
  EXPECT_EQ(high.ups, 2);
  EXPECT_FALSE(second.closed());
  EXPECT_EQ(second.count(FrameType::kHello), 1u);

  RawPeer third(high.links->port());
  Hello restarted = good_hello(1, 2);
  ++restarted.incarnation;
  third.write(hello_frame(restarted));
  ASSERT_TRUE(run_until(executor, [&] { return high.ups == 3; }));
  EXPECT_EQ(high.downs.back(), "the peer restarted");
}

TEST_F(LinkTest, NamingAnotherAddressMovesTheLink) {
  open_pair();
  Node moved(executor, 2);
  moved.open();
  moved.links->expect(1, "n1", loopback(), low.links->port());
  low.links->expect(2, "n2", loopback(), high.links->port());  // the same: nothing happens
  expect_untouched();
  low.links->expect(2, "n2", loopback(), moved.links->port());
  ASSERT_TRUE(run_until(executor, [&] { return moved.up[1] && low.up[2] && !high.up[1]; }));
  ASSERT_TRUE(low.send(2, "to the new place"));
  EXPECT_TRUE(run_until(executor, [&] { return moved.frames.size() == 1; }));
}

TEST_F(LinkTest, ForgettingClosesForGood) {
  open_pair();
  high.links->forget(1);
  EXPECT_FALSE(high.links->is_up(1));
  ASSERT_TRUE(run_until(executor, [&] { return !low.downs.empty() && !high.downs.empty(); }));
  run_for(executor, milliseconds(50));
  EXPECT_EQ(high.ups, 1) << "a forgotten node came back";
  EXPECT_EQ(high.downs, std::vector<std::string>{"forgotten"});
  high.links->expect(1, "n1", loopback(), low.links->port());
  EXPECT_TRUE(both_up());
}

TEST_F(LinkTest, ABulkTransferStopsWhenCongestedAndGoesOnWhenWritable) {
  open_pair();
  const std::string chunk(64 << 10, 'c');
  constexpr size_t kChunks = 1024;  // 64 MiB
  size_t sent = 0;
  size_t stops = 0;
  const auto send_some = [&](NodeId peer) {
    for (; sent < kChunks && !low.links->congested(peer); ++sent) {
      ASSERT_TRUE(low.links->send(peer, FrameType::kImage, std::to_string(sent) + chunk));
    }
    if (sent < kChunks) ++stops;
  };
  low.on_writable = send_some;
  send_some(2);
  EXPECT_LT(sent, kChunks / 2) << "no limit on what is queued";
  ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() == kChunks; }));
  for (size_t i = 0; i < kChunks; ++i) {
    ASSERT_TRUE(high.frames[i].body.view() == std::to_string(i) + chunk) << i;
  }
  EXPECT_GT(stops, 2u);
  EXPECT_GE(low.writables, static_cast<int>(stops));
  EXPECT_FALSE(low.links->congested(2));
}

TEST_F(LinkTest, ALinkIsFreshAfterABreakInTheMiddleOfATransfer) {
  open_pair();
  while (!low.links->congested(2)) {
    ASSERT_TRUE(low.links->send(2, FrameType::kImage, std::string(64 << 10, 'c')));
  }
  low.links->drop(2, "cut");
  EXPECT_FALSE(low.links->congested(2));
  ASSERT_TRUE(run_until(executor, [&] { return low.ups == 2 && high.up[1]; }));
  high.frames.clear();
  ASSERT_TRUE(low.send(2, "fresh"));
  ASSERT_TRUE(run_until(executor, [&] { return !high.frames.empty(); }));
  EXPECT_EQ(high.frames[0].body.view(), "fresh");
}

TEST_F(LinkTest, CallbacksMayDropSendForgetAndExpect) {
  low.on_frame = [&](NodeId peer) {
    EXPECT_TRUE(low.send(peer, "last words"));
    low.links->drop(peer, "dropped in on_frame");
    EXPECT_FALSE(low.send(peer, "too late"));
  };
  open_pair();
  ASSERT_TRUE(high.send(1, "one"));
  ASSERT_TRUE(high.send(1, "two"));
  ASSERT_TRUE(run_until(executor, [&] { return low.ups == 2 && high.ups == 2; }));
  EXPECT_EQ(low.frames.size(), 1u) << "a frame came after the drop";

  low.on_frame = nullptr;
  low.on_down = [&](NodeId peer) {
    low.links->forget(peer);
    low.links->expect(peer, "n" + std::to_string(peer), loopback(), high.links->port());
  };
  low.on_up = [&](NodeId peer) {
    if (low.ups < 5) low.links->drop(peer, "dropped in on_up");
  };
  low.links->drop(2, "first");
  ASSERT_TRUE(run_until(executor, [&] { return low.ups == 5; }));
  EXPECT_TRUE(both_up());
  high.on_down = [&](NodeId peer) { high.links->forget(peer); };
  low.links->drop(2, "last");
  EXPECT_TRUE(run_until(executor, [&] { return !high.up[1] && !low.up[2]; }));
}

TEST_F(LinkTest, LinksMayBeDestroyedInAnyCallback) {
  const std::function<void(NodeId)> destroy = [&](NodeId) { low.close(); };
  std::function<void(NodeId)> Node::*const callbacks[] = {&Node::on_up, &Node::on_frame,
                                                          &Node::on_down};
  for (const auto callback : callbacks) {
    if (!high.links) high.open();
    low.open();
    low.*callback = destroy;
    low.links->expect(2, "n2", loopback(), high.links->port());
    high.links->expect(1, "n1", loopback(), low.links->port());
    if (callback == &Node::on_frame) high.on_up = [&](NodeId peer) { high.send(peer, "x"); };
    if (callback == &Node::on_down) high.on_up = [&](NodeId peer) { high.links->drop(peer, "x"); };
    EXPECT_TRUE(run_until(executor, [&] { return low.links == nullptr && !high.up[1]; }));
    low.*callback = nullptr;
  }
}

TEST_F(LinkTest, NoEventComesAfterDestruction) {
  open_pair();
  low.links->drop(2, "just before");
  low.close();
  run_for(executor, milliseconds(30));
  EXPECT_TRUE(low.downs.empty());
}

TEST_F(LinkTest, ProgramsStartedByUsInheritNoSocket) {
  open_pair();
  DIR* dir = ::opendir("/proc/self/fd");
  ASSERT_NE(dir, nullptr);
  int sockets = 0;
  while (const dirent* entry = ::readdir(dir)) {
    const int fd = std::atoi(entry->d_name);
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode)) continue;
    sockaddr_in address{};
    socklen_t size = sizeof(address);
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
    if (address.sin_family != AF_INET) continue;
    ++sockets;
    EXPECT_TRUE(::fcntl(fd, F_GETFD) & FD_CLOEXEC) << fd;
  }
  ::closedir(dir);
  EXPECT_EQ(sockets, 4);
}

TEST_F(LinkTest, OpeningTellsWhatIsWrongWithTheAddress) {
  low.open();
  LinkOptions options = low.options;  // with the port that is in use
  EXPECT_EQ(open_links(executor, options, {}).error().code(), Code::kConflict);
  options.listen_address = "not an address";
  EXPECT_EQ(open_links(executor, options, {}).error().code(), Code::kInvalid);
  options.listen_address = "192.0.2.1";  // of no node: kept for documentation
  EXPECT_EQ(open_links(executor, options, {}).error().code(), Code::kInvalid);
}

}  // namespace
}  // namespace dvs::link_testing
