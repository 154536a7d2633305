// Plays dvsd for the workers of one region: binds them, kills them at random, sees to what they
// leave, and watches that the others go on.
#pragma once

#include <sys/types.h>

#include <memory>
#include <vector>

#include "dvk/capsule.h"
#include "proxy/remote_ops.h"
#include "torture/worker.h"

namespace dvs::torture {

struct Options {
  uint64_t kills = 3000;
  int64_t seconds = 0;  // at most; 0: as long as it takes
  uint64_t seed = 0;
  bool progress = false;
};

constexpr int64_t kMs = 1'000'000;  // in ns
// How late a call may come back on a machine that has other things to do.
constexpr int64_t kSlackNs = 10'000 * kMs;

class Harness {
 public:
  Harness(const Options& options, dvk::Region region, Ledger& ledger);
  ~Harness();
  // False: something was wrong; it has been printed.
  bool run();

 private:
  // No other node, so nothing to send.
  struct Alone : RemoteOps::Env {
    bool send(NodeId, const wire::Operation&) override { return false; }
    bool is_forgotten(uint32_t, uint64_t) const override { return false; }
    void drive_later(uint32_t) override {}
    int read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) override;
    int write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) override;
    const dvk::Region* region = nullptr;
  };
  enum class State { kDown, kStarting, kBound, kLeaving };
  struct Process {
    State state = State::kDown;
    pid_t pid = 0;
    int64_t again_ns = 0;  // kDown: when it is started anew
    std::vector<int> actors;
    std::vector<uint32_t> lives;
    bool thread_gone = false;  // of the second actor
    std::vector<int> leaving;  // kLeaving: actors whose thread was still inside
  };

  void disturb();
  void look_after();
  void start(Process& process);
  [[noreturn]] void child(const Process& process);
  void bind_if_ready(Process& process);
  bool bind_actor(int actor, uint32_t life, pid_t pid, pid_t tid);
  void kill_one(Process& process);
  void lead_to_the_edge(const Process& process);
  bool is_overdue(const Process& process) const;
  bool is_at_the_edge(const Process& process) const;
  void reap();
  void ended(Process& process, bool violent);
  void expect_idle(int actor, const char* when, bool sets);
  void count_remains(const Process& process);
  bool has_begun(const Process& process) const;
  void take_away(Process& process);
  void see_off(Process& process);
  void shake_gate(const Process& process);
  void notice_thread(Process& process);
  void unbind_dead(int actor);
  std::vector<uint32_t> slots_of(const Process& process) const;
  void open_gates(const std::vector<uint32_t>& slots);
  bool freeze(const Process& process, const std::vector<uint32_t>& slots);
  void move_away_and_back(Process& process);
  size_t actors_left(const Process& process) const {
    return process.thread_gone ? 1 : process.actors.size();
  }
  void answer_doorbell();
  void watch();
  void show(int actor) const;

  bool finish();
  bool await(Phase phase, std::atomic<uint32_t> Actor::*sign, const char* what);
  void print_totals(double seconds) const;

  uint32_t slot(int actor) const { return region_.slot_of(kCast[actor].number); }
  Process& active_process();
  bool failed() const { return ledger_.errors.load() != 0; }
  Process& any_process() { return processes_[dice_.below(kProcesses)]; }

  const Options options_;
  const dvk::Region region_;
  Ledger& ledger_;
  Alone alone_;
  RemoteOps ops_;
  Dice dice_;
  Process processes_[kProcesses];
  uint32_t doorbell_ = 0;
  uint32_t lives_ = 16'200;  // so that each run passes where the ledger's 14 bits of it start anew
  uint64_t kills_ = 0;
  uint64_t aimed_ = 0;
  uint64_t exits_ = 0;
  uint64_t taken_away_ = 0;
  uint64_t gates_ = 0;
  uint64_t moves_ = 0;
  int64_t next_watch_ns_ = 0;
  // What those killed were doing.
  struct Remains {
    uint64_t in_call = 0, posted = 0, taken = 0, done = 0, waiting = 0, full = 0, filling = 0,
             touching = 0, filled_by_dead = 0;
  } remains_;
};

}  // namespace dvs::torture
