#include "proxy/link.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/unique_fd.h"
#include "proxy/link_hello.h"

namespace dvs {
namespace {

using std::chrono::milliseconds;
using wire::FrameType;

// An address of this process alone, so that a port it gave up stays free until it takes it again.
const std::string& loopback() {
  static const std::string address = fmt::format("127.{}.{}.{}", 100 + (::getpid() >> 16),
                                                 ::getpid() >> 8 & 255, ::getpid() & 255);
  return address;
}
constexpr char kCluster[] = "test";

// Runs the event loop until `done`, for ten seconds at most.
template <typename Condition>
[[nodiscard]] bool run_until(Executor& executor, Condition done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    executor.restart();
    executor.run_one_for(milliseconds(10));
  }
  return true;
}

void run_for(Executor& executor, milliseconds duration) {
  executor.restart();
  executor.run_for(duration);
}

// A node with Links that records what its Links tell. A callback of its user comes after.
struct Node {
  Node(Executor& loop, NodeId node) : executor(loop), options(default_options(node)) {}

  static LinkOptions default_options(NodeId node) {
    LinkOptions options;
    options.cluster = kCluster;
    options.node = node;
    options.name = "n" + std::to_string(node);
    options.incarnation = 1;
    options.listen_address = loopback();
    options.reconnect = milliseconds(10);
    return options;
  }

  void open() {
    LinkEvents events;
    events.on_up = [this](NodeId peer) {
      EXPECT_FALSE(up[peer]) << "on_up twice";
      up[peer] = true;
      ++ups;
      if (on_up) on_up(peer);
    };
    events.on_down = [this](NodeId peer, std::string reason) {
      EXPECT_TRUE(up[peer]) << "on_down of a link that is not up";
      up[peer] = false;
      downs.push_back(reason);
      if (on_down) on_down(peer);
    };
    events.on_frame = [this](NodeId peer, wire::Frame frame) {
      EXPECT_TRUE(up[peer]) << "a frame on a link that is not up";
      frames.push_back(std::move(frame));
      if (on_frame) on_frame(peer);
    };
    events.on_writable = [this](NodeId peer) {
      ++writables;
      if (on_writable) on_writable(peer);
    };
    auto opened = open_links(executor, options, std::move(events));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    links = std::move(*opened);
    options.listen_port = links->port();
  }
  void close() {
    links.reset();
    up.clear();
  }
  bool send(NodeId peer, const std::string& body) {
    return links->send(peer, FrameType::kOperation, body);
  }

  Executor& executor;
  LinkOptions options;
  std::unique_ptr<Links> links;
  std::map<NodeId, bool> up;
  int ups = 0;
  int writables = 0;
  std::vector<std::string> downs;
  std::vector<wire::Frame> frames;
  std::function<void(NodeId)> on_up, on_down, on_frame, on_writable;
};

// A peer made by hand, to say what no Links would.
class RawPeer {
 public:
  explicit RawPeer(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    ::inet_pton(AF_INET, loopback().c_str(), &address.sin_addr);
    EXPECT_EQ(::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }

  void write(std::string_view bytes) {
    EXPECT_EQ(::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // Takes what has arrived, without waiting.
  void poll() {
    char buffer[65536];
    for (;;) {
      const ssize_t count = ::recv(socket_.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (count < 0 && errno == EAGAIN) return;
      if (count <= 0) {
        closed_ = true;
        return;
      }
      EXPECT_TRUE(reader_.feed({buffer, static_cast<size_t>(count)}, frames).ok());
    }
  }
  bool closed() {
    poll();
    return closed_;
  }
  size_t count(FrameType type) {
    poll();
    return static_cast<size_t>(
        std::count_if(frames.begin(), frames.end(), [&](auto& f) { return f.type == type; }));
  }

  std::vector<wire::Frame> frames;

 private:
  UniqueFd socket_;
  wire::FrameReader reader_;
  bool closed_ = false;
};

std::string hello_frame(const Hello& hello) {
  return wire::encode_frame(FrameType::kHello, encode_hello(hello));
}

Hello good_hello(NodeId node, NodeId to) {
  return {.cluster = kCluster, .node = node, .name = "raw", .incarnation = 7, .to = to};
}

class LinkTest : public ::testing::Test {
 protected:
  void open_pair() {
    low.open();
    high.open();
    low.links->expect(high.options.node, loopback(), high.links->port());
    high.links->expect(low.options.node, loopback(), low.links->port());
    ASSERT_TRUE(both_up());
  }
  [[nodiscard]] bool both_up() {
    return run_until(executor,
                     [&] { return low.up[high.options.node] && high.up[low.options.node]; });
  }
  // The pair's link works, and was never down.
  void expect_untouched() {
    const size_t before = high.frames.size();
    ASSERT_TRUE(low.send(2, "still here"));
    ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() > before; }));
    EXPECT_TRUE(low.downs.empty());
    EXPECT_TRUE(high.downs.empty());
  }
  // Whoever says this first to node 2 is shut out, and nothing else happens.
  void expect_refused(const std::string& bytes, const char* what) {
    SCOPED_TRACE(what);
    const int ups = high.ups;
    RawPeer stranger(high.links->port());
    stranger.write(bytes);
    EXPECT_TRUE(run_until(executor, [&] { return stranger.closed(); })) << "not closed";
    EXPECT_TRUE(stranger.frames.empty()) << "was answered";
    EXPECT_EQ(high.ups, ups);
  }

  Executor executor;
  Node low{executor, 1};
  Node high{executor, 2};
};

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
    ASSERT_EQ(low.frames[i].body, body(i));
    ASSERT_EQ(high.frames[i].body, body(i));
    ASSERT_EQ(low.frames[i].type, FrameType::kOperation);
  }
}

TEST_F(LinkTest, TheLargestFrameAndAnEmptyOneArrive) {
  open_pair();
  const std::string large(wire::kMaxBody, 'L');
  ASSERT_TRUE(low.links->send(2, FrameType::kImage, large));
  ASSERT_TRUE(low.links->send(2, FrameType::kControl, ""));
  ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() == 2; }));
  EXPECT_TRUE(high.frames[0].body == large);
  EXPECT_EQ(high.frames[1].type, FrameType::kControl);
  EXPECT_EQ(high.frames[1].body, "");
}

TEST_F(LinkTest, AFrameSentAtOnceOnComingUpArrives) {
  high.on_up = [&](NodeId peer) { EXPECT_TRUE(high.send(peer, std::string(100'000, 'h'))); };
  low.on_up = [&](NodeId peer) { EXPECT_TRUE(low.send(peer, std::string(100'000, 'l'))); };
  open_pair();
  EXPECT_TRUE(run_until(executor, [&] { return !low.frames.empty() && !high.frames.empty(); }));
}

TEST_F(LinkTest, SendOnAnIdleLinkNeedsNoTurnOfTheEventLoop) {
  high.open();
  high.links->expect(1, loopback(), 1);
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
  low.links->expect(2, loopback(), 1);
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
  low.links->expect(2, loopback(), high.options.listen_port);
  run_for(executor, milliseconds(50));
  EXPECT_EQ(low.ups, 0);
  high.open();
  high.links->expect(1, loopback(), low.links->port());
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
    restarting->links->expect(other->options.node, loopback(), other->links->port());
    ASSERT_TRUE(run_until(executor, [&] { return other->ups > ups; }));
    ASSERT_TRUE(both_up());
    EXPECT_EQ(other->downs.size(), downs + 1);
  }
}

TEST_F(LinkTest, ASecondConnectionOfAPeerReplacesTheFirst) {
  high.open();
  high.links->expect(1, loopback(), 1);
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
  moved.links->expect(1, loopback(), low.links->port());
  low.links->expect(2, loopback(), high.links->port());  // the same: nothing happens
  expect_untouched();
  low.links->expect(2, loopback(), moved.links->port());
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
  high.links->expect(1, loopback(), low.links->port());
  EXPECT_TRUE(both_up());
}

TEST_F(LinkTest, StrangersAreRefusedAndOthersDoNotNotice) {
  open_pair();
  high.links->expect(9, loopback(), 1);
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

TEST_F(LinkTest, AHelloWithAnyDamagedByteIsRefused) {
  open_pair();
  const std::string hello = hello_frame(good_hello(1, 2));
  for (size_t position = 0; position < hello.size(); ++position) {
    std::string damaged = hello;
    damaged[position] = static_cast<char>(damaged[position] ^ (1 << position % 8));
    expect_refused(damaged, std::to_string(position).c_str());
  }
  expect_untouched();
}

TEST_F(LinkTest, GarbageAfterAGoodHelloClosesThatLinkOnly) {
  open_pair();
  high.links->expect(0, loopback(), 1);
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

TEST_F(LinkTest, HalfFramesDoNoHarm) {
  open_pair();
  const std::string hello = hello_frame(good_hello(1, 2));
  for (size_t size = 0; size < hello.size(); size += 7) {
    RawPeer stranger(high.links->port());
    stranger.write(hello.substr(0, size));
    executor.poll();
  }
  expect_untouched();
}

TEST_F(LinkTest, AWrongPeerAtTheAddressIsNotTaken) {
  Node other(executor, 3);
  other.open();
  other.links->expect(1, loopback(), 1);
  low.open();
  low.links->expect(2, loopback(), other.links->port());  // where node 3 listens
  run_for(executor, milliseconds(100));
  EXPECT_EQ(low.ups, 0);
  EXPECT_EQ(other.ups, 0);
}

TEST_F(LinkTest, WhoSaysNothingIsShutOut) {
  high.options.hello = milliseconds(50);
  high.open();
  RawPeer silent(high.links->port());
  RawPeer halting(high.links->port());
  halting.write(wire::encode_frame(FrameType::kHello, "{}").substr(0, 10));
  EXPECT_TRUE(run_until(executor, [&] { return silent.closed() && halting.closed(); }));
}

TEST_F(LinkTest, ADialledPeerThatSaysNothingIsTriedAgain) {
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
  low.links->expect(2, loopback(), ntohs(address.sin_port));
  std::vector<UniqueFd> attempts;
  EXPECT_TRUE(run_until(executor, [&] {
    UniqueFd attempt(::accept4(mute.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (attempt.valid()) attempts.push_back(std::move(attempt));
    return attempts.size() == 3;
  }));
  EXPECT_EQ(low.ups, 0);
}

TEST_F(LinkTest, AFloodOfSilentConnectionsKeepsNobodyOut) {
  high.options.hello = std::chrono::minutes(1);
  high.open();
  high.links->expect(1, loopback(), 1);
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

TEST_F(LinkTest, ASilentLinkIsClosed) {
  high.options.ping = milliseconds(20);
  high.options.silence = milliseconds(300);
  high.open();
  high.links->expect(1, loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return !high.downs.empty(); }));
  EXPECT_EQ(high.downs[0], "silent for 300 ms");
  EXPECT_TRUE(peer.closed());
  EXPECT_GE(peer.count(FrameType::kPing), 3u);
}

TEST_F(LinkTest, PingsKeepAnIdleLinkUpAndAreNotShown) {
  for (Node* node : {&low, &high}) {
    node->options.ping = milliseconds(20);
    node->options.silence = milliseconds(400);
  }
  open_pair();
  run_for(executor, milliseconds(900));
  EXPECT_TRUE(high.frames.empty());
  expect_untouched();
}

TEST_F(LinkTest, APauseOfOurOwnIsNotTakenForThePeersSilence) {
  high.options.silence = milliseconds(50);
  high.open();
  high.links->expect(1, loopback(), 1);
  RawPeer peer(high.links->port());
  peer.write(hello_frame(good_hello(1, 2)));
  ASSERT_TRUE(run_until(executor, [&] { return high.up[1]; }));
  peer.write(wire::encode_frame(FrameType::kControl, "meanwhile"));
  ::poll(nullptr, 0, 100);  // nothing runs here for longer than the silence allowed
  ASSERT_TRUE(run_until(executor, [&] { return high.frames.size() == 1; }));
  EXPECT_TRUE(high.downs.empty());
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
    ASSERT_TRUE(high.frames[i].body == std::to_string(i) + chunk) << i;
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
  EXPECT_EQ(high.frames[0].body, "fresh");
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
    low.links->expect(peer, loopback(), high.links->port());
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
    low.links->expect(2, loopback(), high.links->port());
    high.links->expect(1, loopback(), low.links->port());
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
}  // namespace dvs
