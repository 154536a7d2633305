// Who rings is heard, whether the loop is looking or asleep, and nobody is heard after he has left:
// with each kind of sleeper that this kernel has.
#include "node/doorbells.h"

#include <gtest/gtest.h>

#include <boost/asio/post.hpp>
#include <cstdio>
#include <latch>
#include <thread>

#include "dvk/futex.h"

namespace dvs {
namespace {

using std::chrono_literals::operator""ms;

using Make = std::unique_ptr<Sleepers> (*)(Executor&);

class DoorbellsTest : public testing::TestWithParam<Make> {
 protected:
  void stop() {
    boost::asio::post(executor_, [this] { executor_.stop(); });
  }

  Executor executor_{1};
  Doorbells doorbells_{executor_, GetParam()(executor_)};
  dvk::Atomic<uint32_t> word_{0};
};

TEST_P(DoorbellsTest, EveryRingIsHeard) {
  constexpr uint32_t kRings = 200;
  std::atomic<uint32_t> heard = 0;
  const auto listening = doorbells_.listen(word_, [&] { heard = dvk::event_prepare(word_); });
  std::thread ringer([&] {
    for (uint32_t i = 1; i <= kRings; ++i) {
      dvk::event_signal(word_);
      // Each waits for the one before: so some find the loop awake and some asleep.
      while (heard / 2 < i) {
      }
      if (i % 3 == 0) std::this_thread::sleep_for(1ms);
    }
    stop();
  });
  doorbells_.run();
  ringer.join();
  EXPECT_EQ(heard / 2, kRings);
}

TEST_P(DoorbellsTest, ARingBeforeTheFirstLookIsHeard) {
  dvk::event_signal(word_);
  const auto listening = doorbells_.listen(word_, [&] { stop(); });
  doorbells_.run();
}

TEST_P(DoorbellsTest, TimersGoOnWhileNobodyRings) {
  int ticks = 0;
  std::function<void()> tick = [&] {
    if (++ticks == 5) return stop();
    run_after(executor_, 2ms, tick);
  };
  tick();
  doorbells_.run();
  EXPECT_EQ(ticks, 5);
}

// As when a link's other end sends as fast as this one reads.
TEST_P(DoorbellsTest, ARingIsHeardWhileThereIsAlwaysMoreToDo) {
  constexpr int kEnough = 1'000'000;
  int turns = 0;
  int turns_until_heard = 0;
  std::function<void()> turn = [&] {
    if (turns == 1'000) dvk::event_signal(word_);
    if (++turns == kEnough) return executor_.stop();
    boost::asio::post(executor_, turn);
  };
  const auto listening = doorbells_.listen(word_, [&] {
    if (turns <= 1'000) return;  // the call at the start
    turns_until_heard = turns - 1'000;
    executor_.stop();
  });
  turn();
  doorbells_.run();
  EXPECT_GT(turns_until_heard, 0);
  EXPECT_LT(turns_until_heard, 100);
}

TEST_P(DoorbellsTest, WhoLeavesIsNotCalledAnyMore) {
  int calls = 0;
  Doorbells::Listening listening;
  listening = doorbells_.listen(word_, [&] {
    ++calls;
    listening.reset();
    dvk::event_signal(word_);
    run_after(executor_, 5ms, [this] { stop(); });
  });
  doorbells_.run();
  EXPECT_EQ(calls, 1);
}

TEST_P(DoorbellsTest, OfManyTheRightOneIsHeard) {
  constexpr int kDcs = 64;
  std::vector<dvk::Atomic<uint32_t>> words(kDcs);
  std::vector<int> heard(kDcs);
  std::vector<Doorbells::Listening> listening;
  for (size_t i = 0; i < kDcs; ++i) {
    listening.push_back(doorbells_.listen(words[i], [&, i] { ++heard[i]; }));
  }
  std::thread ringer([&] {
    std::latch settled(1);
    run_after(executor_, 5ms, [&] { settled.count_down(); });
    settled.wait();
    std::latch forgotten(1);
    boost::asio::post(executor_, [&] {
      std::fill(heard.begin(), heard.end(), 0);
      forgotten.count_down();
    });
    forgotten.wait();
    dvk::event_signal(words[40]);
    run_after(executor_, 5ms, [this] { stop(); });
  });
  doorbells_.run();
  ringer.join();
  for (size_t i = 0; i < kDcs; ++i) EXPECT_EQ(heard[i], i == 40 ? 1 : 0) << i;
}

TEST_P(DoorbellsTest, WhoRingsAndDiesBeforeTheWakeIsHeard) {
  const auto listening = doorbells_.listen(word_, [&] {
    if (word_ >= 2) stop();
  });
  std::thread ringer([&] {
    while ((word_ & 1) == 0) {
    }
    word_ = 2;  // the ring, without the wake
  });
  doorbells_.run();
  ringer.join();
}

std::vector<Make> kinds() {
  std::vector<Make> kinds{make_sleeping_threads};
  Executor executor;
  if (make_sleeping_ring(executor) != nullptr) {
    kinds.push_back(make_sleeping_ring);
  } else {
    std::puts("this kernel has no futexes in io_uring: sleeping threads only");
  }
  return kinds;
}

INSTANTIATE_TEST_SUITE_P(Sleepers, DoorbellsTest, testing::ValuesIn(kinds()), [](const auto& kind) {
  return kind.param == make_sleeping_ring ? "Ring" : "Threads";
});

TEST(HaltPollTest, LooksWhereItIsWorthIt) {
  HaltPoll patience;
  for (int i = 0; i < 20; ++i) patience.waited(1'000'000);
  EXPECT_LT(patience.window_ns(), 1000);
  patience.waited(HaltPoll::kMostNs - 1);
  EXPECT_EQ(patience.window_ns(), HaltPoll::kMostNs);
}

}  // namespace
}  // namespace dvs
