// All interleavings of a few calls each; with three parties and more, all with at most kBound
// preemptions. DVS_MODEL_BOUND is another bound, -1 none. A failure is told as the run that leads
// to it, access by access.
#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "proxy/explore/model.h"

namespace dvs::explore {
namespace {
using dvk::Deadline;
using dvk::RxMode;
constexpr int kA = 1;
constexpr int kB = 2;
constexpr int kC = 3;
constexpr int kBound = 2;

constexpr int64_t kSoon = 1000;
Deadline soon() { return Deadline::at_ns(kSoon); }

void bind_all(Model& m, std::initializer_list<int> endpoints) {
  for (const int endpoint : endpoints) m.bind(endpoint);
}
void dies(Model& m, int victim) {
  m.thread("dvsd", [&m, victim] {
    m.kill(victim);
    dvk::bury(m.region(), m.slot(victim));
    dvk::unbind(m.region(), m.slot(victim));
  });
}
void is_unbound(Model& m, int victim) {
  m.thread("dvsd", [&m, victim] {
    m.excuse(victim);
    while (!dvk::unbind(m.region(), m.slot(victim))) sched_yield();
  });
}
void stands_still(Model& m, int endpoint) {
  m.thread("dvsd", [&m, endpoint] {
    dvk::close_gate(m.region(), m.slot(endpoint));
    while (!dvk::settle(m.region(), {m.slot(endpoint)})) sched_yield();
    dvk::open_gate(m.region(), m.slot(endpoint));
  });
}
void sends(Model& m, int from, int to) {
  m.party(from, [to](Party& p) { p.send(to); });
}
void receives(Model& m, int at, int times, int from = ANY) {
  m.party(at, [times, from](Party& p) {
    for (int i = 0; i < times; ++i) p.receive(from);
  });
}
void asks(Model& m, int from, int to) {
  m.party(from, [to](Party& p) { p.sendrec(to); });
}
void serves(Model& m, int at) {
  m.party(at, [](Party& p) {
    if (const int client = p.receive(ANY, Deadline::never(), RxMode::kRequest)) p.reply(client);
  });
}

void receives_as_next_owner(Model& m, int at) {
  m.party(
      at,
      [&m, at](Party& p) {
        const dvk::Descriptor& d = m.region().at(m.slot(at));
        while (d.incarnation.load() != 2 || dvk::load_kind(d) != dvk::Kind::kLocal) sched_yield();
        p.receive();
      },
      2);
}

const Scenario kScenarios[] = {
    {"SendAndReceive",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
     },
     {"1: 0; 2: 1"}},
    {"SendAndReceiveFrom",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1, kA);
     },
     {"1: 0; 2: 1"}},
    {"TwoSendersOneReceiver",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       sends(m, kA, kB);
       sends(m, kC, kB);
       receives(m, kB, 2);
     },
     {"1: 0; 3: 0; 2: 1 3", "1: 0; 3: 0; 2: 3 1"},
     kBound},
    {"SendThatTimesOut",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.clock({kSoon});
       m.party(kA, [](Party& p) { p.send(kB, soon()); });
       m.party(kB, [](Party& p) { p.receive(ANY, soon()); });
     },
     {"1: -61; 2: -61", "1: 0; 2: 1"}},
    {"RequestAndReply",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
     },
     {"1: 0; 2: 1 0"}},
    {"RequestThatTimesOut",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.clock({kSoon});
       m.party(kA, [](Party& p) { p.sendrec(kB, soon()); });
       m.party(kB, [](Party& p) {
         if (const int client = p.receive(ANY, soon())) p.reply(client);
       });
     },
     {"1: -61; 2: -61", "1: -61; 2: 1 -324", "1: 0; 2: 1 0"},
     kBound},
    {"RequestsOfEachOther",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.clock({kSoon});
       m.party(kA, [](Party& p) { p.sendrec(kB, soon()); });
       m.party(kB, [](Party& p) { p.send(kA, soon()); });
     },
     {"1: -61; 2: -101", "1: -61; 2: -61"}},
    {"RequestHandedOn",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       asks(m, kA, kB);
       m.party(kB, [](Party& p) { p.relay(p.receive(), kC); });
       serves(m, kC);
     },
     {"1: 0; 2: 1 0; 3: 1 0"},
     kBound},
    {"TwoNotifyOneReceives",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       m.party(kA, [](Party& p) { p.notify(kB); });
       m.party(kC, [](Party& p) { p.notify(kB); });
       receives(m, kB, 2);
     },
     {"1: 0; 3: 0; 2: 1001 1003", "1: 0; 3: 0; 2: 1003 1001"},
     kBound},
    {"TwoNotificationsMayMerge",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) {
         p.notify(kB);
         p.notify(kB);
       });
       m.party(kB, [](Party& p) {
         p.receive();
         p.receive(ANY, Deadline::at_ns(0));
       });
     },
     {"1: 0 0; 2: 1001 -211", "1: 0 0; 2: 1001 1001"}},
    // One sender's messages come in the order in which it sent them, notifications among them.
    {"NotifiesThenSends",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) {
         p.notify(kB);
         p.send(kB);
       });
       receives(m, kB, 2);
     },
     {"1: 0 0; 2: 1001 1"}},
    {"NotifiesThenAsksWhoReceivesFromIt",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) {
         p.notify(kB);
         p.sendrec(kB);
       });
       m.party(kB, [](Party& p) {
         p.receive(kA);
         if (const int client = p.receive(kA)) p.reply(client);
       });
     },
     {"1: 0 0; 2: 1001 1 0"},
     kBound},
    {"NotificationAndTimeOut",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.clock({kSoon});
       m.party(kA, [](Party& p) { p.notify(kB); });
       m.party(kB, [](Party& p) { p.receive(kA, soon()); });
     },
     {"1: 0; 2: -61", "1: 0; 2: 1001"}},
    {"WakeUp",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) { p.wake(kB); });
       receives(m, kB, 1);
     },
     {"1: 0; 2: -348"}},
    {"WakeUpAndSend",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       m.party(kA, [](Party& p) { p.wake(kB); });
       sends(m, kC, kB);
       receives(m, kB, 2);
     },
     {"1: 0; 3: 0; 2: -348 3", "1: 0; 3: 0; 2: 3 -348"},
     kBound},
    {"ReceiverIsUnbound",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
       is_unbound(m, kB);
     },
     {"1: -109; 2: -310", "1: -109; 2: -65", "1: 0; 2: -65", "1: 0; 2: 1"},
     kBound},
    {"SenderIsUnbound",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1, kA);
       is_unbound(m, kA);
     },
     {"1: -310; 2: -108", "1: -65; 2: -108", "1: -65; 2: 1", "1: 0; 2: 1"},
     kBound},
    {"ClientIsUnbound",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
       is_unbound(m, kA);
     },
     {"1: -310; 2: asleep", "1: -65; 2: 1 -109", "1: -65; 2: 1 0", "1: -65; 2: asleep",
      "1: 0; 2: 1 0"},
     kBound},
    {"ServerIsUnbound",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
       is_unbound(m, kB);
     },
     {"1: -108; 2: -65", "1: -108; 2: 1 -310", "1: -109; 2: -310", "1: -109; 2: -65",
      "1: 0; 2: 1 0"},
     kBound},
    {"SenderDies",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
       dies(m, kA);
     },
     {"1: 0; 2: 1", "2: 1", "2: asleep"},
     kBound},
    {"SenderDiesAnotherSends",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       sends(m, kA, kB);
       sends(m, kC, kB);
       receives(m, kB, 1);
       dies(m, kA);
     },
     {"1: 0; 3: asleep; 2: 1", "3: 0; 2: 3", "3: asleep; 2: 1"},
     kBound},
    {"NotifierDies",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) { p.notify(kB); });
       receives(m, kB, 1);
       dies(m, kA);
     },
     {"1: 0; 2: 1001", "2: 1001", "2: asleep"}},
    {"ReceiverDies",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
       dies(m, kB);
     },
     {"1: -109", "1: 0", "1: 0; 2: 1"},
     kBound},
    {"ClientDies",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
       dies(m, kA);
     },
     {"1: 0; 2: 1 0", "2: 1 -109", "2: 1 -324", "2: 1 0", "2: asleep"},
     kBound},
    {"ServerDies",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
       dies(m, kB);
     },
     {"1: -108", "1: -109", "1: 0", "1: 0; 2: 1 0"},
     kBound},
    {"ReceiverStandsStill",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
       stands_still(m, kB);
     },
     {"1: 0; 2: 1"},
     kBound},
    {"SenderStandsStill",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       receives(m, kB, 1);
       stands_still(m, kA);
     },
     {"1: 0; 2: 1"},
     kBound},
    {"NotifiedOneStandsStill",
     [](Model& m) {
       bind_all(m, {kA, kB});
       m.party(kA, [](Party& p) { p.notify(kB); });
       receives(m, kB, 1);
       stands_still(m, kB);
     },
     {"1: 0; 2: 1001"},
     kBound},
    {"ClientStandsStill",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       serves(m, kB);
       stands_still(m, kA);
     },
     {"1: 0; 2: 1 0"},
     kBound},
    {"SlotIsUsedAgain",
     [](Model& m) {
       bind_all(m, {kA, kB});
       sends(m, kA, kB);
       m.thread("dvsd", [&m] {
         while (!dvk::unbind(m.region(), m.slot(kB))) sched_yield();
         m.bind(kB, 2);
       });
       receives_as_next_owner(m, kB);
     },
     {"1: -109; 2: asleep", "1: 0; 2: 1"},
     kBound},
    {"SlotOfADeadProcessIsUsedAgain",
     [](Model& m) {
       bind_all(m, {kA, kB, kC});
       sends(m, kA, kB);
       sends(m, kC, kB);
       receives(m, kB, 1);
       m.thread("dvsd", [&m] {
         m.kill(kB);
         dvk::bury(m.region(), m.slot(kB));
         dvk::unbind(m.region(), m.slot(kB));
         m.bind(kB, 2);
       });
       receives_as_next_owner(m, kB);
     },
     {"1: -109; 3: -109; 2: asleep", "1: -109; 3: 0; 2: 3", "1: -109; 3: 0; 2: 3; 2: asleep",
      "1: -109; 3: 0; 2: asleep", "1: 0; 3: -109; 2: 1", "1: 0; 3: -109; 2: 1; 2: asleep",
      "1: 0; 3: -109; 2: asleep", "1: 0; 3: 0; 2: 1", "1: 0; 3: 0; 2: 1; 2: 3", "1: 0; 3: 0; 2: 3",
      "1: 0; 3: 0; 2: 3; 2: 1", "1: 0; 3: asleep; 2: 1", "1: asleep; 3: 0; 2: 3"},
     1},
    {"DvsdDiesWhileItUnbinds",
     [](Model& m) {
       bind_all(m, {kA, kB});
       asks(m, kA, kB);
       m.party(kB, [](Party& p) { p.receive(); });
       m.thread("dvsd", [&m] {
         m.kill(kB);
         dvk::bury(m.region(), m.slot(kB));
         dvk::unbind(m.region(), m.slot(kB));
       });
       m.thread("the next dvsd", [&m] {
         m.kill("dvsd");
         m.kill(kB);
         dvk::wake_everybody(m.region());
         dvk::bury(m.region(), m.slot(kB));
         dvk::unbind(m.region(), m.slot(kB));
       });
     },
     {"1: -108", "1: -108; 2: 1", "1: -109"},
     kBound},
};

class RendezvousModelTest : public testing::TestWithParam<Scenario> {};

TEST_P(RendezvousModelTest, EveryInterleavingEndsWell) {
  const Scenario& scenario = GetParam();
  const char* wanted = std::getenv("DVS_MODEL_BOUND");
  const int bound = wanted != nullptr ? std::atoi(wanted) : scenario.bound;
  const auto begin = std::chrono::steady_clock::now();
  const Model::Report report = Model().explore(scenario, bound);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%llu runs, %llu states, %s, %.2f s\n", static_cast<unsigned long long>(report.runs),
              static_cast<unsigned long long>(report.states),
              report.complete ? "all interleavings" : "as far as the bound allows", took.count());
  EXPECT_EQ(report.failure, "");
  if (wanted == nullptr) {
    EXPECT_EQ(report.outcomes, scenario.outcomes);
  }
  // With more preemptions more may be possible: for a reader to judge.
  for (const std::string& outcome : report.outcomes) {
    if (scenario.outcomes.count(outcome) == 0) std::printf("also: %s\n", outcome.c_str());
  }
}

INSTANTIATE_TEST_SUITE_P(All, RendezvousModelTest, testing::ValuesIn(kScenarios),
                         [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace dvs::explore
