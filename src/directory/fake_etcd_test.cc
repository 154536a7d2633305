// How the client takes servers that misbehave, played by a server in the test's own event loop.
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <deque>

#include "base/clock.h"
#include "directory/etcd_json.h"
#include "directory/store.h"
#include "directory/test_await.h"

namespace dvs {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using namespace std::chrono_literals;

constexpr const char* kPlain = R"({"header":{"revision":"7"},"succeeded":true})";

// What the server does with one request: writes the pieces one by one, then perhaps hangs up.
struct Reaction {
  std::vector<std::string> pieces;
  bool hang_up = false;
};

std::string answer(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}
std::string stream_head() { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"; }
std::string chunk(const std::string& text) {
  std::ostringstream out;
  out << std::hex << text.size() << "\r\n" << text << "\r\n";
  return out.str();
}

class FakeEtcd {
 public:
  using React = std::function<Reaction(const std::string& path)>;

  FakeEtcd(Executor& executor, React react)
      : acceptor_(executor, {asio::ip::address_v4::loopback(), 0}), react_(std::move(react)) {
    accept();
  }

  std::string url() const {
    return "http://127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  }
  size_t connections() const { return peers_.size(); }
  const std::vector<std::string>& bodies() const { return bodies_; }  // of the requests so far

 private:
  struct Peer {
    explicit Peer(tcp::socket connected) : socket(std::move(connected)) {}
    tcp::socket socket;
    boost::beast::flat_buffer buffer;
    http::request<http::string_body> request;
    std::deque<std::string> pieces;
  };

  void accept() {
    acceptor_.async_accept([this](boost::system::error_code failed, tcp::socket socket) {
      if (failed) return;
      socket.set_option(tcp::no_delay(true));
      peers_.push_back(std::make_unique<Peer>(std::move(socket)));
      receive(*peers_.back());
      accept();
    });
  }

  void receive(Peer& peer) {
    peer.request = {};
    http::async_read(peer.socket, peer.buffer, peer.request,
                     [this, &peer](boost::system::error_code failed, size_t) {
                       if (!failed) react(peer);
                     });
  }

  void react(Peer& peer) {
    bodies_.push_back(peer.request.body());
    const Reaction reaction = react_(std::string(peer.request.target()));
    peer.pieces.assign(reaction.pieces.begin(), reaction.pieces.end());
    write(peer, reaction.hang_up);
  }

  void write(Peer& peer, bool hang_up) {
    if (peer.pieces.empty()) {
      if (hang_up) return peer.socket.close();
      return receive(peer);
    }
    asio::async_write(peer.socket, asio::buffer(peer.pieces.front()),
                      [this, &peer, hang_up](boost::system::error_code failed, size_t) {
                        peer.pieces.pop_front();
                        if (!failed) write(peer, hang_up);
                      });
  }

  tcp::acceptor acceptor_;
  React react_;
  std::vector<std::unique_ptr<Peer>> peers_;
  std::vector<std::string> bodies_;
};

class FakeEtcdTest : public testing::Test {
 protected:
  std::unique_ptr<Store> open(std::vector<std::string> urls,
                              std::chrono::milliseconds timeout = 5s) {
    auto store = open_etcd(executor_, {std::move(urls), timeout});
    EXPECT_TRUE(store.ok()) << store.error().message();
    return std::move(*store);
  }
  Result<TxnResult> txn(Store& store) {
    return await<TxnResult>(executor_, [&](auto done) {
      store.txn({Compare::absent("k")}, {Change::put("k", "v")}, std::move(done));
    });
  }
  Result<RangeResult> range(Store& store) {
    return await<RangeResult>(executor_, [&](auto done) { store.range("k", std::move(done)); });
  }

  Executor executor_;
};

TEST_F(FakeEtcdTest, EndpointsOfAnotherFormAreRefused) {
  for (const char* url :
       {"", "garbage", "127.0.0.1:2379", "https://127.0.0.1", "http://", "http://:2379",
        "http://127.0.0.1", "http://127.0.0.1:", "http://127.0.0.1:0", "http://127.0.0.1:65536",
        "http://127.0.0.1:2379/v3", "http://127.0.0.1:23x", "http://::1:2379", "http://[]:2379",
        "http://[name]:2379", "http://user@host:2379", "http://a b:2379"}) {
    const auto store = open_etcd(executor_, {{url}});
    ASSERT_FALSE(store.ok()) << url;
    EXPECT_EQ(store.error().code(), Code::kInvalid) << url;
  }
  EXPECT_EQ(open_etcd(executor_, {}).error().code(), Code::kInvalid);
  for (const char* url : {"http://127.0.0.1:1", "http://[::1]:65535", "http://localhost:2379/",
                          "https://127.0.0.1:1"}) {
    EXPECT_TRUE(open_etcd(executor_, {{url}}).ok()) << url;
  }
}

TEST_F(FakeEtcdTest, AnswersThatMakeNoSenseAreCorrupt) {
  std::string bytes;
  FakeEtcd server(executor_, [&](auto&) { return Reaction{{bytes}, true}; });
  const auto store = open({server.url()});
  for (const std::string& nonsense :
       {answer("<html>hello</html>"), answer(""), answer("[]"), answer("{}"),
        answer(R"({"header":{"revision":"-3"}})"), std::string("SSH-2.0-OpenSSH_9.2\r\n\r\n")}) {
    bytes = nonsense;
    EXPECT_EQ(range(*store).error().code(), Code::kCorrupt) << nonsense;
    EXPECT_EQ(txn(*store).error().code(), Code::kCorrupt) << nonsense;
  }
}

TEST_F(FakeEtcdTest, TransactionIsNotSentAgainWhenTheConnectionBreaks) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{{}, true}; });
  const auto store = open({server.url()});
  EXPECT_EQ(txn(*store).error().code(), Code::kUnavailable);
  EXPECT_EQ(server.bodies().size(), 1u);
}

TEST_F(FakeEtcdTest, TransactionIsNotSentAgainWhenAReusedConnectionBreaks) {
  FakeEtcd server(executor_, [&](auto&) {
    return server.bodies().size() == 1 ? Reaction{{answer(kPlain)}} : Reaction{{}, true};
  });
  const auto store = open({server.url()});
  ASSERT_TRUE(txn(*store).ok());
  EXPECT_EQ(txn(*store).error().code(), Code::kUnavailable);
  EXPECT_EQ(server.bodies().size(), 2u);
  EXPECT_EQ(server.connections(), 1u);
}

TEST_F(FakeEtcdTest, RangeIsSentAgainOnceWhenTheConnectionBreaks) {
  FakeEtcd server(executor_, [&](auto&) {
    return server.bodies().size() == 2 ? Reaction{{answer(kPlain)}} : Reaction{{}, true};
  });
  const auto store = open({server.url()});
  const auto first = range(*store);
  ASSERT_TRUE(first.ok()) << first.error().message();
  EXPECT_EQ(first->revision, 7);
  ASSERT_EQ(range(*store).error().code(), Code::kUnavailable);
  EXPECT_EQ(server.bodies().size(), 4u);
}

TEST_F(FakeEtcdTest, TransactionAvoidsAnIdleConnectionThatTheServerHasClosed) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{{answer(kPlain)}, true}; });
  const auto store = open({server.url()});
  for (int i = 0; i < 3; ++i) {
    const auto result = txn(*store);
    ASSERT_TRUE(result.ok()) << result.error().message();
    EXPECT_TRUE(result->applied);
  }
  EXPECT_EQ(server.connections(), 3u);
}

TEST_F(FakeEtcdTest, ConnectionIsKeptBetweenRequests) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{{answer(kPlain)}}; });
  const auto store = open({server.url()});
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(txn(*store).ok());
  EXPECT_EQ(server.connections(), 1u);
}

TEST_F(FakeEtcdTest, SilentServerTimesOutInTime) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{}; });
  const auto store = open({server.url()}, 100ms);
  const int64_t begin = monotonic_ns();
  EXPECT_EQ(txn(*store).error().code(), Code::kTimeout);
  EXPECT_EQ(range(*store).error().code(), Code::kTimeout);
  EXPECT_GE(monotonic_ns() - begin, 200'000'000);
  EXPECT_LT(monotonic_ns() - begin, 5'000'000'000);
  EXPECT_EQ(server.bodies().size(), 2u);
}

TEST_F(FakeEtcdTest, OtherEndpointsAreTriedInTurn) {
  std::string closed_url;
  {
    FakeEtcd closed(executor_, [](auto&) { return Reaction{}; });
    closed_url = closed.url();
  }
  FakeEtcd silent(executor_, [&](auto&) { return Reaction{}; });
  FakeEtcd healthy(executor_, [&](auto&) { return Reaction{{answer(kPlain)}}; });
  const auto store = open({closed_url, silent.url(), healthy.url()}, 200ms);
  EXPECT_EQ(txn(*store).error().code(), Code::kTimeout);  // it was sent: nobody else may get it
  EXPECT_TRUE(txn(*store).ok());
  EXPECT_TRUE(txn(*store).ok());
  EXPECT_EQ(silent.bodies().size(), 1u);
  EXPECT_EQ(healthy.bodies().size(), 2u);
}

TEST_F(FakeEtcdTest, MemberWithoutLeaderIsLeft) {
  FakeEtcd lonely(executor_, [&](auto&) {
    return Reaction{
        {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 45\r\n\r\n"
         R"({"error":"etcdserver: no leader", "code": 14})"}};
  });
  FakeEtcd healthy(executor_, [&](auto&) { return Reaction{{answer(kPlain)}}; });
  const auto store = open({lonely.url(), healthy.url()});
  EXPECT_EQ(txn(*store).error().code(), Code::kUnavailable);
  EXPECT_TRUE(txn(*store).ok());
}

TEST_F(FakeEtcdTest, SlowRangesHoldUpNoTransaction) {
  FakeEtcd server(executor_, [&](const std::string& path) {
    return path == "/v3/kv/range" ? Reaction{} : Reaction{{answer(kPlain)}};
  });
  const auto store = open({server.url()});
  for (int i = 0; i < 4; ++i) store->range("slow", [](auto) {});
  EXPECT_TRUE(txn(*store).ok());
}

TEST_F(FakeEtcdTest, RequestsInTheQueueEndInTimeToo) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{}; });
  const auto store = open({server.url()}, 200ms);
  int unavailable = 0;
  int timeouts = 0;
  for (int i = 0; i < 50; ++i) {
    store->txn({}, {Change::remove("k")}, [&](Result<TxnResult> result) {
      if (result.ok()) return;
      ++(result.error().code() == Code::kTimeout ? timeouts : unavailable);
    });
  }
  const int64_t begin = monotonic_ns();
  EXPECT_TRUE(run_until(executor_, [&] { return unavailable + timeouts == 50; }));
  EXPECT_LT(monotonic_ns() - begin, 2'000'000'000);
  EXPECT_GE(timeouts, 8);
  EXPECT_GE(unavailable, 10);  // never sent
}

TEST_F(FakeEtcdTest, NothingIsCalledAfterTheStoreIsDestroyed) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{}; });
  auto store = open({server.url()}, 1000ms);
  bool called = false;
  auto alive = std::make_shared<int>();
  for (int i = 0; i < 20; ++i) store->range("k", [&called, alive](auto) { called = true; });
  auto watch = store->watch(
      "k", 0, [&](auto, auto) { called = true; }, [&](auto) { called = true; });
  ASSERT_TRUE(run_until(executor_, [&] { return server.bodies().size() >= 9; }));
  store.reset();
  EXPECT_EQ(alive.use_count(), 1);
  EXPECT_FALSE(run_until(
      executor_, [&] { return called; }, 1200ms));
}

TEST_F(FakeEtcdTest, StoreMayBeDestroyedByItsOwnCallback) {
  FakeEtcd server(executor_, [&](auto&) { return Reaction{{answer(kPlain)}}; });
  auto store = open({server.url()});
  int called = 0;
  for (int i = 0; i < 20; ++i) {
    store->range("k", [&](auto) {
      ++called;
      store.reset();
    });
  }
  ASSERT_TRUE(run_until(executor_, [&] { return called > 0; }));
  EXPECT_FALSE(run_until(
      executor_, [&] { return called > 1; }, 50ms));
}

std::string event_line(int revision) {
  return R"({"result":{"header":{"revision":")" + std::to_string(revision) +
         R"("},"events":[{"kv":{"key":"aw==","mod_revision":")" + std::to_string(revision) +
         "\"}}]}}\n";
}

TEST_F(FakeEtcdTest, WatchReadsObjectsHoweverTheyAreCut) {
  const std::string text = event_line(5) + event_line(6) + event_line(7);
  std::vector<std::string> pieces = {stream_head()};
  for (char c : text) pieces.push_back(chunk(std::string(1, c)));
  pieces.push_back(chunk(event_line(8) + event_line(9)));
  FakeEtcd server(executor_, [&](auto&) { return Reaction{pieces}; });
  const auto store = open({server.url()});
  std::vector<int64_t> seen;
  const auto watch = store->watch(
      "k", 4, [&](int64_t revision, auto) { seen.push_back(revision); },
      [](const Error& error) { ADD_FAILURE() << error.message(); });
  ASSERT_TRUE(run_until(executor_, [&] { return seen.size() >= 5; }));
  EXPECT_EQ(seen, (std::vector<int64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(server.bodies(), std::vector<std::string>{etcd::encode_watch("k", 5)});
}

// After nonsense the watch asks again for exactly what it has not delivered, and what it gets
// twice it does not pass on.
TEST_F(FakeEtcdTest, WatchGoesOnAfterNonsense) {
  const std::vector<Reaction> script = {
      {{stream_head(), chunk(event_line(5)), chunk("nonsense\n")}},
      {{"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"}},
      {{stream_head(), chunk(event_line(5) + event_line(6)), chunk("{\"res")}, true},
      {{stream_head(), chunk(event_line(7))}}};
  FakeEtcd server(executor_, [&](auto&) { return script.at(server.bodies().size() - 1); });
  const auto store = open({server.url()});
  std::vector<int64_t> seen;
  const auto watch = store->watch(
      "k", 4, [&](int64_t revision, auto) { seen.push_back(revision); },
      [](const Error& error) { ADD_FAILURE() << error.message(); });
  ASSERT_TRUE(run_until(executor_, [&] { return seen.size() >= 3; }));
  EXPECT_EQ(seen, (std::vector<int64_t>{5, 6, 7}));
  EXPECT_EQ(server.bodies(),
            (std::vector<std::string>{etcd::encode_watch("k", 5), etcd::encode_watch("k", 6),
                                      etcd::encode_watch("k", 6), etcd::encode_watch("k", 7)}));
}

TEST_F(FakeEtcdTest, WatchMayBeDestroyedByItsOwnCallback) {
  FakeEtcd server(executor_, [&](auto&) {
    return Reaction{{stream_head(), chunk(event_line(5) + event_line(6) + event_line(7))}};
  });
  const auto store = open({server.url()});
  int called = 0;
  std::unique_ptr<Store::Watch> watch = store->watch(
      "k", 4,
      [&](auto, auto) {
        ++called;
        watch.reset();
      },
      [&](auto) { ++called; });
  ASSERT_TRUE(run_until(executor_, [&] { return called > 0; }));
  EXPECT_FALSE(run_until(
      executor_, [&] { return called > 1; }, 250ms));
  EXPECT_EQ(server.bodies().size(), 1u);  // and it does not come back
}

}  // namespace
}  // namespace dvs
