// One life of one actor: a thread that calls libdvk at random, as an application would, with a
// signal handler that does so too, and tells the ledger everything.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "torture/ledger.h"

namespace dvs::torture {

int64_t now_ns();

// Numbers from a seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed) {}
  uint32_t below(uint32_t limit) { return static_cast<uint32_t>(next() % limit); }
  bool percent(uint32_t chance) { return below(100) < chance; }

 private:
  uint64_t next();
  uint64_t state_;
};

class Worker {
 public:
  // `mortal`: its thread may end by itself, at any instruction, while its process lives on.
  Worker(Ledger& ledger, int actor, uint32_t life, bool mortal);
  // Until the life is over. REQUIRES: called by the thread that is bound.
  void live();
  // Installs the handler that speaks for the calling thread's worker, and starts the timer.
  static void start_timer();

 private:
  // Whose calls these are: the thread's, or its signal handler's.
  enum Depth { kOwn = 0, kHandler = 1 };
  struct Target {
    int actor = 0;
    int endpoint = 0;
    uint32_t life = kNobody;
  };
  static void on_alarm(int);
  static void arm(uint32_t microseconds);

  void await_birth();
  bool is_over() const;
  void end_process();
  void step();
  void step_server(uint32_t roll);
  void step_client(uint32_t roll);
  void step_wild(uint32_t roll);
  void small_step(Depth depth, uint32_t roll);
  void in_handler();
  void drain();
  bool exchange();

  Target pick(Depth depth, bool server);
  long short_time();

  template <typename Call>
  int timed(Depth depth, const char* name, long timeout_ms, bool may_wait, Call call);
  void expect(Depth depth, const char* call, int rc, std::initializer_list<int> fine);

  int submit(Depth depth, Sort sort, const Target& target, uint64_t answers, message& m,
             const char* name, long timeout_ms, int (*call)(int, message*, long));
  void send(Depth depth, const Target& target, long timeout_ms);
  void ask(const Target& target, long timeout_ms);
  void receive(long timeout_ms, bool requests_only);
  void receive_from(const Target& target, long timeout_ms);
  void took(const message& m);
  void answer(const message& request);
  void notify(Depth depth, const Target& target, bool with_value);
  void noticed(const message& m);
  void expect_notified();
  void copy(Depth depth);
  void copy_with(const Target& target);
  void copy_third();
  void wake(Depth depth);
  void look(Depth depth);
  void await_bind(Depth depth);
  void maybe_end_thread();

  Actor& self() { return ledger_.actors[actor_]; }

  Ledger& ledger_;
  const int actor_;
  const uint32_t life_;
  const Role role_;
  const bool mortal_;
  int endpoint_ = 0;
  Dice dice_[2];
  uint32_t next_[2] = {0, kOwnMessages};
  uint32_t notifications_[2] = {0, 0};
  bool over_ = false;
  bool last_words_ = false;
  // Of each other actor: what came last, in both series; when it last notified us.
  uint64_t last_taken_[kActors][2] = {};
  int64_t last_notice_ns_[kActors] = {};
  uint64_t known_notified_[2][kActors] = {};
  uint32_t lives_heard_[kActors] = {};
};

}  // namespace dvs::torture
