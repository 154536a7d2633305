// A node's part of one DC in the simulation: the real protocol, and a node that does what it is
// told (part_host.cc).
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "binding/bindings.h"
#include "directory/cluster.h"
#include "migrate/participant.h"
#include "proxy/remote_ops.h"
#include "world.h"

namespace dvs::sim {

constexpr char kOperationFrame = 'O';
constexpr char kImageFrame = 'I';
constexpr uint64_t kMemory = 64 << 12;  // of each process, bytes

// What a part has of its node.
struct NodeServices {
  World& world;
  Machine& machine;
  Life life;
  Scheduler& scheduler;
  Store& store;
  Cluster& cluster;
  Peers& peers;
  Faults& faults;
};

class Part final : private BindingHost, private ParticipantHost, private RemoteOps::Env {
 public:
  Part(const NodeServices& node, PartState& state);

  void open();  // takes up what an earlier dvsd left
  void on_doorbell() { ops_.on_doorbell(); }
  void process_died(const std::string& task);
  // A thread of the process asks for it. REQUIRES: may_ask().
  bool may_ask(const std::string& task) const;
  void bind_another(const std::string& task, uint32_t slot);
  void unbind_another(const std::string& task, uint32_t slot);
  bool has_closed_gates() const;

  // ---- the directory's and the other nodes' news ----
  void update_nodes();
  void place(uint32_t slot);
  void on_link_up(int peer);
  void on_link_down(int peer);
  void on_operation(int peer, const wire::Operation& operation);
  void serve_describe(const Json& args, const Done<Json>& reply);
  void serve_check(const Json& args, const Done<Json>& reply);
  Status serve_keep(const std::string& migration);

  Participant& participant() { return participant_; }

 private:
  // ---- ParticipantHost ----
  void copy_memory(const MigrationRecord& record, Done<mover::Round> done) override;
  void give_up_copying(const MigrationRecord& record) override;
  void copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) override;
  std::optional<Proposer::Endpoints> endpoints_of(const MigrationRecord& record) override;
  Result<bool> settle(const MigrationRecord& record) override;
  void freeze(const MigrationRecord& record, Done<bool> done) override;
  Status check_frozen(const MigrationRecord& record) override;
  void dump(const MigrationRecord& record, Done<DumpResult> done) override;
  Result<std::vector<Piece>> collect(const MigrationRecord& record) override;
  void await_target(const MigrationRecord& record, Done<bool> done) override;
  bool send(const MigrationRecord& record, std::string_view body) override;
  bool congested(const MigrationRecord&) override { return false; }
  void break_link(const MigrationRecord& record) override;
  void go_on(const MigrationRecord& record, Done<bool> done) override;
  void let_go(const MigrationRecord& record) override;
  void end_departed(const MigrationRecord& record, Done<bool> done) override;
  void on_round(const MigrationRecord&, const CopyingSchedule&) override {}
  void on_source_finished(const MigrationRecord& record) override;
  std::string image_directory(const MigrationRecord& record) override;
  void await_memory(const MigrationRecord& record, Done<Json> done) override;
  void restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) override;
  void take_in(const MigrationRecord& record, Done<bool> done) override;
  void settle_in(const MigrationRecord& record) override;
  void clean_up(const MigrationRecord& record, Done<bool> done) override;
  void on_target_finished(const MigrationRecord& record) override;
  void close_gates(const MigrationRecord& record) override;
  void open_gates(const MigrationRecord& record) override;
  void open_gates_except(const std::set<uint32_t>& slots) override;
  void begin_by_hand(const MigrationRecord&) override {}
  void end_by_hand(const MigrationRecord&) override {}
  void expect_memory(const MigrationRecord&) override {}
  void keep_memory(const MigrationRecord& record) override { keeping_.insert(record.id); }
  bool keeps_memory(const std::string& migration) override {
    return keeping_.count(migration) != 0;
  }
  void end_keeping(const std::string& migration) override;
  std::vector<std::string> migrations_with_images() override;
  void remove_images(const std::string& migration) override;
  std::unique_ptr<HeldTree> find_held(const MigrationRecord& record) override;
  std::vector<std::string> tasks() override;
  void thaw_if_frozen(const std::string& task) override;
  void look_whether_ended(const std::string&) override {}

  // ---- RemoteOps::Env ----
  bool send(NodeId node, const wire::Operation& operation) override;
  void drive_later(uint32_t slot) override;
  bool is_forgotten(uint32_t slot, uint64_t incarnation) const override {
    return cluster_.is_forgotten(dc_, slot, incarnation);
  }
  int read_memory(uint32_t, uint64_t, char*, size_t) override { return EDVSFAULT; }
  int write_memory(uint32_t, uint64_t, const char*, size_t) override { return EDVSFAULT; }

  // ---- BindingHost ----
  std::optional<std::string> task_of_thread(int tid) const override;
  bool has_task(const std::string& task) const override { return state_.tasks.count(task) != 0; }
  bool is_migrating(const std::string& task) const override { return participant_.migrates(task); }
  bool may_have_left(const std::string& task) const override;
  void watch(const EndpointRecord& record, uint64_t number) override;
  void unwatch(uint32_t) override {}
  bool is_retired(uint32_t) const override { return false; }
  void show_elsewhere(uint32_t slot, const dvk::Identity& primary) override;
  void on_gone(uint32_t) override {}
  void on_place_changed(uint32_t slot) override { ops_.on_place_changed(slot); }
  std::vector<EndpointRecord> unbound() const override { return state_.unbound; }
  void keep_unbound(const std::vector<EndpointRecord>& records) override;

  void fetch(const MigrationRecord& record, int64_t last_came_ns, Done<Json> done);

  // ---- words ----
  void after(int64_t ns, Work work) { world_.events().after(ns, life_, std::move(work)); }
  // What the machine goes on with when dvsd dies.
  void machine_after(int64_t ns, Work work) {
    world_.events().after(ns, machine_.power, std::move(work));
  }
  int64_t ms(int64_t low, int64_t high) {
    return world_.events().between_ns(low * 1'000'000, high * 1'000'000);
  }
  void serve_unbinds();
  void serve_unbind(uint32_t slot);
  void end_unbind(uint32_t slot, bool unbound);
  Status check_requests(const std::string& task) const;
  int id_of(const std::string& node) const;
  std::string dir_of(const std::string& migration) const { return state_.dir + "/" + migration; }
  SimProcess& process(const std::string& task) const { return world_.process(state_.dc, task); }
  std::optional<CopyState> copy_of(const std::string& task) const;

  World& world_;
  Machine& machine_;
  PartState& state_;
  const Life life_;
  const NodeId node_id_;
  const std::string dc_;
  Store& store_;
  Cluster& cluster_;
  Peers& peers_;
  Faults& faults_;
  Bindings bindings_;
  RemoteOps ops_;
  Participant participant_;
  std::set<std::string> keeping_;
  std::set<uint32_t> in_service_;  // unbinds
};

}  // namespace dvs::sim
