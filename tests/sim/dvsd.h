// A dvsd of the simulation: membership as node/membership.cc has it, links and requests as
// node/conductor.cc and services.cc; its parts of DCs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "directory/presence.h"
#include "migrate/coordinator.h"
#include "part.h"

namespace dvs::sim {

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

class Dvsd final : private Peers, private Cluster::Listener, private Network::End {
 public:
  Dvsd(World& world, Machine& machine);
  ~Dvsd() override;

  void start();  // joins the cluster
  Life life() const { return life_; }
  bool joined() const { return !parts_.empty(); }
  const Cluster& cluster() const { return cluster_; }
  bool has_closed_gates() const;
  // REQUIRES: joined().
  Part& part(size_t dc) { return *parts_[dc]; }

  // ---- what somebody asks for ----
  void migrate(MigrationRequest request);
  void cancel(const std::string& migration);

 private:
  // ---- Peers ----
  void call(const std::string& node, const std::string& call, Json args,
            std::chrono::milliseconds timeout, Done<Json> done) override;
  void serve(const std::string& call, const Json& args, const Done<Json>& reply);
  void serve_part(Part& part, const std::string& call, const Json& args, const Done<Json>& reply);

  // ---- Cluster::Listener ----
  void on_node(const std::string& name) override;
  void on_dc(const std::string&) override {}
  void on_part(const std::string&, const std::string&) override {}
  void on_endpoint(const std::string& dc, uint32_t slot) override;
  void on_migration(const std::string& id, const MigrationRecord* before) override;

  // ---- Network::End ----
  void on_link_up(int peer) override;
  void on_link_down(int peer) override;
  void on_frame(int peer, const std::string& frame) override;
  void on_request(int peer, const Json& request);
  void on_answer(const Json& answer);

  // ---- membership ----
  void join();
  void begin();

  void after(int64_t ns, Work work) { world_.events().after(ns, life_, std::move(work)); }
  Part* part_named(const std::string& dc) const;

  World& world_;
  Machine& machine_;
  const Life life_;
  SimScheduler scheduler_;
  SimFaults faults_;
  std::unique_ptr<Store> store_;
  Cluster cluster_;
  Presence presence_;
  Coordinator coordinator_;
  std::vector<std::unique_ptr<Part>> parts_;  // by the DC's number; none before it has joined
  uint64_t next_call_ = 0;
  struct Call {
    std::string node;
    Done<Json> done;
  };
  std::map<uint64_t, Call> calls_;
};

}  // namespace dvs::sim
