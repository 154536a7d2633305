// Who has which endpoint of one DC, as one node sees and decides it: the directory says so, by
// transactions that compare; the region shows it to the processes. Binding, unbinding, what a lease
// that has ended takes away, and the endpoints that a migration brings or takes along. Pure
// protocol: what is to be known or done of the node, its host says and does (node/dc_part.h; in the
// simulator, tests/sim/part.h). One thread; nothing blocks.
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
#include "dvk/node_view.h"

namespace dvs {

class BindingHost {
 public:
  virtual ~BindingHost() = default;
  // The task of a living thread of this node, by its number in the DC. None: no such thread lives
  // here, or its task has left.
  virtual std::optional<std::string> task_of_thread(int tid) const = 0;
  virtual bool has_task(const std::string& task) const = 0;
  // Participant::migrates(), may_have_left(). Until it is known what earlier migrations have left
  // here, every task migrates.
  virtual bool is_migrating(const std::string& task) const = 0;
  virtual bool may_have_left(const std::string& task) const = 0;
  // The endpoint's thread is here, bound by that `number`. When it has ended, also before this
  // call: forgets the binding if it still has that number, and removes the record.
  virtual void watch(const EndpointRecord& record, uint64_t number) = 0;
  virtual void unwatch(uint32_t slot) = 0;
  // Its process has ended and somebody is still to be told so: it is not found again.
  virtual bool is_retired(uint32_t slot) const = 0;
  // The endpoint is another node's: shown (Bindings::show) as `primary`, or to who stands by.
  virtual void show_elsewhere(uint32_t slot, const dvk::Identity& primary) = 0;
  // Nobody has the endpoint any more, and the region says so, or will soon.
  virtual void on_gone(uint32_t slot) = 0;
  virtual void on_place_changed(uint32_t slot) = 0;
  // What is to be bound again, kept for a dvsd that comes after this one.
  virtual std::vector<EndpointRecord> unbound() const = 0;
  virtual void keep_unbound(const std::vector<EndpointRecord>& records) = 0;
};

// What bindings need of their node, beside the host. All outlives them.
struct BindingServices {
  Scheduler& scheduler;
  Store& store;
  Cluster& cluster;
  const dvk::Region& region;
  const NodeId& node;
  const int64_t& lease;  // the node's, as it is at the moment
};

class Bindings {
 public:
  Bindings(const BindingServices& services, BindingHost& host, std::string dc);
  Bindings(const Bindings&) = delete;
  Bindings& operator=(const Bindings&) = delete;

  // ---- the directory's news ----
  // Where the endpoint is may have changed.
  void place(uint32_t slot);
  // ... of each that the directory or the region has; what an earlier dvsd had to bind again is.
  void place_all();
  // An unbind that an earlier dvsd had begun goes on.
  void withdraw_what_leaves();

  // ---- binding ----
  // Claims an endpoint for a process of this node, and shows it. Answers the endpoint. kConflict:
  // it is in use. kUnavailable, kTimeout: it may have been written nevertheless.
  void bind(const EndpointRecord& record, Done<int> done);
  // Of a process that will not run.
  void withdraw_claim(const EndpointRecord& record);
  // The directory has it already. `then`: once the processes see it.
  void bind_local(const EndpointRecord& record, uint64_t incarnation,
                  const std::function<void()>& then);
  // As its process wishes; answers when this node knows it too, so that it can be bound anew.
  // kUnavailable: it is just being bound again, which can only be undone after that; ask again.
  // kConflict: it has changed, or the directory did not answer.
  // REQUIRES: no other node has it.
  void unbind(uint32_t slot, Done<bool> done);
  // bind(), now and then, until it is bound, has died, or somebody else has the endpoint; also by
  // the dvsd that comes after this one.
  void bind_until_done(const EndpointRecord& record);
  // Gives an endpoint of this node back. If the directory cannot be reached, tries until it can.
  void remove_from_directory(uint32_t slot);
  // Shows it in the region as soon as nobody is in the middle of something with its last owner;
  // not at all if the directory does not say so any more.
  void show(uint32_t slot, const dvk::Identity& identity, std::function<void()> then);
  void withdraw(uint32_t slot);
  // For what waits until somebody has left a slot: that takes microseconds, or as long as a copy,
  // or until a process that was stopped goes on.
  void again_later(uint32_t slot, std::function<void()> then);

  // ---- what is bound here ----
  bool is_bound(uint32_t slot) const { return bound_.count(slot) != 0; }
  bool is_bound(uint32_t slot, uint64_t number) const;
  std::optional<std::string> task_of(uint32_t slot) const;
  std::vector<uint32_t> slots_of(const std::string& task) const;
  // The number that names the endpoint: servers keep theirs, a user slot's has a generation made
  // from the revision that bound it.
  int endpoint_number(uint32_t slot, uint64_t incarnation) const;
  // Nobody watches over it any more.
  void forget(uint32_t slot);
  void forget_all();

  // ---- migrations ----
  // An Error: what is bound is not (only) what the directory says and `slots` names.
  Status check(const std::string& task, const std::vector<uint32_t>& slots) const;
  // An Error: it would stay without what is about to be bound again here.
  Status check_bound(const std::string& task) const;
  // COMMIT at the source: the endpoints are that node's, and what was to be bound again too.
  void leave(const std::string& task, const std::vector<uint32_t>& slots, NodeId to,
             uint32_t epoch);
  // ... at the target: binds what the capsule has brought.
  void arrive(const std::string& task, const std::vector<uint32_t>& slots, dvk::Capsule capsule,
              uint32_t epoch, std::function<void()> then);
  // It runs here.
  void settle_in(const std::string& task, const std::vector<uint32_t>& slots);

 private:
  // An endpoint that a process of this node has.
  struct Bound {
    uint64_t number = 0;  // so that nothing is done to a later binding
    std::string task;
  };

  void find_again(const Cluster::EndpointEntry& entry);
  void on_record_gone(uint32_t slot);
  std::optional<EndpointRecord> lost_with_lease(uint32_t slot) const;
  std::optional<EndpointRecord> to_be_bound(uint32_t slot) const;
  void begin_to_bind(uint32_t slot);
  void bind_again(uint32_t slot);
  void bind_again_later(uint32_t slot);
  void end_binding(uint32_t slot);
  void remember_unbound(uint32_t slot, const std::optional<EndpointRecord>& record);
  void remove_record(const Cluster::EndpointEntry& of);
  void unbound_in_directory(uint32_t slot, int64_t revision, const Done<bool>& done);
  void watch(const EndpointRecord& record);
  void watch_arrived(const std::string& task, uint32_t slot);
  void bury_forgotten(uint32_t slot);
  dvk::Identity identity_of(const EndpointRecord& record, uint64_t incarnation) const;
  const Cluster::EndpointEntry* entry(uint32_t slot) const { return cluster_.endpoint(dc_, slot); }
  std::string key(uint32_t slot) const { return cluster_.keys().endpoint(dc_, slot); }
  void after(std::chrono::milliseconds delay, Scheduler::Work work);

  Scheduler& scheduler_;
  Store& store_;
  Cluster& cluster_;
  const dvk::Region& region_;
  const NodeId& node_;
  const int64_t& lease_;
  BindingHost& host_;
  const std::string dc_;
  std::map<uint32_t, Bound> bound_;
  uint64_t numbers_ = 0;
  std::set<uint32_t> binding_;     // until it is done
  std::set<uint32_t> unbinding_;   // as the process has asked
  std::map<uint32_t, int> waits_;  // by slot: looks whether somebody has left it
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace dvs
