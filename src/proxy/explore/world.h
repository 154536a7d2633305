// A whole cluster of one DC in one thread, in virtual time: nodes with their regions and their
// dvsd's RemoteOps, links, the directory's news, and processes that run the real calls of libdvk
// (dvk/caller.h) on fibers. A random scheduler, seeded, decides after every access to shared memory
// who goes on, and may break links, kill dvsds and processes at any of these points and migrate
// processes, as dvsd would. A run is determined by its options.
//
// A migrated process keeps its mapping: its view of the region is replaced, at the same address,
// by the target's, as criu does it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "dvk/caller.h"
#include "dvk/node_view.h"
#include "proxy/explore/fiber.h"
#include "proxy/remote_ops.h"

namespace dvs::explore {

struct Options {
  uint64_t seed = 1;
  uint32_t nodes = 3;
  // Up to so many accesses to shared memory before somebody else may go on; 0: only sleeps switch.
  uint32_t preempt = 0;
  // The chance of an adversary's action per step of the scheduler, in 1/1000, and how many of each.
  int adversity = 0;
  int link_losses = 0;
  int restarts = 0;
  int migrations = 0;
  int kills = 0;
  uint32_t copy_chunk = 64 * 1024;
};

class World;

// A process of the DC: endpoints, each with a thread (fiber), on one node at a time.
struct Migration;
struct Process {
  struct Thread {
    uint32_t slot = 0;
    std::unique_ptr<Fiber> fiber;
    const dvk::Atomic<uint32_t>* sleeps_on = nullptr;
    uint32_t expected = 0;
    dvk::Deadline deadline = dvk::Deadline::never();
  };
  int id = 0;
  NodeId node = 0;
  dvk::Region view;
  std::vector<Thread> threads;
  bool frozen = false;
  bool alive = true;
  bool may_be_killed = false;
  bool may_migrate = true;
  uint64_t incarnation = 0;  // of its first endpoint; it starts when that is bound
  uint64_t accesses = 0;
  bool killed = false;             // about to be buried
  Migration* migration = nullptr;  // until source and target are done with it

  std::vector<uint32_t> slots() const;
};

// What a migration has come to.
struct Migration {
  Process* process = nullptr;
  NodeId source = 0;
  NodeId target = 0;
  uint32_t epoch = 0;        // of the committed place
  bool gate_closed = false;  // on the source
  bool frozen = false;
  bool decided = false;
  bool thawed = false;    // at the target
  std::string capsule;    // once extracted
  std::set<NodeId> done;  // who has applied the decision
};

// The directory's news, in the order in which every node hears them, each when it likes.
struct News {
  enum class What { kBind, kUnbind, kStart, kCommit, kRollback, kNodeLost };
  What what = What::kBind;
  uint32_t slot = 0;  // kNodeLost: the node
  dvk::Identity identity;
  Migration* migration = nullptr;
};

class World {
 public:
  explicit World(const Options& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  static World& current();

  // A process on `node` whose threads have these endpoints, known to all nodes at once.
  Process& add_process(NodeId node, const std::vector<int>& endpoints);
  // What the thread of an endpoint does. `body` may use caller() and must survive being abandoned.
  void run_in(Process& process, int endpoint, std::function<void()> body);

  // Runs until everybody has ended or sleeps for ever. False: failed() says why.
  bool run();
  // Runs until `condition`, without an adversary. False: it never came true.
  bool run_until(const std::function<bool()>& condition);

  // For bodies: one call on an endpoint of the process they belong to.
  int call(Process& process, int endpoint, const std::function<int(dvk::Caller&)>& body);

  void fail(const std::string& why);
  const std::string& failure() const { return failure_; }
  uint64_t random(uint64_t below) {
    return std::uniform_int_distribution<uint64_t>(0, below - 1)(rng_);
  }
  bool chance(int in_1000) { return static_cast<int>(random(1000)) < in_1000; }
  int64_t now_ns() const { return now_ns_; }
  void trace(const std::string& what);

  // ---- the adversary, also by hand
  // ----------------------------------------------------------------
  bool link_is_up(NodeId a, NodeId b) const;
  void drop_link(NodeId a, NodeId b);  // with a part of what is in flight
  void raise_link(NodeId a, NodeId b);
  void restart_dvsd(NodeId node);
  Migration* start_migration(Process& process, NodeId target);
  void decide(Migration& migration, bool commit);
  void kill(Process& process);
  void unbind(uint32_t slot);
  // The node is gone for good; the others unbind what was there.
  void lose_node(NodeId node);

  // Called before each frame is delivered, with its number. For the links and dvsds.
  std::function<void(uint64_t)> on_frame;
  // Called before each access to shared memory by a node's dvsd, or by a process, with its number.
  // True: it is killed there.
  std::function<bool(NodeId, uint64_t)> dvsd_dies_at;
  std::function<bool(const Process&, uint64_t)> process_dies_at;
  // The directory knows now that a slot is free.
  std::function<void(uint32_t)> on_unbound;

  const dvk::Region& region(NodeId node) const;
  uint32_t slot(int endpoint) const { return region(0).slot_of(endpoint); }
  Process* process_of(uint32_t slot) const;
  // Whether a link was down or a dvsd restarted at some time: some outcomes are unknown then.
  bool disturbed() const { return disturbed_; }
  bool somebody_died() const { return somebody_died_; }
  int restarts() const { return restarts_; }
  // Who sleeps, though it has a body that only ever sleeps for ever in receive.
  std::string stuck_outside_receive() const;
  uint64_t frames() const { return frames_; }
  bool all_over() const;  // every body has ended, or its process
  std::string describe_state() const;

  // ---- for the replaced parts of libdvk
  // --------------------------------------------------------------
  void access();
  int sleep(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline);  // futex_wait

 private:
  struct Node;
  using Body = std::function<void()>;

  void start_dvsd(Node& node);
  void dvsd_main(Node& node);
  bool next_event(Node& node, Body& event);
  bool has_event(const Node& node) const;
  void deliver(Node& node, NodeId from, const std::string& frame);
  void apply(Node& node, const News& news);
  bool apply_commit(Node& node, Migration& migration);
  void try_arrival(Node& node, Migration& migration);
  void carried_out(const Node& node, Migration& migration);
  void step_source(Node& node, Migration& migration);
  bool source_can_step(const Node& node, const Migration& migration) const;
  void bury(Process& process);

  void act_as_adversary();
  void migrate_somebody();
  bool mend();
  bool step();
  void run_thread(Process& process, Process::Thread& thread);
  void run_dvsd(Node& node);
  bool advance_time();
  bool can_run(const Process& process, const Process::Thread& thread) const;
  void resume(Fiber& fiber);
  void move_view(Process& process, const Node& to);

  Options options_;
  std::mt19937_64 rng_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<std::unique_ptr<Migration>> migrations_;
  std::deque<News> log_;  // fibers hold references
  std::map<std::pair<NodeId, NodeId>, std::deque<std::string>> frames_in_flight_;  // directed
  std::set<std::pair<NodeId, NodeId>> links_down_;                                 // ordered pairs
  Process* running_process_ = nullptr;
  Process::Thread* running_thread_ = nullptr;
  Node* running_dvsd_ = nullptr;
  std::string failure_;
  int64_t now_ns_ = 1'000'000'000;
  uint64_t budget_ = 0;
  uint64_t frames_ = 0;
  uint64_t incarnations_ = 0;
  bool disturbed_ = false;
  bool somebody_died_ = false;
  bool started_ = false;
  int restarts_ = 0;
};

}  // namespace dvs::explore
