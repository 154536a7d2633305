// A dvsd of the simulation: the real protocol, and a node that does what it is told.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "directory/cluster.h"
#include "migrate/coordinator.h"
#include "migrate/participant.h"
#include "proxy/remote_ops.h"
#include "world.h"

namespace dvs::sim {

constexpr const char* kDc = "DC0";
constexpr char kImageFrame = 'I';
constexpr uint64_t kMemory = 64 << 12;  // of each process, bytes

// Strikes where the adversary has armed it; counts what is come by.
class SimFaults final : public Faults {
 public:
  SimFaults(World& world, int node) : Faults(true), world_(world), node_(node) {}
  bool fires(Fault fault) override;
  void die_at(Fault fault) override;
  void on_step(const Step& step) override;

 private:
  World& world_;
  const int node_;
};

class Dvsd final : private ParticipantHost,
                   private RemoteOps::Env,
                   private Peers,
                   private Cluster::Listener,
                   private Network::End {
 public:
  Dvsd(World& world, Machine& machine);
  ~Dvsd() override;

  void start();  // joins the cluster
  Life life() const { return life_; }
  bool joined() const { return joined_; }
  void on_doorbell();
  void process_died(const std::string& task);

  // ---- what somebody asks for ----
  void migrate(MigrationRequest request);
  void cancel(const std::string& migration);
  void bind_another(const std::string& task, uint32_t slot);
  // By which phase of a migration it is busy, if it is; for the account of crashes.
  const Cluster& cluster() const { return cluster_; }
  bool migrates(const std::string& task) const {
    return participant_ != nullptr && participant_->migrates(task);
  }
  bool has_closed_gates() const;

 private:
  // ---- ParticipantHost ----
  void copy_memory(const MigrationRecord& record, Done<mover::Round> done) override;
  void give_up_copying(const MigrationRecord& record) override;
  void copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) override;
  std::optional<Proposer::Endpoints> endpoints_of(const MigrationRecord& record) override;
  bool is_being_bound(const std::string& task) const;
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
    return cluster_.is_forgotten(kDc, slot, incarnation);
  }
  int read_memory(uint32_t, uint64_t, char*, size_t) override { return EDVSFAULT; }
  int write_memory(uint32_t, uint64_t, const char*, size_t) override { return EDVSFAULT; }

  // ---- Peers ----
  void call(const std::string& node, const std::string& call, Json args,
            std::chrono::milliseconds timeout, Done<Json> done) override;
  void serve(const std::string& call, const Json& args, const Done<Json>& reply);
  void serve_describe(const Json& args, const Done<Json>& reply);
  void serve_check(const Json& args, const Done<Json>& reply);

  // ---- Cluster::Listener ----
  void on_node(const std::string& name) override;
  void on_dc(const std::string&) override {}
  void on_part(const std::string&, const std::string&) override {}
  void on_endpoint(const std::string& dc, uint32_t slot) override;
  void on_migration(const std::string& id) override;

  // ---- Network::End ----
  void on_link_up(int peer) override;
  void on_link_down(int peer) override;
  void on_frame(int peer, const std::string& frame) override;

  // ---- membership, as node/membership.cc has it ----
  void take_lease();
  void announce();
  void keep_lease();
  void lease_lost();
  void begin();
  void update_nodes();

  // ---- binding, as node/dc_bind.cc has it ----
  void place(uint32_t slot);
  void on_record_gone(uint32_t slot);
  void bind_again(uint32_t slot, const std::string& task);
  void bind_local(const EndpointRecord& record, uint64_t incarnation);
  void remove_from_directory(uint32_t slot);
  void show(uint32_t slot, const dvk::Identity& identity);
  void withdraw(uint32_t slot);
  dvk::Identity identity_of(const EndpointRecord& record, uint64_t incarnation) const;
  void commit_capsule(const MigrationRecord& record, const dvk::Capsule& capsule, Done<bool> done);
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
  int id_of(const std::string& node) const;
  std::shared_ptr<Held> held(const MigrationRecord& record);
  bool has_copy(const std::string& task, CopyState state) const;

  World& world_;
  Machine& machine_;
  const Life life_;
  const NodeId node_id_;
  SimScheduler scheduler_;
  SimFaults faults_;
  std::unique_ptr<Store> store_;
  Cluster cluster_;
  RemoteOps ops_;
  Coordinator coordinator_;
  std::unique_ptr<Participant> participant_;
  std::map<std::string, MigrationRecord> seen_;
  std::map<uint32_t, std::string> bound_;  // slot: the task
  std::set<std::string> keeping_;
  bool joined_ = false;
  uint64_t next_call_ = 0;
  struct Call {
    std::string node;
    Done<Json> done;
  };
  std::map<uint64_t, Call> calls_;
};

}  // namespace dvs::sim
