// Writes to a migration's record, by compare-and-swap: START after copying, the outcome, and that
// no memory is owed any more. This is where a migration is decided. Whatever comes of a proposal
// arrives by the watch; while the directory cannot be reached nothing is known and nothing happens:
// it is asked again until it answers.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/scheduler.h"
#include "directory/cluster.h"
#include "directory/store.h"
#include "migrate/faults.h"

namespace dvs {

// Who proposes: may change when a dvsd joins its cluster, or gets a new lease.
struct Self {
  const std::string& name;
  const NodeId& id;
  const int64_t& lease;
};

// The endpoints of a committed migration have this epoch, once its outcome is known.
uint32_t committed_epoch(const Cluster& cluster, const MigrationRecord& record);

class Proposer : public std::enable_shared_from_this<Proposer> {
 public:
  using Endpoints = std::map<uint32_t, int>;                       // by slot: the number
  using EndpointsNow = std::function<std::optional<Endpoints>()>;  // none: not yet known

  Proposer(Scheduler& scheduler, Store& store, const Cluster& cluster, Faults& faults, Self self)
      : scheduler_(scheduler), store_(store), cluster_(cluster), faults_(faults), self_(self) {}

  // The copying is over, so that everybody closes the gates. `endpoints`: those that the task has
  // by then; it may have bound and unbound some meanwhile. `record` says how the copying went.
  void freeze(const MigrationRecord& record, const EndpointsNow& endpoints);
  // The outcome, unless there is one; `record` says what was measured. With COMMIT, in one
  // transaction, the new places, if the endpoints are still where this node saw them, and were
  // bound before START.
  void commit(const MigrationRecord& record);
  void rollback(const MigrationRecord& record, const std::string& reason);

  // Memory that was owed has come, or is lost; `reason`, if it is.
  void settle_memory(const std::string& migration, OwedMemory memory, const std::string& reason);
  // Runs `then` once nothing is owed: at once if that is so.
  void await_settled(const std::string& migration, std::function<void()> then);
  // The record says that nothing is owed.
  void on_settled(const std::string& migration);
  // What is kept for a process whose node was lost is of no use: whoever sees it says so, since the
  // one who keeps it may be lost too. A node that is only cut off has as long to come back as the
  // process would wait. To be called when a node has gone.
  void look_for_lost_targets(const std::string& dc);

 private:
  void propose(const MigrationRecord& record, MigrationState outcome, const std::string& reason,
               int attempt);
  void propose_again(const MigrationRecord& record, MigrationState outcome,
                     const std::string& reason, int attempt, bool refused);
  void freeze_later(const MigrationRecord& record, const EndpointsNow& endpoints,
                    std::chrono::milliseconds delay);
  bool bound_since(const Cluster::MigrationEntry& start) const;
  std::vector<Change> new_places(const MigrationRecord& record) const;
  Compare unchanged(const std::string& dc, uint32_t slot) const;

  Scheduler& scheduler_;
  Store& store_;
  const Cluster& cluster_;
  Faults& faults_;
  const Self self_;
  std::map<std::string, std::vector<std::function<void()>>> when_settled_;  // by migration
  std::set<std::string> waiting_for_;  // migrations whose target has gone, and may come back
};

}  // namespace dvs
