// Many random histories of clients, servers, notifiers and copies on three nodes, with everything
// that may go wrong, each judged from outside: a request is taken once and answered once, in order,
// with the right content; time-outs tell the truth; nobody waits for ever once the faults are over.
//
// DVS_EXPLORE_SEED=n runs one history, DVS_EXPLORE_TRACE=1 shows it, DVS_EXPLORE_SEEDS=n sets how
// many.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "proxy/explore/ledger.h"

namespace dvs::explore {
namespace {

using dvk::Deadline;
using dvk::RxMode;

constexpr int kFirstClient = 70;
constexpr int kMaxPending = 3;
constexpr int kFailuresShown = 5;

// One history: who there is and what they do.
class History {
 public:
  explicit History(const Options& options) : options_(options), world_(options), ledger_(world_) {}

  // Empty: all was well.
  std::string run();

 private:
  struct Held {
    message m{};
    bool used = false;
  };

  void add_servers();
  void add_client(int number, int generation);
  void client(Process& process, int endpoint, int quota);
  void server(Process& process, int endpoint, size_t rank);
  int receive(Process& process, int endpoint, bool busy, message& m);
  void answer_one(Process& process, int endpoint, Held (&held)[kMaxPending]);
  bool copy_both_ways(Process& process, int endpoint, const message& request);
  void check_end();

  const Options options_;
  World world_;
  Ledger ledger_;
  std::vector<int> servers_;
  std::deque<std::array<char, kCopyBytes>> buffers_;
  int clients_running_ = 0;
};

Deadline short_deadline(World& world) {
  return Deadline::at_ns(world.now_ns() + static_cast<int64_t>(world.random(3'000'000)));
}

void History::add_servers() {
  const size_t processes = 1 + world_.random(3);
  int endpoint = 1;
  for (size_t i = 0; i < processes; ++i) {
    std::vector<int> endpoints;
    for (size_t n = 1 + world_.random(2); n > 0; --n) endpoints.push_back(endpoint++);
    Process& process =
        world_.add_process(static_cast<NodeId>(world_.random(options_.nodes)), endpoints);
    process.may_be_killed = options_.kills > 0 && world_.chance(300);
    for (int each : endpoints) {
      servers_.push_back(each);
      const size_t rank = servers_.size() - 1;
      world_.run_in(process, each, [this, &process, each, rank] { server(process, each, rank); });
    }
  }
}

void History::add_client(int number, int generation) {
  const int endpoint = _ENDPOINT(generation, kFirstClient + number);
  Process& process =
      world_.add_process(static_cast<NodeId>(world_.random(options_.nodes)), {endpoint});
  process.may_be_killed = options_.kills > 0;
  const int quota = 2 + static_cast<int>(world_.random(5));
  ++clients_running_;
  world_.run_in(process, endpoint, [this, &process, endpoint, quota] {
    client(process, endpoint, quota);
    --clients_running_;
  });
}

void History::client(Process& process, int endpoint, int quota) {
  buffers_.emplace_back();  // outlives the process: it may be killed with a copy under way
  char* const buffer = buffers_.back().data();
  for (int i = 0; i < quota; ++i) {
    const int target = servers_[world_.random(servers_.size())];
    const bool timed = world_.chance(300);
    const Deadline deadline = timed ? short_deadline(world_) : Deadline::never();
    const uint64_t what = world_.random(10);
    if (what < 6) {
      char* shared = !timed && world_.chance(400) ? buffer : nullptr;
      ledger_.sendrec(process, endpoint, target, deadline, shared);
    } else if (what < 8) {
      ledger_.send(process, endpoint, target, deadline);
    } else {
      ledger_.notify(process, endpoint, target, deadline);
    }
  }
}

int History::receive(Process& process, int endpoint, bool busy, message& m) {
  Deadline deadline = Deadline::never();
  if (busy || world_.chance(200)) deadline = short_deadline(world_);
  if (busy && world_.chance(300)) deadline = Deadline::at_ns(0);
  int from = ANY;
  if (world_.chance(100)) {
    from = kFirstClient + static_cast<int>(world_.random(3));
    deadline = short_deadline(world_);
  }
  const RxMode mode = !deadline.is_never() && world_.chance(200) ? RxMode::kRequest : RxMode::kAny;
  return world_.call(process, endpoint,
                     [&](dvk::Caller& caller) { return caller.receive(from, m, deadline, mode); });
}

void History::server(Process& process, int endpoint, size_t rank) {
  Held held[kMaxPending];
  for (;;) {
    int busy = 0;
    for (const Held& each : held) busy += each.used ? 1 : 0;
    message m{};
    const int rc = receive(process, endpoint, busy > 0, m);
    if (rc == EDVSNOTBIND || rc == EDVSSHUTDOWN) return;
    if (rc == OK && ledger_.received(endpoint, m)) {
      // A client with a new request has given up the old one; an answer names only the client.
      for (Held& each : held) {
        if (!each.used || each.m.m_source != m.m_source) continue;
        each.used = false;
        --busy;
      }
      for (Held& each : held) {
        if (each.used) continue;
        each = {m, true};
        ++busy;
        break;
      }
      // A server that is a client of the next one meanwhile.
      if (rank + 1 < servers_.size() && world_.chance(150)) {
        ledger_.sendrec(process, endpoint, servers_[rank + 1], Deadline::never(), nullptr);
      }
    } else if (rc != OK && rc != EDVSTIMEDOUT && rc != EDVSAGAIN && rc != EDVSSRCDIED &&
               rc != EDVSDSTDIED) {
      world_.fail("receive says " + std::to_string(rc));
    }
    if (busy == kMaxPending || (busy > 0 && world_.chance(500)))
      answer_one(process, endpoint, held);
  }
}

void History::answer_one(Process& process, int endpoint, Held (&held)[kMaxPending]) {
  for (Held& each : held) {
    if (!each.used || (world_.chance(300) && !held[kMaxPending - 1].used)) continue;
    each.used = false;
    if (ledger_.wants_copy(each.m) && !copy_both_ways(process, endpoint, each.m)) return;
    message answer = ledger_.answer_to(each.m);
    const int to = each.m.m_source;
    const bool by_send = !ledger_.is_timed(each.m) && options_.kills == 0 && world_.chance(300);
    const int rc = world_.call(process, endpoint, [&](dvk::Caller& caller) {
      return by_send ? caller.send(to, answer, Deadline::never())
                     : caller.reply(to, answer, Deadline::never());
    });
    if (rc != OK && !ledger_.is_timed(each.m) && options_.kills == 0) {
      world_.fail("an answer is refused with " + std::to_string(rc) + (by_send ? " (send)" : ""));
    }
    return;
  }
}

bool History::copy_both_ways(Process& process, int endpoint, const message& request) {
  char bytes[kCopyBytes];
  const int rc = world_.call(process, endpoint, [&](dvk::Caller& caller) {
    int result =
        caller.vcopy(request.m_source, request.m1_p1, SELF, bytes, kCopyBytes, Deadline::never());
    if (result != OK) return result;
    ledger_.check_copy_in(request, bytes);
    ledger_.fill_copy_out(request, bytes);
    return caller.vcopy(SELF, bytes, request.m_source, request.m1_p1, kCopyBytes,
                        Deadline::never());
  });
  if (rc != OK && options_.kills == 0) world_.fail("vcopy says " + std::to_string(rc));
  return rc == OK;
}

void History::check_end() {
  if (options_.kills == 0 && clients_running_ > 0) {
    world_.fail("clients wait for ever" + world_.describe_state());
  }
  if (options_.kills > 0) {
    const std::string stuck = world_.stuck_outside_receive();
    if (!stuck.empty()) world_.fail(stuck + world_.describe_state());
  }
  ledger_.check_end();
}

std::string History::run() {
  add_servers();
  const int clients = 1 + static_cast<int>(world_.random(4));
  for (int i = 0; i < clients; ++i) add_client(i, 1);
  int successors = options_.kills;
  world_.on_unbound = [this, &successors](uint32_t slot) {
    const int number = world_.region(0).number_of(slot) - kFirstClient;
    if (number < 0 || successors-- <= 0) return;
    add_client(number, successors + 2);
  };
  if (world_.run()) check_end();
  return world_.failure();
}

int env_number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

struct Case {
  const char* name;
  Options options;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class ExplorerTest : public testing::TestWithParam<Case> {};

TEST_P(ExplorerTest, EveryHistoryEndsWell) {
  const int only = env_number("DVS_EXPLORE_SEED", 0);
  const int seeds = only != 0 ? 1 : env_number("DVS_EXPLORE_SEEDS", 400);
  int failures = 0;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 1; i <= seeds; ++i) {
    Options options = GetParam().options;
    for (int* count :
         {&options.link_losses, &options.restarts, &options.migrations, &options.kills}) {
      *count *= env_number("DVS_EXPLORE_SCALE", 1);
    }
    options.adversity *= env_number("DVS_EXPLORE_SCALE", 1);
    options.seed = static_cast<uint64_t>(only != 0 ? only : i);
    const std::string failure = History(options).run();
    if (failure.empty()) continue;
    ADD_FAILURE() << "DVS_EXPLORE_SEED=" << options.seed << ": " << failure;
    if (++failures == kFailuresShown) break;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  RecordProperty("seeds", seeds);
  std::printf("%d seeds, %.0f per second\n", seeds, seeds / took.count());
}

Options options_of(uint32_t preempt, int losses, int restarts, int migrations, int kills) {
  Options options;
  options.preempt = preempt;
  options.adversity = losses + restarts + migrations + kills > 0 ? (preempt > 0 ? 20 : 100) : 0;
  options.link_losses = losses;
  options.restarts = restarts;
  options.migrations = migrations;
  options.kills = kills;
  options.copy_chunk = 64;
  return options;
}

const Case kCases[] = {
    {"Quiet", options_of(0, 0, 0, 0, 0)},
    {"Interleaved", options_of(300, 0, 0, 0, 0)},
    {"LinksBreak", options_of(0, 6, 0, 0, 0)},
    {"DvsdsDieAnywhere", options_of(300, 4, 4, 0, 0)},
    {"Migrations", options_of(0, 0, 0, 8, 0)},
    {"MigrationsInterleaved", options_of(300, 0, 0, 8, 0)},
    {"MigrationsAndBrokenLinks", options_of(0, 6, 0, 8, 0)},
    {"MigrationsAndDyingDvsds", options_of(300, 4, 4, 8, 0)},
    {"ProcessesDieAnywhere", options_of(300, 0, 0, 0, 4)},
    {"Everything", options_of(300, 4, 3, 6, 4)},
};

INSTANTIATE_TEST_SUITE_P(All, ExplorerTest, testing::ValuesIn(kCases),
                         [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace dvs::explore
