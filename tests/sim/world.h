// A cluster in virtual time: one or two DCs on machines with the real protocol
// (migrate/participant.h and all below, proxy/remote_ops.h, dvk/node_view.h) over a model of etcd
// and of the network, processes that run the real calls of libdvk, migrations that somebody asks
// for, and everything that can fail. Judged from outside: requests are answered once and in order;
// never two copies of a process run; never none while the node that has it lives; when the faults
// are over nothing is stuck.
//
// Fibers switch only where they sleep: what happens between two accesses to shared memory is for
// src/proxy/explore.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "bugs.h"
#include "directory/records.h"
#include "event_queue.h"
#include "ledger.h"
#include "migrate/faults.h"
#include "model_store.h"
#include "network.h"
#include "process.h"

namespace dvs::sim {

struct Options {
  uint64_t seed = 1;
  Bug bug = Bug::kNone;
  bool trace = false;
};

// What a run has come to; added up over many.
struct Tally {
  uint64_t seeds = 0;
  uint64_t requests = 0;
  uint64_t answered = 0;
  uint64_t migrations = 0;
  uint64_t committed = 0;
  uint64_t rolled_back = 0;
  uint64_t lost_memory = 0;
  uint64_t processes_lost = 0;
  std::map<std::string, uint64_t> faults;  // by kind
  std::map<std::string, uint64_t> points;  // crash points that struck
  std::map<const Step*, uint64_t> steps;   // of the protocol's table
  std::vector<int64_t> recovery_ns;        // from the end of the faults until all was well
  void add(const Tally& other);
};

class Dvsd;

constexpr int kFirstClient = 10;  // endpoint; servers are before

// Of a DC by its number. The same task names, endpoints and request numbers are in each.
std::string dc_name(size_t dc);

// A restored process at its gate: dvs-criu, which no dvsd's death disturbs.
struct Held {
  enum class State { kRestoring, kWaiting, kResumed, kEnded };
  SimProcess* process = nullptr;
  State state = State::kRestoring;
  std::optional<bool> decision;  // the first counts
  std::vector<Work> when_resumed;
  std::vector<Work> when_ended;
};

// Of a machine, for one DC: what a dvsd's death leaves, the kernel's and the tmpfs's.
struct PartState {
  size_t dc = 0;  // its number
  std::string dir;
  dvk::Region region;
  UniqueFd region_fd;
  std::map<std::string, std::vector<uint32_t>> tasks;
  std::map<std::string, std::shared_ptr<Held>> held;  // by migration
  std::set<std::string> kept;                         // sealed stores of a file server
  std::map<std::string, int> fetched;                 // by migration: parts of what is owed
  std::vector<EndpointRecord> unbound;                // to be bound again
  std::map<uint32_t, std::string> unbinding;          // asked for, not answered: slot, task
  uint32_t doorbell_seen = 0;
  bool doorbell_scheduled = false;
};

struct Machine {
  int id = 0;
  std::string name;
  Life power = kForever;
  bool on = false;
  bool gone = false;  // for good
  uint64_t boots = 0;
  int64_t lease = 0;
  std::vector<PartState> parts;  // by the DC's number
  std::unique_ptr<Dvsd> dvsd;
};

// A dvsd dies at a crash point: thrown through it.
struct Crash {};

class World {
 public:
  explicit World(const Options& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  static World& current();
  // Where the world of that process has what is on its machines; removed at its end.
  static std::string files_of(int pid);

  // Empty: all was well.
  std::string run();
  const Tally& tally() const { return tally_; }

  // ---- for Dvsd ----
  EventQueue& events() { return events_; }
  ModelStore& store() { return store_; }
  Network& network() { return network_; }
  Machine& machine(int id) { return *machines_[static_cast<size_t>(id)]; }
  Machine* machine_named(const std::string& name);
  size_t dcs() const { return ledgers_.size(); }
  SimProcess& process(size_t dc, const std::string& task) { return *processes_.at({dc, task}); }
  SimProcess* process_of(size_t dc, uint32_t slot);
  bool has_bug(Bug bug) const { return options_.bug == bug; }
  Tally& tally() { return tally_; }
  std::map<Fault, int>& armed(int machine) { return armed_[machine]; }
  void fail(const std::string& why);
  template <typename... Args>
  void trace(fmt::format_string<Args...> format, Args&&... args) {
    if (options_.trace) say(fmt::format(format, std::forward<Args>(args)...));
  }
  // A copy on that node begins to run, stops, or is there no more. Judged.
  void set_copy(SimProcess& process, int node, std::optional<CopyState> state);
  void note_outcome(const std::string& migration, bool committed) {
    outcomes_[migration] = committed;
  }
  // It has ended; its node's dvsd sees that.
  void lose(SimProcess& process);

  // ---- for libdvk ----
  int sleep(dvk::Atomic<uint32_t>& word, uint32_t expected, dvk::Deadline deadline);

 private:
  void say(const std::string& what) const;
  void build();
  void build_dc(size_t dc);
  void power_on(int id);
  void power_off(int id);
  void power_on(Machine& machine, PartState& part);
  bool is_being_restored(const SimProcess& process) const;
  void start_dvsd(int id);
  void kill_dvsd(int id, const char* how);
  void happen();

  SimProcess& add_process(size_t dc, const std::vector<int>& endpoints);
  void serve(SimProcess& process, int endpoint);
  void ask(SimProcess& process, int endpoint);
  int call(SimProcess& process, int endpoint, const std::function<int(dvk::Caller&)>& body);
  void pause(int64_t ns);
  bool can_run(const SimProcess& process, const Thread& thread) const;
  void run_thread(SimProcess& process, Thread& thread);
  void look_at_threads();
  void look_at_doorbells();

  void plan_faults();
  void strike();
  void strike_machine(int id);
  void strike_network(int id);
  void switch_off_for(int id, int64_t length_ns);
  void cut_off(int id, int64_t length_ns);
  void end_lease(int id);
  void lose_for_good(int id);
  void ask_for_migration();
  void hide_outcome(int source, int target);
  SimProcess& any_process();
  void bind_another(SimProcess& process);
  void unbind_another(const SimProcess& process);
  void cancel_something();
  void count(const char* fault) { ++tally_.faults[fault]; }
  void heal();
  // unsettled.cc: empty: all is well.
  std::string unsettled();
  std::string unsettled_machine(const Machine& machine) const;
  std::string unsettled_part(const Machine& machine, const PartState& part) const;
  std::string unsettled_process(const SimProcess& process) const;
  std::string unsettled_directory();

  const Options options_;
  EventQueue events_;
  ModelStore store_;
  Network network_;
  std::vector<std::unique_ptr<Machine>> machines_;
  using Processes = std::map<std::pair<size_t, std::string>, std::unique_ptr<SimProcess>>;
  Processes processes_;                    // by the DC's number and task
  std::vector<std::vector<int>> servers_;  // of each DC: endpoints
  std::vector<Ledger> ledgers_;            // ... what was asked in it
  std::map<std::string, int64_t> over_;    // migrations that are, by key: as of which revision
  Tally tally_;
  std::map<int, std::map<Fault, int>> armed_;
  std::map<std::string, bool> outcomes_;  // by migration: whether it was committed
  SimProcess* running_process_ = nullptr;
  Thread* running_thread_ = nullptr;
  int64_t faults_end_ns_ = 0;
  bool faults_over_ = false;
  bool somebody_was_lost_ = false;
  std::string failure_;
  int next_pid_ = 0;
  int others_ = 0;  // endpoints of bind_another()

 public:
  int alive_dvsd_ = -1;  // whose work is being done
};

}  // namespace dvs::sim
