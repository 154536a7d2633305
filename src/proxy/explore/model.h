// Every interleaving of a few processes' calls in one region, and not a sample of them: the real
// code of src/dvk runs on fibers, who makes the next access to shared memory is a choice, and all
// choices are tried, depth first, each run replayed from the start (stateless model checking).
//
// What keeps that small:
//   * Only accesses to words that several threads use and one changes are choices; the others
//     commute. Which words these are is found out: whenever a run shows a new one, all begins anew.
//     Of a message, the first word and the last stand for all.
//   * A state that was met before is not pursued again. A thread is what it has read (the code is
//     deterministic), so a state is the shared words and a hash of each thread's reads. Between two
//     calls a thread has only the results so far.
//   * If that is not enough, a bound on preemptions (switches away from a thread that could go on).
// The clock and the deaths of processes are threads like others, so they may strike anywhere.
//
// Accesses are sequentially consistent here, whatever order they ask for: what weaker orders allow
// is not explored.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "dvk/caller.h"
#include "dvk/node_view.h"
#include "proxy/explore/fiber.h"

namespace dvs::explore {

class Model;

// One party's calls, each on its endpoint, with what came of them.
class Party {
 public:
  Party(Model& model, size_t thread, int endpoint, int tid)
      : model_(model), thread_(thread), endpoint_(endpoint), tid_(tid) {}

  int send(int to, dvk::Deadline deadline = dvk::Deadline::never());
  int sendrec(int to, dvk::Deadline deadline = dvk::Deadline::never());
  int notify(int to, dvk::Deadline deadline = dvk::Deadline::never());
  // From whom: 0 when it failed.
  int receive(int from = ANY, dvk::Deadline deadline = dvk::Deadline::never(),
              dvk::RxMode mode = dvk::RxMode::kAny);
  int reply(int to, dvk::Deadline deadline = dvk::Deadline::never());
  int relay(int client, int to);
  void wake(int endpoint);  // as dvk_wakeup()

 private:
  int ask(dvk::OpKind kind, int to, dvk::Deadline deadline);
  template <typename Call>
  int call(Call call);

  Model& model_;
  size_t thread_;
  int endpoint_;
  int tid_;
  uint8_t calls_ = 0;
  uint8_t request_ = 0;  // the last one received
};

struct Scenario {
  const char* name;
  // Binds endpoints, adds threads.
  std::function<void(Model&)> build;
  // Each party's results that are possible, exactly: "1: 0 0; 2: -61".
  std::set<std::string> outcomes;
  int bound = -1;  // on preemptions; -1: none
};

class Model {
 public:
  struct Report {
    uint64_t runs = 0;
    uint64_t states = 0;
    bool complete = true;  // false: the bound cut something off
    std::set<std::string> outcomes;
    std::string failure;  // with the run that leads there
  };

  Model();
  ~Model();
  Report explore(const Scenario& scenario, int bound);
  static Model& current();

  // ---- for scenarios
  void bind(int endpoint, uint64_t incarnation = 1);
  static int tid_of(int endpoint, uint64_t incarnation);
  // One of the endpoint's owners, the first or a later one.
  void party(int endpoint, std::function<void(Party&)> body, uint64_t incarnation = 1);
  // Something else that goes on at the same time: dvsd.
  void thread(const char* name, std::function<void()> body);
  // The clock may jump to each of these, at any moment. It starts at 0.
  void clock(std::vector<int64_t> times);
  void kill(int endpoint);  // the first party there
  void kill(const std::string& name);
  // Its messages need not have arrived, or may have got lost with it.
  void excuse(int endpoint) { excused_.insert(endpoint); }
  const dvk::Region& region() const { return region_; }
  uint32_t slot(int endpoint) const { return region_.slot_of(endpoint); }

  // ---- for Party: the ledger
  struct Message {
    dvk::OpKind kind = dvk::OpKind::kNone;
    int from = 0;
    int to = 0;
    uint8_t id = 0;
    int rc = 1;  // 1: the call has not returned
    int taken = 0;
    int answers = 0;
  };
  Message* message_of(uint8_t id);
  void add_message(const Message& message) { messages_.push_back(message); }
  void fail(const std::string& why);
  bool is_excused(int endpoint) const { return excused_.count(endpoint) != 0; }
  void end_call(size_t thread, int result, uint64_t details);

  // ---- for the replaced parts of libdvk
  void before(const void* word, size_t size, bool writes);
  void after(const void* word, size_t size, uint64_t value);
  int64_t now();
  int wait(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline);
  void wake_all(dvk::Atomic<uint32_t>& word);
  void yield_processor();

 private:
  enum class State : uint8_t { kReady, kAsleep, kSpinning, kDone, kDead };
  struct Thread {
    std::string name;
    int endpoint = 0;
    bool background = false;
    std::unique_ptr<Fiber> fiber;
    State state = State::kReady;
    const void* sleeps_on = nullptr;
    int64_t deadline = 0;
    bool woken = false;
    uint64_t yielded_at = UINT64_MAX;  // version_ then, for who spins
    uint64_t spun_at = 0;              // the time before: it has seen all that was until then
    uint64_t history = 0;              // what it has read since its last call
    uint64_t results = 0;              // what its calls so far came to
    std::vector<int> told;
  };
  struct Choice {
    std::vector<uint8_t> options;
    size_t taken = 0;
    int preemptions = 0;    // before it
    bool may_stay = false;  // the first option is to go on
  };
  struct Word {
    uint8_t readers = 0;  // a bit per thread
    uint8_t writers = 0;
    bool shared = false;
  };

  static constexpr size_t kNobody = SIZE_MAX;

  Word& word_at(const void* word);
  Thread& add_thread(std::string name, std::function<void()> body);
  void run(const Scenario& scenario);
  void start_threads();
  void learn_words(const Scenario& scenario);
  bool is_choice(const void* word) const;
  void explore_all(const Scenario& scenario, Report& report);
  bool next_path();
  bool can_run(const Thread& thread) const;
  std::vector<uint8_t> options(size_t current) const;
  size_t choose(size_t current);
  bool is_known(size_t current);
  uint64_t state_hash() const;
  void choose_here();
  void stop(State state);
  void give_up();
  void learn(Word& word, bool writes);

  void check_end();
  void check_message(const Message& message);
  void check_notifications(int from, int to);
  void check_sleepers();
  void check_rest(const Thread& thread);
  std::string outcome() const;
  void tell(const void* word, bool writes, uint64_t value);
  std::string name_of(const void* word) const;

  dvk::Region region_;
  std::vector<char> blank_;  // the region before anything happens
  std::vector<Word> words_;  // of the region, by 4 bytes
  std::vector<Thread> threads_;
  std::vector<std::unique_ptr<Party>> parties_;
  std::vector<Message> messages_;
  std::set<int> excused_;
  std::vector<Choice> path_;
  std::unordered_map<uint64_t, int> seen_;  // states, with the fewest preemptions before them
  std::string failure_;
  std::string outcome_;
  std::string story_;
  size_t depth_ = 0;
  size_t running_ = 0;
  size_t next_ = 0;
  int bound_ = -1;
  int preemptions_ = 0;
  int64_t time_ = 0;
  bool ticking_ = false;
  uint64_t memory_ = 0;   // hash of the shared words
  uint64_t before_ = 0;   // what the word of the running access held
  uint64_t version_ = 0;  // counts changes of shared words
  uint64_t steps_ = 0;
  bool starting_ = false;  // threads go as far as their first choice
  bool probing_ = false;   // all is over, sleepers are tried
  bool pruned_ = false;
  bool grown_ = false;  // a word turned out to be shared
  bool cut_ = false;    // the bound left something out
  bool telling_ = false;
  bool learning_ = false;
  std::mt19937 rng_;
};

}  // namespace dvs::explore
