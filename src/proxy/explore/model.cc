#include "proxy/explore/model.h"

#include <sched.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace dvs::explore {
namespace {

Model* the_model = nullptr;

constexpr size_t kUndecided = SIZE_MAX - 1;
constexpr uint64_t kMostSteps = 20'000;
constexpr int kLessons = 300;
constexpr size_t kMostThreads = 8;  // bits of Word

uint64_t mix(uint64_t hash, uint64_t value) {
  hash = ((hash + 1) ^ (value * 0xff51afd7ed558ccd)) * 0x9e3779b97f4a7c15;
  return hash ^ hash >> 29;
}

}  // namespace

Model& Model::current() { return *the_model; }

Model::Model() {
  DVS_CHECK(the_model == nullptr);
  the_model = this;
  dvk::RegionSpec spec;
  spec.slots = 128;
  auto region = dvk::Region::anonymous(spec);
  DVS_CHECK(region.ok());
  region_ = std::move(*region);
  const char* base = reinterpret_cast<const char*>(&region_.header());
  blank_.assign(base, base + region_.size());
  words_.resize(region_.size() / 4);
}

Model::~Model() { the_model = nullptr; }

// ---- scenarios ----------------------------------------------------------------------------------

void Model::bind(int endpoint, uint64_t incarnation) {
  dvk::Identity identity;
  identity.endpoint = endpoint;
  identity.incarnation = incarnation;
  identity.epoch = 1;
  identity.kind = dvk::Kind::kLocal;
  identity.pid = identity.tid = tid_of(endpoint, incarnation);
  while (!dvk::bind(region_, slot(endpoint), identity)) sched_yield();
}

Model::Thread& Model::add_thread(std::string name, std::function<void()> body) {
  DVS_CHECK(threads_.size() < kMostThreads);
  Thread& thread = threads_.emplace_back();
  thread.name = std::move(name);
  thread.fiber = std::make_unique<Fiber>(std::move(body));
  return thread;
}

int Model::tid_of(int endpoint, uint64_t incarnation) {
  return endpoint * 16 + static_cast<int>(incarnation);
}

void Model::party(int endpoint, std::function<void(Party&)> body, uint64_t incarnation) {
  const int tid = tid_of(endpoint, incarnation);
  parties_.push_back(std::make_unique<Party>(*this, threads_.size(), endpoint, tid));
  Party* const party = parties_.back().get();
  add_thread(std::to_string(endpoint), [party, body = std::move(body)] { body(*party); }).endpoint =
      endpoint;
}

void Model::thread(const char* name, std::function<void()> body) {
  add_thread(name, std::move(body));
}

void Model::clock(std::vector<int64_t> times) {
  ticking_ = true;
  Thread& thread = add_thread("clock", [this, times = std::move(times)] {
    for (const int64_t time : times) {
      choose_here();
      time_ = time;
      if (telling_) story_ += "the clock jumps to " + std::to_string(time) + "\n";
    }
    ticking_ = false;
  });
  thread.background = true;
}

void Model::kill(int endpoint) {
  excuse(endpoint);
  kill(std::to_string(endpoint));
}

void Model::kill(const std::string& name) {
  choose_here();
  for (Thread& thread : threads_) {
    if (thread.name != name) continue;
    if (thread.state == State::kDone || thread.state == State::kDead) return;
    if (telling_) story_ += name + " is killed\n";
    thread.state = State::kDead;
    thread.woken = false;
    thread.history = 0;
    return;
  }
}

// ---- choices ------------------------------------------------------------------------------------

bool Model::can_run(const Thread& thread) const {
  switch (thread.state) {
    case State::kReady:
      return true;
    case State::kAsleep:
      return thread.woken || thread.deadline <= time_;
    case State::kSpinning:
      return thread.spun_at != version_;
    default:
      return false;
  }
}

// Who may go on, first who is running. Nobody when only the clock is left.
std::vector<uint8_t> Model::options(size_t current) const {
  std::vector<uint8_t> result;
  bool somebody_left = false;
  if (current != kNobody) result.push_back(static_cast<uint8_t>(current));
  for (size_t i = 0; i < threads_.size(); ++i) {
    const Thread& thread = threads_[i];
    const bool over = thread.state == State::kDone || thread.state == State::kDead;
    somebody_left |= !over && !thread.background;
    if (i != current && can_run(thread)) result.push_back(static_cast<uint8_t>(i));
  }
  if (!somebody_left) result.clear();
  return result;
}

size_t Model::choose(size_t current) {
  if (++steps_ > kMostSteps) {
    fail("no end is in sight");
    return give_up(), kNobody;
  }
  std::vector<uint8_t> possible = options(current);
  if (possible.empty()) return kNobody;
  if (learning_) return possible[rng_() % possible.size()];
  if (possible.size() == 1) return possible[0];
  if (depth_ == path_.size()) {
    if (is_known(current)) return give_up(), kNobody;
    path_.push_back({possible, 0, preemptions_, current != kNobody});
  }
  const Choice& choice = path_[depth_++];
  DVS_CHECK(choice.options == possible, "a run was not the same when it was repeated");
  preemptions_ = choice.preemptions + (choice.may_stay && choice.taken > 0 ? 1 : 0);
  return choice.options[choice.taken];
}

// With a bound it counts how much of it is left, and who runs.
bool Model::is_known(size_t current) {
  const uint64_t state = bound_ < 0 ? state_hash() : mix(state_hash(), current);
  const int preemptions = bound_ < 0 ? 0 : preemptions_;
  const auto [found, is_new] = seen_.try_emplace(state, preemptions);
  if (is_new) return false;
  if (found->second <= preemptions) return true;
  found->second = preemptions;
  return false;
}

uint64_t Model::state_hash() const {
  uint64_t hash = mix(memory_, static_cast<uint64_t>(time_));
  for (const Thread& thread : threads_) {
    hash = mix(hash, thread.history);
    hash = mix(hash, thread.results);
    const bool may_look = thread.state == State::kSpinning && thread.spun_at != version_;
    hash = mix(hash, static_cast<uint64_t>(thread.state) | uint64_t{thread.woken} << 8 |
                         uint64_t{may_look} << 9);
  }
  return hash;
}

// The next path in depth-first order. False: there is none.
bool Model::next_path() {
  while (!path_.empty()) {
    Choice& last = path_.back();
    const int after = last.preemptions + (last.may_stay ? 1 : 0);
    const bool over = last.taken + 1 == last.options.size();
    if (!over && (bound_ < 0 || after <= bound_)) {
      ++last.taken;
      return true;
    }
    cut_ |= !over;
    path_.pop_back();
  }
  return false;
}

void Model::choose_here() {
  if (starting_) return Fiber::yield();
  const size_t me = running_;
  const size_t next = choose(me);
  if (next != me) {
    next_ = next;
    Fiber::yield();
  }
  threads_[me].history = mix(threads_[me].history, 0);  // a step further, whatever it does
}

void Model::stop(State state) {
  threads_[running_].state = state;
  Fiber::yield();
  threads_[running_].state = State::kReady;
}

// What follows is known, or of no use. The run ends here.
void Model::give_up() { pruned_ = true; }

// ---- runs ---------------------------------------------------------------------------------------

void Model::start_threads() {
  starting_ = true;
  for (running_ = 0; running_ < threads_.size() && !pruned_; ++running_) {
    threads_[running_].fiber->resume();
    if (threads_[running_].fiber->done()) threads_[running_].state = State::kDone;
  }
  starting_ = false;
}

void Model::run(const Scenario& scenario) {
  std::memcpy(static_cast<void*>(&region_.header()), blank_.data(), blank_.size());
  threads_.clear();
  parties_.clear();
  messages_.clear();
  excused_.clear();
  story_.clear();
  depth_ = 0;
  preemptions_ = 0;
  time_ = 0;
  memory_ = version_ = steps_ = 0;
  ticking_ = pruned_ = probing_ = false;
  scenario.build(*this);
  start_threads();
  next_ = pruned_ ? kNobody : choose(kNobody);
  while (next_ != kNobody && !pruned_) {
    running_ = next_;
    next_ = kUndecided;
    Thread& thread = threads_[running_];
    thread.fiber->resume();
    if (thread.fiber->done()) {
      thread.state = State::kDone;
      thread.history = 0;
    }
    if (next_ == kUndecided) next_ = choose(kNobody);
  }
  if (!pruned_) check_end();
}

// Which words are shared is mostly found out by some runs at random.
void Model::learn_words(const Scenario& scenario) {
  words_.assign(words_.size(), Word{});
  learning_ = true;
  for (int i = 0; i < kLessons && failure_.empty(); ++i) run(scenario);
  learning_ = false;
  failure_.clear();
  grown_ = false;
}

void Model::explore_all(const Scenario& scenario, Report& report) {
  path_.clear();
  seen_.clear();
  report.outcomes.clear();
  cut_ = false;
  do {
    ++report.runs;
    run(scenario);
    if (grown_ || !failure_.empty()) return;
    if (!pruned_) report.outcomes.insert(outcome_);
  } while (next_path());
}

Model::Report Model::explore(const Scenario& scenario, int bound) {
  Report report;
  bound_ = bound;
  learn_words(scenario);
  do {
    grown_ = false;
    explore_all(scenario, report);
  } while (grown_);
  report.states = seen_.size();
  report.complete = !cut_;
  if (failure_.empty()) return report;
  // The same once more, with words.
  const std::string why = failure_;
  telling_ = true;
  run(scenario);
  telling_ = false;
  report.failure = why + "\n" + story_;
  failure_.clear();
  return report;
}

// ---- accesses -----------------------------------------------------------------------------------

// An access to a word that only now turns out to be shared was no choice in earlier runs, nor were
// those before it in this one: all begins anew.
void Model::learn(Word& word, bool writes) {
  (writes ? word.writers : word.readers) |= static_cast<uint8_t>(1u << running_);
  const auto users = static_cast<unsigned>(word.readers | word.writers);
  if (word.shared || word.writers == 0 || std::popcount(users) < 2) return;
  word.shared = grown_ = true;
}

// Of a message only its first word and its last: enough to see whether it is made of two.
bool Model::is_choice(const void* word) const {
  const auto at = static_cast<size_t>(static_cast<const char*>(word) -
                                      reinterpret_cast<const char*>(&region_.at(0)));
  const size_t offset = at % sizeof(dvk::Descriptor);
  if (at / sizeof(dvk::Descriptor) >= region_.slots()) return true;
  for (const size_t first :
       {offsetof(dvk::Descriptor, rx_message), offsetof(dvk::Descriptor, tx_message)}) {
    if (offset > first && offset < first + sizeof(message) - sizeof(uint64_t)) return false;
  }
  return true;
}

void Model::before(const void* word, size_t size, bool writes) {
  if (Fiber::current() == nullptr || probing_) return;
  Word& known = word_at(word);
  learn(known, writes);
  if (grown_ && !learning_) {
    give_up();
    Fiber::yield();
  }
  if (known.shared && is_choice(word)) choose_here();
  before_ = 0;
  std::memcpy(&before_, word, size);
}

void Model::after(const void* word, size_t size, uint64_t value) {
  if (Fiber::current() == nullptr || probing_ || !word_at(word).shared) return;
  Thread& thread = threads_[running_];
  thread.history = mix(thread.history, value + 1);
  uint64_t now = 0;
  std::memcpy(&now, word, size);
  const auto where = static_cast<uint64_t>(&word_at(word) - words_.data());
  memory_ ^= mix(where, before_) ^ mix(where, now);
  version_ += now != before_ ? 1 : 0;
  if (telling_) tell(word, now != before_, now);
}

Model::Word& Model::word_at(const void* word) {
  const char* base = reinterpret_cast<const char*>(&region_.header());
  const auto offset = static_cast<size_t>(static_cast<const char*>(word) - base);
  DVS_CHECK(offset < region_.size());
  return words_[offset / 4];
}

int64_t Model::now() {
  if (Fiber::current() == nullptr || probing_) return time_;
  if (ticking_) choose_here();
  threads_[running_].history = mix(threads_[running_].history, static_cast<uint64_t>(time_));
  return time_;
}

int Model::wait(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline) {
  if (word.load() != expected) return EAGAIN;
  const size_t me = running_;
  threads_[me].sleeps_on = &word;
  threads_[me].deadline = deadline.when_ns();
  threads_[me].woken = false;
  if (telling_) story_ += threads_[me].name + " sleeps\n";
  stop(State::kAsleep);
  const bool woken = threads_[me].woken;
  threads_[me].woken = false;
  threads_[me].history = mix(threads_[me].history, woken ? 1 : 2);
  if (telling_) story_ += threads_[me].name + (woken ? " is woken\n" : " has waited in vain\n");
  return woken ? 0 : ETIMEDOUT;
}

void Model::wake_all(dvk::Atomic<uint32_t>& word) {
  before(&word, sizeof word, true);
  for (Thread& thread : threads_) {
    if (thread.state == State::kAsleep && thread.sleeps_on == &word) thread.woken = true;
  }
}

void Model::yield_processor() {
  Thread& thread = threads_[running_];
  thread.spun_at = std::exchange(thread.yielded_at, version_);
  stop(State::kSpinning);
}

void Model::end_call(size_t thread, int result, uint64_t details) {
  Thread& t = threads_[thread];
  t.told.push_back(result);
  t.results = mix(mix(t.results, static_cast<uint64_t>(result)), details + 1);
  t.history = 0;
  if (telling_) story_ += t.name + ": a call returns " + std::to_string(result) + "\n";
}

}  // namespace dvs::explore

// ---- what the real libdvk does with the kernel

extern "C" int sched_yield() noexcept {
  if (dvs::explore::Fiber::current() != nullptr) {
    dvs::explore::Model::current().yield_processor();
  }
  return 0;
}
// Not where this runs: every repetition must be the same.
extern "C" int sched_getcpu() noexcept { return 0; }

namespace dvs::dvk {

void explore_point(const void* word, size_t size, bool writes) {
  explore::Model::current().before(word, size, writes);
}
void explore_saw(const void* word, size_t size, uint64_t value) {
  explore::Model::current().after(word, size, value);
}

timespec wall_time() { return {}; }

int64_t Deadline::now_ns() { return explore::Model::current().now(); }

bool event_await(Atomic<uint32_t>&, uint32_t, Near) { return false; }

int futex_wait(Atomic<uint32_t>& word, uint32_t expected, Deadline deadline) {
  return explore::Model::current().wait(word, expected, deadline);
}

void futex_wake_all(Atomic<uint32_t>& word) { explore::Model::current().wake_all(word); }

}  // namespace dvs::dvk
