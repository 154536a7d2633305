// Processes that talk in one region and are killed at random moments, really: by SIGKILL, with
// dvsd's bury() and unbind() after it. Survivors go on within their deadlines, and every message
// that arrives was sent, to this receiver, and comes once.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <random>

#include "dvk/caller.h"
#include "dvk/node_view.h"

namespace dvs::dvk {
namespace {

constexpr int kServers = 2;
constexpr int kClients = 6;
constexpr int kWorkers = kServers + kClients;
constexpr int kMaxLives = 512;      // of all workers together
constexpr int kMaxMessages = 4096;  // of one life
constexpr int64_t kDeadlineMs = 200;
constexpr int64_t kSlackMs = 5000;  // how late a loaded machine may be

// What the workers and the test share besides the region. Anybody may be killed at any time.
struct Board {
  std::atomic<bool> stop;
  std::atomic<int> finished;
  std::atomic<int> errors;
  char error[200];
  std::atomic<uint8_t> arrived[kMaxLives][kMaxMessages];
  std::atomic<uint8_t> sent_to[kMaxLives][kMaxMessages];  // endpoint
  std::atomic<uint64_t> served;
};

class DeathTest : public testing::Test {
 protected:
  struct Worker {
    pid_t pid = 0;
    int endpoint = 0;
  };

  void SetUp() override {
    void* page =
        ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(page, MAP_FAILED);
    board_ = new (page) Board;
    const char* seed = std::getenv("DVS_SEED");
    seed_ = seed != nullptr ? std::strtoull(seed, nullptr, 10) : std::random_device()();
    rng_.seed(seed_);
    std::printf("DVS_SEED=%llu\n", static_cast<unsigned long long>(seed_));
  }
  void TearDown() override {
    for (Worker& worker : workers_) {
      if (worker.pid > 0) stop(worker);
    }
    ::munmap(board_, sizeof(Board));
  }

  uint32_t slot(int endpoint) const { return region_.slot_of(endpoint); }
  void start(int index);
  void stop(Worker& worker);
  [[noreturn]] void live(int index, int life, int endpoint);
  void serve(int endpoint);
  void ask(int life, int endpoint);
  void note(const message& m, int receiver);
  void complain(const std::string& what);
  template <typename Call>
  int timed(int endpoint, const char* what, Call call);

  Region region_ = std::move(*Region::anonymous(RegionSpec{}));
  Board* board_ = nullptr;
  Worker workers_[kWorkers];
  int lives_ = 0;
  uint64_t seed_ = 0;
  std::mt19937_64 rng_;
};

void DeathTest::complain(const std::string& what) {
  if (board_->errors.fetch_add(1) == 0) {
    std::snprintf(board_->error, sizeof board_->error, "%s", what.c_str());
  }
}

template <typename Call>
int DeathTest::timed(int endpoint, const char* what, Call call) {
  const int64_t begin = Deadline::now_ns();
  Caller caller(region_, slot(endpoint), {static_cast<uint32_t>(getpid())});
  const int rc =
      caller.status() == OK ? call(caller, Deadline::after_ms(kDeadlineMs)) : caller.status();
  const int64_t took_ms = (Deadline::now_ns() - begin) / 1'000'000;
  if (took_ms > kDeadlineMs + kSlackMs) {
    complain(std::string(what) + " took " + std::to_string(took_ms) + " ms");
  }
  return rc;
}

void DeathTest::note(const message& m, int receiver) {
  const int life = m.m1_i1;
  const int number = m.m1_i2;
  const bool whole = m.m1_i3 == life * 31 + number && m.m_type == number + 1;
  if (!whole || life < 0 || life >= kMaxLives || number < 0 || number >= kMaxMessages) {
    return complain("a torn message");
  }
  if (board_->sent_to[life][number].load() != receiver) complain("a message for another endpoint");
  if (board_->arrived[life][number].fetch_add(1) != 0) complain("a message came twice");
}

void DeathTest::serve(int endpoint) {
  while (!board_->stop.load()) {
    message m{};
    int rc = timed(endpoint, "receive",
                   [&](Caller& c, Deadline d) { return c.receive(ANY, m, d, RxMode::kAny); });
    if (rc != OK) continue;
    if (m.m_type >= NOTIFY_FROM(-NR_TASKS)) continue;
    note(m, endpoint);
    board_->served.fetch_add(1);
    const int client = m.m_source;
    m.m_type = -m.m_type;
    timed(endpoint, "reply", [&](Caller& c, Deadline d) { return c.reply(client, m, d); });
  }
}

void DeathTest::ask(int life, int endpoint) {
  for (int number = 0; number < kMaxMessages && !board_->stop.load(); ++number) {
    const int server = 1 + (number + life) % kServers;
    message m{};
    m.m_type = number + 1;
    m.m1_i1 = life;
    m.m1_i2 = number;
    m.m1_i3 = life * 31 + number;
    board_->sent_to[life][number].store(static_cast<uint8_t>(server));
    int rc = OK;
    if (number % 4 == 3) {
      rc = timed(endpoint, "send", [&](Caller& c, Deadline d) { return c.send(server, m, d); });
      if (rc == EDVSTIMEDOUT && board_->arrived[life][number].load() != 0) {
        complain("a message arrived, its sender was told of a time-out");
      }
    } else if (number % 8 == 0) {
      timed(endpoint, "notify",
            [&](Caller& c, Deadline d) { return c.notify(SELF, server, 1, d); });
      continue;
    } else {
      rc = timed(endpoint, "sendrec",
                 [&](Caller& c, Deadline d) { return c.sendrec(server, m, d); });
      const bool right = m.m_type == -(number + 1) && m.m1_i1 == life && m.m1_i2 == number;
      if (rc == OK && !right) complain("the answer to another request");
    }
    const bool gone = rc == EDVSDSTDIED || rc == EDVSSRCDIED;
    if (rc != OK && !gone && rc != EDVSTIMEDOUT) complain("a call says " + std::to_string(rc));
  }
}

void DeathTest::live(int index, int life, int endpoint) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const Descriptor& me = region_.at(slot(endpoint));
  while (me.pid.load() != getpid() || load_kind(me) != Kind::kLocal) ::usleep(100);
  if (index < kServers) {
    serve(endpoint);
  } else {
    ask(life, endpoint);
  }
  board_->finished.fetch_add(1);
  ::_exit(0);
}

void DeathTest::start(int index) {
  const int life = lives_++;
  Worker& worker = workers_[index];
  worker.endpoint = index < kServers ? 1 + index : _ENDPOINT(1 + life, 70 + index);
  worker.pid = ::fork();
  ASSERT_GE(worker.pid, 0);
  if (worker.pid == 0) live(index, life, worker.endpoint);
  Identity identity;
  identity.endpoint = worker.endpoint;
  identity.incarnation = static_cast<uint64_t>(life) + 1;
  identity.epoch = 1;
  identity.kind = Kind::kLocal;
  identity.pid = identity.tid = worker.pid;
  while (!bind(region_, slot(worker.endpoint), identity)) ::usleep(10);
}

void DeathTest::stop(Worker& worker) {
  ::kill(worker.pid, SIGKILL);
  ::waitpid(worker.pid, nullptr, 0);
  worker.pid = 0;
  bury(region_, slot(worker.endpoint));
  unbind(region_, slot(worker.endpoint));
}

TEST_F(DeathTest, SurvivorsGoOnAndNothingComesTwice) {
  for (int i = 0; i < kWorkers; ++i) start(i);
  const Deadline end = Deadline::after_ms(3000);
  while (!end.passed() && lives_ < kMaxLives && board_->errors.load() == 0) {
    ::usleep(static_cast<useconds_t>(rng_() % 12'000));
    const int victim = static_cast<int>(rng_() % kWorkers);
    stop(workers_[victim]);
    if (rng_() % 4 == 0) ::usleep(static_cast<useconds_t>(rng_() % 3'000));
    start(victim);
  }
  board_->stop.store(true);
  const Deadline limit = Deadline::after_ms(kDeadlineMs + 2 * kSlackMs);
  int left = kWorkers;
  while (left > 0 && !limit.passed()) {
    left = 0;
    for (Worker& worker : workers_) {
      if (worker.pid > 0 && ::waitpid(worker.pid, nullptr, WNOHANG) == worker.pid) worker.pid = 0;
      left += worker.pid > 0 ? 1 : 0;
    }
    ::usleep(1000);
  }
  EXPECT_EQ(left, 0) << "some never came back from a call";
  EXPECT_EQ(board_->errors.load(), 0) << board_->error;
  EXPECT_GT(board_->served.load(), 100u);
  std::printf("%d lives, %llu messages\n", lives_,
              static_cast<unsigned long long>(board_->served.load()));
}

}  // namespace
}  // namespace dvs::dvk
