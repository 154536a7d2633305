#include "dvk/caller.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "dvk/node_view.h"

namespace dvs::dvk {
namespace {

uint32_t my_tid() { return static_cast<uint32_t>(syscall(SYS_gettid)); }

// One region, endpoints bound as dvsd would, each used by a thread of this test.
class CallerTest : public testing::Test {
 protected:
  void bind_local(int endpoint) {
    Identity identity;
    identity.endpoint = endpoint;
    identity.incarnation = ++incarnation_;
    identity.epoch = 1;
    identity.kind = Kind::kLocal;
    identity.pid = getpid();
    identity.tid = static_cast<int>(my_tid());
    ASSERT_TRUE(bind(region_, slot(endpoint), identity));
  }
  uint32_t slot(int endpoint) const { return region_.slot_of(endpoint); }

  template <typename Call>
  int as(int endpoint, Call call) {
    Caller caller(region_, slot(endpoint), {my_tid(), static_cast<uint32_t>(getpid())});
    if (caller.status() != OK) return caller.status();
    return call(caller);
  }
  int send(int from, int to, int type, Deadline deadline = Deadline::after_ms(5000)) {
    message m{};
    m.m_type = type;
    return as(from, [&](Caller& c) { return c.send(to, m, deadline); });
  }
  int receive(int at, int from, message& m, Deadline deadline = Deadline::after_ms(5000),
              RxMode mode = RxMode::kAny) {
    return as(at, [&](Caller& c) { return c.receive(from, m, deadline, mode); });
  }
  int sendrec(int from, int to, message& m, Deadline deadline = Deadline::after_ms(5000)) {
    return as(from, [&](Caller& c) { return c.sendrec(to, m, deadline); });
  }
  int reply(int from, int to, message& m, Deadline deadline = Deadline::after_ms(5000)) {
    return as(from, [&](Caller& c) { return c.reply(to, m, deadline); });
  }

  Region region_ = std::move(*Region::anonymous(RegionSpec{}));
  uint64_t incarnation_ = 0;
};

TEST_F(CallerTest, SendIsReceivedWithItsSource) {
  bind_local(1);
  bind_local(2);
  std::thread sender([&] { EXPECT_EQ(send(1, 2, 77), OK); });
  message m{};
  EXPECT_EQ(receive(2, ANY, m), OK);
  EXPECT_EQ(m.m_type, 77);
  EXPECT_EQ(m.m_source, 1);
  sender.join();
}

TEST_F(CallerTest, RequestsAreAnsweredInOrderByOneServerForManyClients) {
  constexpr int kClients = 8;
  constexpr int kRequests = 2000;
  bind_local(1);
  for (int c = 0; c < kClients; ++c) bind_local(10 + c);
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([this, c] {
      for (int i = 0; i < kRequests; ++i) {
        message m{};
        m.m_type = i;
        m.m1_i1 = c;
        ASSERT_EQ(sendrec(10 + c, 1, m), OK);
        ASSERT_EQ(m.m_type, i + 1);
        ASSERT_EQ(m.m1_i1, c);
      }
    });
  }
  std::vector<int> next(kClients, 0);
  for (int i = 0; i < kClients * kRequests; ++i) {
    message m{};
    ASSERT_EQ(receive(1, ANY, m, Deadline::after_ms(10'000), RxMode::kRequest), OK);
    ASSERT_EQ(m.m_type, next[static_cast<size_t>(m.m1_i1)]++);
    ASSERT_EQ(m.m_source, 10 + m.m1_i1);
    m.m_type += 1;
    ASSERT_EQ(reply(1, m.m_source, m), OK);
  }
  for (auto& client : clients) client.join();
}

TEST_F(CallerTest, ATimedOutSendIsNeverReceived) {
  bind_local(1);
  bind_local(2);
  EXPECT_EQ(send(1, 2, 5, Deadline::after_ms(20)), EDVSTIMEDOUT);
  message m{};
  EXPECT_EQ(receive(2, ANY, m, Deadline::at_ns(0)), EDVSAGAIN);
}

TEST_F(CallerTest, NoWaitSendToABusyProcessSaysAgain) {
  bind_local(1);
  bind_local(2);
  EXPECT_EQ(send(1, 2, 5, Deadline::at_ns(0)), EDVSAGAIN);
}

TEST_F(CallerTest, ReplyToAClientThatGaveUpIsRefused) {
  bind_local(1);
  bind_local(2);
  message m{};
  std::thread client([&] {
    message request{};
    EXPECT_EQ(sendrec(2, 1, request, Deadline::after_ms(50)), EDVSTIMEDOUT);
  });
  ASSERT_EQ(receive(1, ANY, m), OK);
  client.join();
  EXPECT_EQ(reply(1, 2, m), EDVSPROCSTS);
}

TEST_F(CallerTest, NotificationsComeBeforeMessagesAndMerge) {
  bind_local(1);
  bind_local(2);
  bind_local(3);
  auto notify = [&](long value) {
    return as(1, [&](Caller& c) { return c.notify(SELF, 2, value, Deadline::after_ms(1000)); });
  };
  EXPECT_EQ(notify(7), OK);
  EXPECT_EQ(notify(8), OK);
  std::thread sender([&] { EXPECT_EQ(send(3, 2, 99), OK); });
  message m{};
  EXPECT_EQ(receive(2, ANY, m), OK);
  EXPECT_EQ(m.m_type, NOTIFY_FROM(1));
  EXPECT_EQ(m.m9_l1, 8);
  EXPECT_EQ(receive(2, ANY, m), OK);
  EXPECT_EQ(m.m_type, 99);
  sender.join();
  EXPECT_EQ(receive(2, ANY, m, Deadline::at_ns(0)), EDVSAGAIN);
}

// The first is in the receiver's hands when the second comes, whether it has run since or not.
TEST_F(CallerTest, AWaitingReceiverTakesANotificationAtOnce) {
  constexpr int kRounds = 1000;
  bind_local(1);
  bind_local(2);
  std::thread sender([&] {
    for (long round = 0; round < kRounds; ++round) {
      while (load_rx(region_.at(slot(2))).phase != RxPhase::kWaiting) std::this_thread::yield();
      for (long i : {0, 1}) {
        as(1,
           [&](Caller& c) { return c.notify(SELF, 2, 2 * round + i, Deadline::after_ms(1000)); });
      }
      message m{};
      EXPECT_EQ(receive(1, 2, m), OK);  // both have come
    }
  });
  for (long number = 0; number < 2 * kRounds; ++number) {
    message m{};
    ASSERT_EQ(receive(2, ANY, m), OK);
    ASSERT_EQ(m.m_type, NOTIFY_FROM(1));
    ASSERT_EQ(m.m9_l1, number);
    if (number % 2 == 1) {
      EXPECT_EQ(send(2, 1, 0), OK);
    }
  }
  sender.join();
}

TEST_F(CallerTest, ANotificationIsNoAnswerAndNoRequest) {
  bind_local(1);
  bind_local(2);
  std::thread client([&] {
    message m{};
    EXPECT_EQ(sendrec(2, 1, m), OK);
    EXPECT_EQ(m.m_type, 5);
    EXPECT_EQ(receive(2, ANY, m), OK);
    EXPECT_EQ(m.m_type, NOTIFY_FROM(1));
  });
  message m{};
  ASSERT_EQ(receive(1, ANY, m, Deadline::never(), RxMode::kRequest), OK);
  as(1, [&](Caller& c) { return c.notify(SELF, 2, 7, Deadline::after_ms(1000)); });
  m.m_type = 5;
  EXPECT_EQ(reply(1, 2, m), OK);
  client.join();
}

TEST_F(CallerTest, ReceiveFromOneSourceLeavesTheOthersQueued) {
  bind_local(1);
  bind_local(2);
  bind_local(3);
  std::thread other([&] { EXPECT_EQ(send(3, 2, 30), OK); });
  while (!region_.senders(slot(2)).test(slot(3))) std::this_thread::yield();
  std::thread wanted([&] { EXPECT_EQ(send(1, 2, 10), OK); });
  message m{};
  EXPECT_EQ(receive(2, 1, m), OK);
  EXPECT_EQ(m.m_type, 10);
  EXPECT_EQ(receive(2, ANY, m), OK);
  EXPECT_EQ(m.m_type, 30);
  other.join();
  wanted.join();
}

TEST_F(CallerTest, ReceiveFromOneSourceLeavesTheOthersNotificationsPending) {
  bind_local(1);
  bind_local(2);
  bind_local(3);
  auto notify = [&](int from) {
    return as(from, [&](Caller& c) { return c.notify(SELF, 2, from, Deadline::after_ms(1000)); });
  };
  EXPECT_EQ(notify(3), OK);
  message m{};
  EXPECT_EQ(receive(2, 1, m, Deadline::at_ns(0)), EDVSAGAIN);
  EXPECT_EQ(notify(1), OK);
  EXPECT_EQ(receive(2, 1, m), OK);
  EXPECT_EQ(m.m_type, NOTIFY_FROM(1));
  EXPECT_EQ(receive(2, ANY, m), OK);
  EXPECT_EQ(m.m_type, NOTIFY_FROM(3));
}

// Wherever in its sendrec the client is when a signal comes, the call goes on and nothing is lost.
TEST_F(CallerTest, SignalsEndNoCallAndLoseNothing) {
  constexpr int kRequests = 5000;
  struct sigaction action {};
  action.sa_handler = [](int) {};  // no SA_RESTART
  struct sigaction before {};
  ::sigaction(SIGUSR1, &action, &before);
  bind_local(1);
  bind_local(2);
  std::atomic<bool> over = false;
  std::thread client([&] {
    for (int i = 0; i < kRequests; ++i) {
      message m{};
      m.m_type = i;
      EXPECT_EQ(sendrec(2, 1, m), OK);
      EXPECT_EQ(m.m_type, i + 1);
      if (HasFailure()) break;
    }
    over = true;
  });
  std::thread disturber([&, target = client.native_handle()] {
    while (!over) ::pthread_kill(target, SIGUSR1);
  });
  for (int i = 0; i < kRequests && !over; ++i) {
    message m{};
    EXPECT_EQ(receive(1, ANY, m), OK);
    EXPECT_EQ(m.m_type, i);
    m.m_type += 1;
    EXPECT_EQ(reply(1, 2, m), OK);
  }
  disturber.join();
  client.join();
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_F(CallerTest, PeersOfAProcessThatGoesAreTold) {
  bind_local(1);
  bind_local(2);
  bind_local(3);
  bind_local(4);
  message taken{};
  std::thread asker([&] {
    message m{};
    EXPECT_EQ(sendrec(2, 1, m), EDVSSRCDIED);
  });
  ASSERT_EQ(receive(1, 2, taken), OK);
  std::thread sender([&] { EXPECT_EQ(send(3, 1, 1), EDVSDSTDIED); });
  std::thread listener([&] {
    message m{};
    EXPECT_EQ(receive(4, 1, m), EDVSSRCDIED);
  });
  while (!region_.senders(slot(1)).test(slot(3)) ||
         load_rx(region_.at(slot(4))).phase != RxPhase::kWaiting) {
    std::this_thread::yield();
  }
  unbind(region_, slot(1));
  asker.join();
  sender.join();
  listener.join();
}

TEST_F(CallerTest, AClosedGateStopsTheProcessUntilItOpens) {
  bind_local(1);
  bind_local(2);
  close_gate(region_, slot(1));
  ASSERT_TRUE(settle(region_, {slot(1)}));
  std::atomic<bool> sent = false;
  std::thread sender([&] {
    EXPECT_EQ(send(1, 2, 4), OK);
    sent = true;
  });
  message m{};
  EXPECT_EQ(receive(2, ANY, m, Deadline::after_ms(50)), EDVSTIMEDOUT);
  EXPECT_FALSE(sent);
  open_gate(region_, slot(1));
  EXPECT_EQ(receive(2, ANY, m), OK);
  sender.join();
}

TEST_F(CallerTest, NothingIsPushedIntoAParkedProcess) {
  bind_local(1);
  bind_local(2);
  std::thread receiver([&] {
    message m{};
    EXPECT_EQ(receive(2, ANY, m), OK);
    EXPECT_EQ(m.m_type, 6);
  });
  while (load_rx(region_.at(slot(2))).phase != RxPhase::kWaiting) std::this_thread::yield();
  close_gate(region_, slot(2));
  while (!settle(region_, {slot(2)})) std::this_thread::yield();
  EXPECT_EQ(send(1, 2, 5, Deadline::after_ms(30)), EDVSTIMEDOUT);
  open_gate(region_, slot(2));
  EXPECT_EQ(send(1, 2, 6), OK);
  receiver.join();
}

TEST_F(CallerTest, CopiesBetweenWaitingProcesses) {
  bind_local(1);
  bind_local(2);
  std::string from(100'000, 'x');
  std::string to(100'000, 'y');
  auto copy = [&](int src, int dst) {
    return as(1, [&](Caller& c) {
      return c.vcopy(src, from.data(), dst, to.data(), to.size(), Deadline::after_ms(1000));
    });
  };
  EXPECT_EQ(copy(SELF, 2), EDVSPROCSTS);
  EXPECT_EQ(copy(1, 1), EDVSPERM);
  std::thread client([&] {
    message m{};
    EXPECT_EQ(sendrec(2, 1, m), OK);
  });
  message m{};
  ASSERT_EQ(receive(1, 2, m), OK);
  EXPECT_EQ(copy(SELF, 2), OK);
  EXPECT_EQ(to, from);
  EXPECT_EQ(reply(1, 2, m), OK);
  client.join();
}

TEST_F(CallerTest, AnEarlierGenerationIsNotItsSuccessor) {
  bind_local(1);
  bind_local(_ENDPOINT(4, 100));
  EXPECT_EQ(send(1, _ENDPOINT(3, 100), 0, Deadline::at_ns(0)), EDVSENDPOINT);
  EXPECT_EQ(send(1, _ENDPOINT(4, 100), 0, Deadline::at_ns(0)), EDVSAGAIN);
  EXPECT_EQ(send(1, 100, 0, Deadline::at_ns(0)), EDVSAGAIN);
}

// ---- the gate -----------------------------------------------------------------------------------

TEST_F(CallerTest, ABackupsCallsEndAtTheirDeadline) {
  bind_local(1);
  region_.at(slot(1)).kind.store(static_cast<uint32_t>(Kind::kBackup));
  EXPECT_EQ(Caller(region_, slot(1), {my_tid()}, Deadline::at_ns(0)).status(), EDVSAGAIN);
  EXPECT_EQ(Caller(region_, slot(1), {my_tid()}, Deadline::after_ms(20)).status(), EDVSTIMEDOUT);
}

TEST_F(CallerTest, SoDoCallsOfWhoMigratesForLong) {
  bind_local(1);
  close_gate(region_, slot(1));
  EXPECT_EQ(Caller(region_, slot(1), {my_tid()}, Deadline::at_ns(0)).status(), EDVSAGAIN);
  EXPECT_EQ(Caller(region_, slot(1), {my_tid()}, Deadline::after_ms(20)).status(), EDVSTIMEDOUT);
  EXPECT_EQ(region_.at(slot(1)).inside.load(), 0u);
  open_gate(region_, slot(1));
  EXPECT_EQ(Caller(region_, slot(1), {my_tid()}, Deadline::at_ns(0)).status(), OK);
}

TEST_F(CallerTest, AShortMigrationDoesNotMakeACallFail) {
  bind_local(1);
  bind_local(2);
  std::thread sender([&] { EXPECT_EQ(send(2, 1, 77), OK); });
  while (load_tx(region_.at(slot(2))).phase != TxPhase::kPosted) std::this_thread::yield();
  close_gate(region_, slot(1));
  std::thread mover([&] {
    const auto& event = region_.at(slot(1)).event;
    while ((event.load() & 1) == 0) std::this_thread::yield();  // until it sleeps at the gate
    open_gate(region_, slot(1));
  });
  Caller caller(region_, slot(1), {my_tid()}, Deadline::at_ns(0));
  EXPECT_EQ(caller.status(), OK);
  message m{};
  EXPECT_EQ(caller.receive(ANY, m, Deadline::at_ns(0), RxMode::kAny), OK);
  EXPECT_EQ(m.m_type, 77);
  mover.join();
  sender.join();
}

// Both at once, a little earlier or later each time.
TEST_F(CallerTest, AWakeUpMovesAlongOrIsRefused) {
  constexpr int kTimes = 50'000;
  bind_local(1);
  Descriptor& d = region_.at(slot(1));
  const auto idle = [&](int loads) {
    for (; loads > 0; --loads) (void)d.cpu.load();
  };
  std::atomic<int> begun = 0;
  std::atomic<int> ended = 0;
  int rc = OK;
  std::thread waker([&] {
    for (int i = 1; i <= kTimes; ++i) {
      while (begun.load() != i) continue;
      idle(i % 61);
      rc = wake_up(region_, slot(1));
      ended.store(i);
    }
  });
  int lost = 0;
  for (int i = 1; i <= kTimes; ++i) {
    begun.store(i);
    idle(i % 67);
    close_gate(region_, slot(1));
    const bool moves_along = (d.flags.load() & kWokenUp) != 0;
    while (ended.load() != i) continue;
    if ((rc != EDVSMIGRATE) != moves_along) ++lost;
    d.flags.store(0);
  }
  waker.join();
  EXPECT_EQ(lost, 0);
}

// A request has failed, and before its call returns the endpoint is taken away: that does not make
// it answered.
TEST_F(CallerTest, AnUnbindTurnsNoFailureIntoSuccess) {
  for (const int endpoint : {1, 2, 3}) bind_local(endpoint);
  Descriptor& d = region_.at(slot(1));
  std::thread client([&] {
    message m{};
    EXPECT_EQ(sendrec(1, 2, m), EDVSSRCDIED);
  });
  while (load_tx(d).phase != TxPhase::kPosted) std::this_thread::yield();
  // A copy keeps the call from returning.
  Descriptor& copier = region_.at(slot(3));
  copier.touching[0].store(slot(1) + 1);
  ASSERT_TRUE(claim_memory(d));
  finish(region_, slot(1), load_tx(d).number, EDVSSRCDIED);
  while (d.touched.load() != 0) std::this_thread::yield();
  unbind(region_, slot(1));
  copier.touching[0].store(0);
  client.join();
}

// A copy that began before the endpoint was taken away still touches its process's memory.
TEST_F(CallerTest, WhoIsUnboundInAWaitReturnsWhenACopyIsOver) {
  bind_local(1);
  bind_local(2);
  Descriptor& copier = region_.at(slot(2));
  std::atomic<bool> over = false;
  std::atomic<bool> returned = false;
  std::thread receiver([&] {
    message m{};
    EXPECT_EQ(receive(1, ANY, m), EDVSSHUTDOWN);
    EXPECT_TRUE(over.load()) << "it returned while its memory was being copied";
    returned.store(true);
  });
  Descriptor& d = region_.at(slot(1));
  while (load_rx(d).phase != RxPhase::kWaiting || (d.event.load() & 1) == 0)
    std::this_thread::yield();
  copier.touching[0].store(slot(1) + 1);
  ASSERT_TRUE(claim_memory(d));
  unbind(region_, slot(1));
  // Until it has looked again, and sleeps again.
  while ((d.event.load() & 1) == 0 && !returned.load()) std::this_thread::yield();
  over.store(true);
  copier.touching[0].store(0);
  receiver.join();
}

}  // namespace
}  // namespace dvs::dvk
