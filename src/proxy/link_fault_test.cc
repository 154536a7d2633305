// Links against strangers, damaged bytes and silence.
#include <poll.h>

#include <atomic>
#include <thread>

#include "proxy/link_testing.h"

namespace dvs::link_testing {
namespace {

using LinkFaultTest = LinkTest;

TEST_F(LinkFaultTest, StrangersAreRefusedAndOthersDoNotNotice) {
  open_pair();
  high.links->expect(9, "n9", loopback(), 1);
  Hello hello = good_hello(1, 2);
  hello.cluster = "other\n\x1b[2J\xff";
  expect_refused(hello_frame(hello), "another cluster");
  expect_refused(hello_frame(good_hello(0, 2)), "a node nobody expects");
  expect_refused(hello_frame(good_hello(2, 2)), "our own id");
  expect_refused(hello_frame(good_hello(9, 2)), "a node that should be called by us");
  expect_refused(hello_frame(good_hello(65535, 2)), "an id out of range");
  expect_refused(hello_frame(good_hello(1, 3)), "meant for another node");
  expect_refused(wire::encode_frame(FrameType::kHello, "{}"), "an empty hello");
  expect_refused(wire::encode_frame(FrameType::kHello, "no JSON"), "no JSON");
  expect_refused(wire::encode_frame(FrameType::kHello, std::string(kMaxHello + 1, ' ')),
                 "a long hello");
  expect_refused(wire::encode_frame(FrameType::kPing, ""), "a ping first");
  expect_refused(wire::encode_frame(FrameType::kControl, "{}"), "a request first");
  expect_refused("GET /index.html HTTP/1.1\r\n\r\n", "another protocol");
  expect_untouched();
}

TEST_F(LinkFaultTest, AHelloWithAnyDamagedByteIsRefused) {
  open_pair();
  const std::string hello = hello_frame(good_hello(1, 2));
  for (size_t position = 0; position < hello.size(); ++position) {
    std::string damaged = hello;
    damaged[position] = static_cast<char>(damaged[position] ^ (1 << position % 8));
    expect_refused(damaged, std::to_string(position).c_str());
  }
  expect_untouched();
}

TEST_F(LinkFaultTest, GarbageAfterAGoodHelloClosesThatLinkOnly) {
  open_pair();
  high.links->expect(0, "n0", loopback(), 1);
  const std::string good = wire::encode_frame(FrameType::kControl, "good");
  for (const std::string& bad : {std::string(20, 'g'), hello_frame(good_hello(0, 2))}) {
    const auto downs = high.downs.size();
    const auto frames = high.frames.size();
    RawPeer peer(high.links->port());
    peer.write(hello_frame(good_hello(0, 2)) + good + bad + good);
    ASSERT_TRUE(run_until(executor, [&] { return peer.closed() && high.downs.size() > downs; }));
    EXPECT_EQ(high.frames.size(), frames + 1);
  }
  EXPECT_TRUE(high.up[1]);
  EXPECT_TRUE(low.downs.empty());
}

TEST_F(LinkFaultTest, HalfFramesDoNoHarm) {
  open_pair();
  const std::string hello = hello_frame(good_hello(1, 2));
  for (size_t size = 0; size < hello.size(); size += 7) {
    RawPeer stranger(high.links->port());
    stranger.write(hello.substr(0, size));
    executor.poll();
  }
  expect_untouched();
}

TEST_F(LinkFaultTest, AWrongPeerAtTheAddressIsNotTaken) {
  Node other(executor, 3);
  other.open();
  other.links->expect(1, "n1", loopback(), 1);
  low.open();
  low.links->expect(2, "n2", loopback(), other.links->port());  // where node 3 listens
  run_for(executor, milliseconds(100));
  EXPECT_EQ(low.ups, 0);
  EXPECT_EQ(other.ups, 0);
}

TEST_F(LinkFaultTest, WhoSaysNothingIsShutOut) {
  high.options.hello = milliseconds(50);
  high.open();
  RawPeer silent(high.links->port());
  RawPeer halting(high.links->port());
  halting.write(wire::encode_frame(FrameType::kHello, "{}").substr(0, 10));
  EXPECT_TRUE(run_until(executor, [&] { return silent.closed() && halting.closed(); }));
}

TEST_F(LinkFaultTest, ADialledPeerThatSaysNothingIsTriedAgain) {
  UniqueFd mute(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  ::inet_pton(AF_INET, loopback().c_str(), &address.sin_addr);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(mute.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(mute.get(), 16), 0);
  ASSERT_EQ(::getsockname(mute.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
  low.options.hello = milliseconds(30);
  low.open();
  low.links->expect(2, "n2", loopback(), ntohs(address.sin_port));
  std::vector<UniqueFd> attempts;
  EXPECT_TRUE(run_until(executor, [&] {
    UniqueFd attempt(::accept4(mute.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (attempt.valid()) attempts.push_back(std::move(attempt));
    return attempts.size() == 3;
  }));
  EXPECT_EQ(low.ups, 0);
}

TEST_F(LinkFaultTest, AFloodOfSilentConnectionsKeepsNobodyOut) {
  high.options.hello = std::chrono::minutes(1);
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  std::vector<std::unique_ptr<RawPeer>> flood;
  for (int i = 0; i < 100; ++i) {
    flood.push_back(std::make_unique<RawPeer>(high.links->port()));
    executor.poll();
  }
  RawPeer honest(high.links->port());
  executor.poll();
  for (int i = 0; i < 50; ++i) {
    flood.push_back(std::make_unique<RawPeer>(high.links->port()));
    executor.poll();
  }
  honest.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[1]; }));
  const auto held = [](auto& peer) { return !peer->closed(); };
  EXPECT_EQ(std::count_if(flood.begin(), flood.end(), held), 63);
}

// It says that it lives, and never reads: what waits for it is bounded, and so is the time.
// It gets its turn like everybody else: between two frames of another peer no more of its own are
// looked at than come by a few reads.
TEST_F(LinkFaultTest, APeerThatFloodsTakesTurnsWithTheOthers) {
  open_pair();
  high.links->expect(0, "n0", loopback(), 1);
  const std::string frame = wire::encode_frame(FrameType::kOperation, "flood");
  std::string much;
  while (much.size() < (1u << 20)) much += frame;
  RawPeer flooder(high.links->port());
  flooder.write(hello_frame(good_hello(0, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[0]; }));
  std::atomic<bool> over = false;
  std::thread flood([&] {
    while (!over && flooder.try_write(much)) continue;
  });
  size_t flooded = 0;
  size_t most = 0;
  int mine = 0;
  high.on_frame = [&](NodeId peer) {
    high.frames.clear();
    if (peer == 0) ++flooded;
    if (peer != 1) return;
    most = std::max(most, std::exchange(flooded, 0));
    ++mine;
    if (mine < 200) {
      ASSERT_TRUE(low.send(2, "mine"));
    }
  };
  ASSERT_TRUE(run_until(executor, [&] { return flooded > 0; }));
  flooded = 0;
  ASSERT_TRUE(low.send(2, "mine"));
  EXPECT_TRUE(run_until(executor, [&] { return mine == 200; }));
  over = true;
  high.close();  // that ends its write
  flood.join();
  constexpr size_t kRead = 64u << 10;
  EXPECT_LE(most, 8 * kRead / frame.size());
  EXPECT_TRUE(low.downs.empty() || low.downs.size() == 1);
}

TEST_F(LinkFaultTest, APeerThatTakesNothingIsClosed) {
  high.options.ping = milliseconds(20);
  high.options.silence = milliseconds(300);
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[1]; }));
  const std::string large(1 << 20, 'x');
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(high.send(1, large));
  const std::string ping = wire::encode_frame(FrameType::kPing, "");
  ASSERT_TRUE(run_until(executor, [&] {
    (void)peer.try_write(ping);  // until the link is closed, which is told later
    return !high.downs.empty();
  }));
  EXPECT_EQ(high.downs[0], "takes nothing for 300 ms");
}

TEST_F(LinkFaultTest, WhatWaitsForAPeerIsBounded) {
  high.options.backlog = 8u << 20;
  open_pair();
  high.links->expect(0, "n0", loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(0, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[0]; }));
  const std::string large(1 << 20, 'x');
  for (int i = 0; i < 100; ++i) (void)high.send(0, large);  // from inside one turn of the loop
  ASSERT_TRUE(run_until(executor, [&] { return !high.downs.empty(); }));
  EXPECT_NE(high.downs[0].find("MiB wait for the peer"), std::string::npos) << high.downs[0];
  EXPECT_LT(std::stoi(high.downs[0]), 10);
  EXPECT_TRUE(high.up[1]);
  ASSERT_TRUE(high.send(1, "others do not notice"));
  EXPECT_TRUE(run_until(executor, [&] { return low.frames.size() == 1; }));
  high.close();
}

TEST_F(LinkFaultTest, ASilentLinkIsClosed) {
  high.options.ping = milliseconds(20);
  high.options.silence = milliseconds(300);
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return !high.downs.empty(); }));
  EXPECT_EQ(high.downs[0], "silent for 300 ms");
  EXPECT_TRUE(peer.closed());
  EXPECT_GE(peer.count(FrameType::kPing), 3u);
}

TEST_F(LinkFaultTest, PingsKeepAnIdleLinkUpAndAreNotShown) {
  for (Node* node : {&low, &high}) {
    node->options.ping = milliseconds(20);
    node->options.silence = milliseconds(400);
  }
  open_pair();
  run_for(executor, milliseconds(900));
  EXPECT_TRUE(high.frames.empty());
  expect_untouched();
}

TEST_F(LinkFaultTest, APauseOfOurOwnIsNotTakenForThePeersSilence) {
  high.options.silence = milliseconds(50);
  high.open();
  high.links->expect(1, "n1", loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[1]; }));
  peer.write(wire::encode_frame(FrameType::kControl, "meanwhile"));
  ::poll(nullptr, 0, 100);  // nothing runs here for longer than the silence allowed
  ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() == 1; }));
  EXPECT_TRUE(high.downs.empty());
}

}  // namespace
}  // namespace dvs::link_testing
