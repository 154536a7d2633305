#include "soak.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <optional>
#include <random>

namespace kv {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kCounter = "soak-counter";  // shared

// A signal is kept pending and looked for between requests, so that it interrupts none.
void hold_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}
bool told_to_stop() {
  sigset_t set;
  sigpending(&set);
  return sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1;
}

class Soak {
 public:
  Soak(const Client& client, int self, const SoakOptions& options)
      : client_(client),
        options_(options),
        prefix_("soak-" + std::to_string(self) + "-"),
        random_(options.seed) {}

  uint64_t run();

 private:
  void clear();
  void step();
  void put(const std::string& key);
  void read(const std::string& key);
  void swap(const std::string& key);
  void remove(const std::string& key);
  void list();
  void count_up();
  // The answer of one request: whether it is as expected, and how long it took.
  void expect(bool right, const char* what, const std::string& key, int error);
  template <typename Call>
  auto timed(Call call);
  std::string some_value();

  const Client& client_;
  const SoakOptions options_;
  const std::string prefix_;
  std::mt19937_64 random_;
  std::map<std::string, std::string> known_;  // what the store must have of this client
  uint64_t requests_ = 0;
  uint64_t errors_ = 0;
  uint64_t swaps_ = 0;
  double longest_ms_ = 0;
};

template <typename Call>
auto Soak::timed(Call call) {
  const auto began = Clock::now();
  auto answer = call();
  const std::chrono::duration<double, std::milli> took = Clock::now() - began;
  longest_ms_ = std::max(longest_ms_, took.count());
  ++requests_;
  return answer;
}

void Soak::expect(bool right, const char* what, const std::string& key, int error) {
  if (right) return;
  ++errors_;
  std::printf("BAD: request %llu: %s %s: %s\n", static_cast<unsigned long long>(requests_), what,
              key.c_str(), error == OK ? "wrong answer" : reason(error));
}

// Any length up to the longest, the short ones more often; no two alike.
std::string Soak::some_value() {
  const size_t limit = std::max<size_t>(16, options_.longest >> (random_() % 12));
  std::string value(random_() % limit, '\0');
  for (char& c : value) c = static_cast<char>(random_());
  return value;
}

void Soak::put(const std::string& key) {
  const std::string value = some_value();
  const auto done = timed([&] { return client_.put(key, value); });
  expect(done.has_value(), "put", key, done.error());
  known_[key] = value;
}

void Soak::read(const std::string& key) {
  const auto known = known_.find(key);
  const auto got = timed([&] { return client_.get(key); });
  const bool right =
      known == known_.end() ? got.error() == kNoSuchKey : got && *got == known->second;
  expect(right, "get", key, got.error());
}

void Soak::swap(const std::string& key) {
  const auto known = known_.find(key);
  const std::string value = some_value();
  const bool guess = random_() % 4 != 0;
  const std::string expected = guess && known != known_.end() ? known->second : "something else";
  const auto done = timed([&] { return client_.compare_and_swap(key, expected, value); });
  const int right = known == known_.end() ? static_cast<int>(kNoSuchKey) : guess ? OK : kChanged;
  expect(done.error() == right, "cas", key, done.error());
  if (done) known_[key] = value;
}

void Soak::remove(const std::string& key) {
  const int right = known_.erase(key) == 1 ? OK : static_cast<int>(kNoSuchKey);
  const auto done = timed([&] { return client_.remove(key); });
  expect(done.error() == right, "delete", key, done.error());
}

void Soak::list() {
  const auto keys = timed([&] { return client_.list(prefix_); });
  bool right = keys && keys->size() == known_.size();
  if (right) {
    right =
        std::equal(keys->begin(), keys->end(), known_.begin(),
                   [](const std::string& key, const auto& entry) { return key == entry.first; });
  }
  expect(right, "list", prefix_, keys.error());
}

// One more, whoever else is counting: each success is counted once, however often the server moves.
void Soak::count_up() {
  for (;;) {
    const auto old = timed([&] { return client_.get(kCounter); });
    if (!old) return expect(false, "get", kCounter, old.error());
    const std::string next = std::to_string(std::stoull(*old) + 1);
    const auto done = timed([&] { return client_.compare_and_swap(kCounter, *old, next); });
    if (done) break;
    if (done.error() != kChanged) return expect(false, "cas", kCounter, done.error());
  }
  ++swaps_;
}

void Soak::step() {
  const std::string key =
      prefix_ + std::to_string(random_() % static_cast<uint64_t>(options_.keys));
  switch (random_() % 16) {
    case 0:
      return list();
    case 1:
    case 2:
      return remove(key);
    case 3:
    case 4:
      return count_up();
    case 5:
    case 6:
    case 7:
      return swap(key);
    case 8:
    case 9:
    case 10:
      return put(key);
    default:
      return read(key);
  }
}

// What an earlier client of this number left.
void Soak::clear() {
  const auto keys = client_.list(prefix_);
  expect(keys.has_value(), "list", prefix_, keys.error());
  if (!keys) return;
  for (const std::string& key : *keys) (void)client_.remove(key);
}

uint64_t Soak::run() {
  hold_signals();
  std::printf("soak with seed %llu\n", static_cast<unsigned long long>(options_.seed));
  clear();
  // The first soaking client makes the counter: whoever finds it made leaves it.
  if (client_.get(kCounter).error() == kNoSuchKey) (void)client_.put(kCounter, "0");
  uint64_t reported = 0;
  while (options_.requests == 0 ? !told_to_stop() : requests_ < options_.requests) {
    step();
    if (errors_ > 20) break;
    if (requests_ / 200 == reported) continue;
    reported = requests_ / 200;
    std::printf("at %llu\n", static_cast<unsigned long long>(requests_));
    std::fflush(stdout);
  }
  for (const auto& [key, value] : known_) read(key);
  std::printf("done requests=%llu errors=%llu swaps=%llu longest_ms=%.1f\n",
              static_cast<unsigned long long>(requests_), static_cast<unsigned long long>(errors_),
              static_cast<unsigned long long>(swaps_), longest_ms_);
  std::fflush(stdout);
  return errors_;
}

}  // namespace

uint64_t soak(const Client& client, int self, const SoakOptions& options) {
  return Soak(client, self, options).run();
}

}  // namespace kv
