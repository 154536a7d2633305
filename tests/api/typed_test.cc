// Typed requests: Endpoint::call, serve, serve_one; buffers. Server and clients are processes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>
#include <dvk/dvk.hpp>
#include <numeric>
#include <string>
#include <thread>

#include "support/one_node.h"

namespace {

using namespace std::chrono_literals;
using dvk::Caller;
using dvk::Expected;
using dvk::Failure;
using dvs::testing::OneNode;

constexpr int kServer = 11;
constexpr int kClient = 12;
constexpr int kDivisionByZero = 17;  // an error of this application

struct Quotient {
  static constexpr int kType = 2;
  int value;
};
struct Divide {
  static constexpr int kType = 1;
  using Reply = Quotient;
  int a, b;
};
struct Note {
  static constexpr int kType = 3;
};
struct Stop {
  static constexpr int kType = 4;
};
// Types of others, which cannot be changed.
struct Foreign {
  int n;
};
struct Reverse {
  static constexpr int kType = 6;
  dvk::Buffer text, reversed;
};
struct Length {
  static constexpr int kType = 7;
  uint64_t bytes;
};
struct Nobody {
  static constexpr int kType = 8;
};
struct Sleepy {
  static constexpr int kType = 9;
};

}  // namespace

template <>
struct dvk::message_type<Foreign> {
  static constexpr int value = 5;
};

namespace {

static_assert(dvk::Typed<Divide> && dvk::Typed<Foreign> && dvk::Typed<Note>);
static_assert(!dvk::Typed<int>, "it has no number");
struct OfTheDvk {
  static constexpr int kType = NOTIFY_MESSAGE;
};
static_assert(!dvk::Typed<OfTheDvk>);
struct TooLong {
  [[maybe_unused]] static constexpr int kType = 1;
  char bytes[57];
};
static_assert(!dvk::Typed<TooLong>);

Expected<Quotient> divide(const Divide& request, Caller) {
  if (request.b == 0) return Failure(kDivisionByZero);
  return Quotient{request.a / request.b};
}

// Reads a text of up to 64 KB from the client and writes it back to front.
Expected<Length> reverse(const Reverse& request, Caller caller) {
  static std::array<char, 65536> text;
  const auto got = caller.read(request.text, std::as_writable_bytes(std::span(text)));
  if (!got) return got.failure();
  std::reverse(text.begin(), text.begin() + static_cast<long>(*got));
  const auto put = caller.write(request.reversed, std::as_bytes(std::span(text).first(*got)));
  if (!put) return put.failure();
  return Length{*got};
}

// Serves until it is told to stop. Exit status: 0, or which step failed.
int serve() {
  auto self = dvk::Endpoint::create(kServer);
  if (!self) return 1;
  int notes = 0;
  const auto ended = self->serve(
      divide, reverse, [&](const Note&, Caller) { ++notes; },
      [&](const Foreign& f, const Caller& c) { return Quotient{f.n + notes + c.endpoint()}; },
      [](const Stop&, Caller caller) { caller.stop(); });
  return ended ? 0 : 2;
}

class Typed : public testing::Test {
 protected:
  void SetUp() override {
    server_ = node_.start(serve);
    ASSERT_TRUE(node_.await_waiting(kServer));
    auto self = dvk::Endpoint::create(kClient);
    ASSERT_TRUE(self) << self.error_name();
    client_.emplace(std::move(*self));
  }
  void TearDown() override {
    if (server_ != 0) stop_server();
  }
  void stop_server() {
    EXPECT_TRUE(client_->call(kServer, Stop{}, 5s)) << "the stop is answered before it stops";
    EXPECT_EQ(node_.finish(server_), 0);
    server_ = 0;
  }

  OneNode& node_ = OneNode::instance();
  pid_t server_ = 0;
  std::optional<dvk::Endpoint> client_;
};

TEST_F(Typed, RequestsAreAnsweredByTheirHandler) {
  const Expected<Quotient> quotient = client_->call(kServer, Divide{84, 2}, 5s);
  ASSERT_TRUE(quotient) << quotient.error_name();
  EXPECT_EQ(quotient->value, 42);
  EXPECT_TRUE(client_->call(kServer, Note{}, 5s)) << "a request without an answer's content";
  const auto sum = client_->call<Foreign, Quotient>(kServer, Foreign{100}, 5s);
  ASSERT_TRUE(sum) << sum.error_name();
  EXPECT_EQ(sum->value, 100 + 1 + kClient);
}

TEST_F(Typed, ErrorsOfTheHandlerAreNotErrorsOfTheCall) {
  const auto refused = client_->call(kServer, Divide{1, 0}, 5s);
  EXPECT_EQ(refused.error(), kDivisionByZero);
  EXPECT_TRUE(refused.from_server());
  const auto nobody_there = client_->call(99, Divide{1, 0}, 5s);
  EXPECT_EQ(nobody_there.error(), EDVSDSTDIED);
  EXPECT_FALSE(nobody_there.from_server());
}

TEST_F(Typed, AnUnknownRequestIsAnsweredAtOnce) {
  const auto unknown = client_->call(kServer, Nobody{}, dvk::kForever);
  EXPECT_EQ(unknown.error(), EDVSBADCALL);
  EXPECT_TRUE(unknown.from_server());
  EXPECT_TRUE(client_->call(kServer, Divide{4, 2}, 5s)) << "and the server goes on";
}

TEST_F(Typed, AnAnswerOfAnotherTypeIsNotTakenForTheOneExpected) {
  const auto wrong = client_->call<Divide, Length>(kServer, Divide{4, 2}, 5s);
  EXPECT_EQ(wrong.error(), EDVSBADVALUE);
  EXPECT_FALSE(wrong.from_server());
  EXPECT_EQ((client_->call<Divide, void>(kServer, Divide{4, 2}, 5s)).error(), EDVSBADVALUE);
  EXPECT_EQ((client_->call<Note, Quotient>(kServer, Note{}, 5s)).error(), EDVSBADVALUE);
}

TEST_F(Typed, BuffersAreReadAndWrittenWithinTheirBounds) {
  std::string text(60'000, '.');
  std::iota(text.begin(), text.end(), '\0');
  std::string reversed(text.size() + 1, '#');
  const auto done = client_->call<Reverse, Length>(
      kServer, Reverse{dvk::Buffer::of(text), dvk::Buffer::of(reversed)}, 5s);
  ASSERT_TRUE(done) << done.error_name();
  EXPECT_EQ(done->bytes, text.size());
  EXPECT_EQ(reversed, std::string(text.rbegin(), text.rend()) + '#') << "and no byte more";

  const auto ask = [&](dvk::Buffer from, dvk::Buffer to) {
    return client_->call<Reverse, Length>(kServer, Reverse{from, to}, 5s);
  };
  std::string small(text.size() - 1, '#');
  EXPECT_EQ(ask(dvk::Buffer::of(text), dvk::Buffer::of(small)).error(), EDVSBADRANGE);
  EXPECT_EQ(small, std::string(small.size(), '#')) << "nothing was written";
  std::string huge(70'000, 'x');
  EXPECT_EQ(ask(dvk::Buffer::of(huge), dvk::Buffer::of(huge)).error(), EDVSBADRANGE)
      << "more than the server has room for";
  EXPECT_EQ(ask({64, 100}, dvk::Buffer::of(small)).error(), EDVSFAULT);
  EXPECT_EQ(ask({64, ~0ULL}, dvk::Buffer::of(small)).error(), EDVSBADRANGE);
  EXPECT_EQ(ask({}, {})->bytes, 0u);
}

// Whoever sends and does not wait for an answer does not hold the server up either.
TEST_F(Typed, ARequestThatIsOnlySentIsHandled) {
  ASSERT_TRUE(client_->send(kServer, dvk::typed(Note{}), 5s));
  EXPECT_EQ((client_->call<Foreign, Quotient>(kServer, Foreign{100}, 5s))->value, 101 + kClient);
}

TEST_F(Typed, AClientThatDiedWhileItWasServedIsForgotten) {
  const pid_t victim = node_.start([] {
    auto self = dvk::Endpoint::create(13);
    if (!self) return 1;
    for (;;) (void)self->call(kServer, Divide{4, 2}, 5s);
  });
  ASSERT_TRUE(dvk_wait4bindep_T(13, 10'000) >= 0);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(client_->call(kServer, Divide{i, 1}, 5s));
  ASSERT_EQ(::kill(victim, SIGKILL), 0);
  EXPECT_EQ(node_.finish(victim), -1);
  EXPECT_EQ(client_->call(kServer, Divide{8, 2}, 5s)->value, 4);
}

TEST_F(Typed, TheDeathOfTheServerIsToldToWhoWaitsForIt) {
  ASSERT_EQ(::kill(server_, SIGKILL), 0);
  EXPECT_EQ(node_.finish(server_), -1);
  server_ = 0;
  const auto nobody = client_->call(kServer, Divide{1, 1}, 5s);
  EXPECT_EQ(nobody.error(), EDVSDSTDIED);
}

TEST(Serve, OneRequestOrATimeOut) {
  OneNode& node = OneNode::instance();
  auto self = dvk::Endpoint::create(kServer);
  ASSERT_TRUE(self) << self.error_name();
  EXPECT_EQ(self->serve_one(5ms, divide).error(), EDVSTIMEDOUT);
  EXPECT_EQ(self->serve_one(dvk::kNoWait, divide).error(), EDVSAGAIN);
  const pid_t client = node.start([] {
    auto me = dvk::Endpoint::create(kClient);
    if (!me || me->call(kServer, Divide{6, 3}, 5s)->value != 2) return 1;
    return me->call(kServer, Stop{}, 5s) ? 0 : 2;
  });
  const auto stop = [](const Stop&, Caller caller) { caller.stop(); };
  auto served = self->serve_one(5s, divide, stop);
  ASSERT_TRUE(served) << served.error_name();
  EXPECT_EQ(*served, dvk::Served::kGoOn);
  served = self->serve_one(5s, divide, stop);
  ASSERT_TRUE(served) << served.error_name();
  EXPECT_EQ(*served, dvk::Served::kStop);
  EXPECT_EQ(node.finish(client), 0);
}

// Somebody else may end it as well.
TEST(Serve, EndsWhenItIsWokenUp) {
  auto self = dvk::Endpoint::create(kServer);
  ASSERT_TRUE(self) << self.error_name();
  const pid_t waker = OneNode::instance().start([] {
    if (!OneNode::instance().await_waiting(kServer)) return 1;
    return dvk_wakeup(0, kServer) == OK ? 0 : 2;
  });
  EXPECT_EQ(self->serve(divide).error(), EDVSWOKENUP);
  EXPECT_EQ(OneNode::instance().finish(waker), 0);
}

// A client whose deadline passes is not the server's affair, and gets no late answer.
TEST(Serve, GoesOnWhenAClientTimedOut) {
  OneNode& node = OneNode::instance();
  const pid_t server = node.start([] {
    auto self = dvk::Endpoint::create(kServer);
    if (!self) return 1;
    const auto slowly = [](const Sleepy&, Caller caller) {
      // Its wait for the answer ends by the deadline; it may be in the next one already.
      const dvs::dvk::Region& region = OneNode::instance().region();
      const auto& client = region.at(region.slot_of(caller.endpoint()));
      const dvs::dvk::RxWord wait = dvs::dvk::load_rx(client);
      while (dvs::dvk::load_rx(client) == wait) std::this_thread::yield();
    };
    return self->serve(divide, slowly, [](const Stop&, Caller caller) { caller.stop(); }) ? 0 : 2;
  });
  ASSERT_TRUE(node.await_waiting(kServer));
  auto self = dvk::Endpoint::create(kClient);
  ASSERT_TRUE(self) << self.error_name();
  EXPECT_EQ(self->call(kServer, Sleepy{}, 20ms).error(), EDVSTIMEDOUT);
  EXPECT_EQ(self->call(kServer, Divide{9, 3}, 5s)->value, 3);
  EXPECT_TRUE(self->call(kServer, Stop{}, 5s));
  EXPECT_EQ(node.finish(server), 0);
}

// What a server of several threads is: each has its endpoint and serves it.
TEST(Serve, ByThreadsWithAnEndpointEach) {
  std::array<std::thread, 4> threads;
  for (int i = 0; i < 4; ++i) {
    threads[static_cast<size_t>(i)] = std::thread([i] {
      auto self = dvk::Endpoint::create_for_thread(20 + i);
      ASSERT_TRUE(self) << self.error_name();
      EXPECT_TRUE(self->serve(divide, [](const Stop&, Caller caller) { caller.stop(); }));
    });
  }
  auto self = dvk::Endpoint::create(kClient);
  ASSERT_TRUE(self) << self.error_name();
  for (int i = 0; i < 4; ++i) ASSERT_GE(dvk_wait4bindep_T(20 + i, 10'000), 0);
  for (int n = 0; n < 100; ++n) {
    EXPECT_EQ(self->call(20 + n % 4, Divide{n, 1}, 5s)->value, n);
  }
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(self->call(20 + i, Stop{}, 5s));
  for (std::thread& thread : threads) thread.join();
}

// tests/api/no_exceptions.cc: both sides of this, compiled with -fno-exceptions -fno-rtti. Its exit
// status is 0 when everything was right and nothing was allocated.
TEST(NoExceptions, ServerAndClientAllocateNothing) {
  OneNode& node = OneNode::instance();
  const std::string program = std::string(std::getenv("DVS_BUILD_DIR")) + "/bin/no_exceptions";
  const pid_t server = node.start_program({program, "server", "24"});
  const pid_t client = node.start_program({program, "client", "25", "24"});
  EXPECT_EQ(node.finish(client), 0);
  EXPECT_EQ(node.finish(server), 0);
}

}  // namespace
