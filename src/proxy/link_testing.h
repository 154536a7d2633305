// What the tests of links share: nodes that record what their Links tell, peers made by hand.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/check.h"
#include "base/unique_fd.h"
#include "proxy/link.h"
#include "proxy/link_hello.h"

namespace dvs::link_testing {

using std::chrono::milliseconds;
using wire::FrameType;

// An address of this process alone, so that a port it gave up stays free until it takes it again.
inline const std::string& loopback() {
  static const std::string address = fmt::format("127.{}.{}.{}", 100 + (::getpid() >> 16),
                                                 ::getpid() >> 8 & 255, ::getpid() & 255);
  return address;
}
inline constexpr char kCluster[] = "test";

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

inline void run_for(Executor& executor, milliseconds duration) {
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

  void write(std::string_view bytes) { EXPECT_TRUE(try_write(bytes)); }
  // False: the other side has closed the link, perhaps.
  bool try_write(std::string_view bytes) {
    return ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
           static_cast<ssize_t>(bytes.size());
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

inline std::string hello_frame(const Hello& hello) {
  return wire::encode_frame(FrameType::kHello, encode_hello(hello));
}

inline Hello good_hello(NodeId node, NodeId to) {
  return {.cluster = kCluster, .node = node, .name = "raw", .incarnation = 7, .to = to};
}

class LinkTest : public ::testing::Test {
 protected:
  void open_pair() {
    low.open();
    high.open();
    low.links->expect(high.options.node, high.options.name, loopback(), high.links->port());
    high.links->expect(low.options.node, low.options.name, loopback(), low.links->port());
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

}  // namespace dvs::link_testing
