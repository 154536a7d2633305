// A node's part in the migrations of one DC: follows their records, is source, target, file server
// or bystander of each, and carries out what was decided; also after a restart of its dvsd. Pure
// protocol: what is to be done on the node, its host does (node/dc_part.h; in tests, a simulated
// one).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "migrate/peers.h"
#include "migrate/source.h"
#include "migrate/target.h"

namespace dvs {

class ParticipantHost : public SourceHost, public TargetHost {
 public:
  // The gates of the record's endpoints on this node; opened, what waits at them is driven on.
  virtual void close_gates(const MigrationRecord& record) = 0;
  virtual void open_gates(const MigrationRecord& record) = 0;
  // Every gate that is closed, except of these slots.
  virtual void open_gates_except(const std::set<uint32_t>& slots) = 0;
  // A migration by hand (dvk_migr_start() and so on): no process is moved.
  virtual void begin_by_hand(const MigrationRecord& record) = 0;
  virtual void end_by_hand(const MigrationRecord& record) = 0;
  // This node is the target: whoever fills its memory is to be ready.
  virtual void expect_memory(const MigrationRecord& record) = 0;
  // This node is the file server: takes memory in, until nobody is owed any more.
  virtual void keep_memory(const MigrationRecord& record) = 0;
  virtual bool keeps_memory(const std::string& migration) = 0;
  virtual void end_keeping(const std::string& migration) = 0;

  // ---- what an earlier dvsd has left ----
  virtual std::vector<std::string> migrations_with_images() = 0;
  virtual void remove_images(const std::string& migration) = 0;
  // The restored tree that waits for the decision; null: there is none.
  virtual std::unique_ptr<HeldTree> find_held(const MigrationRecord& record) = 0;
  virtual std::vector<std::string> tasks() = 0;  // that have not ended
  virtual void thaw_if_frozen(const std::string& task) = 0;
  virtual void look_whether_ended(const std::string& task) = 0;
};

// What a participant needs of its node, beside the host.
struct ParticipantServices {
  Scheduler& scheduler;
  Store& store;
  const Cluster& cluster;
  Peers& peers;
  Faults& faults;
  Self self;
};

class Participant {
 public:
  // `host` lives as long as what it has been asked to do. `dc`: the DC's name.
  Participant(const ParticipantServices& services, ParticipantHost& host, std::string dc);
  ~Participant();
  Participant(const Participant&) = delete;
  Participant& operator=(const Participant&) = delete;

  // ---- the directory's news ----
  void on_migration(const MigrationRecord& record, const MigrationRecord* before);
  // The record was removed; `before`: as it was known last.
  void on_forgotten(const MigrationRecord& before);
  void on_nodes_changed();
  // After a restart: migrations in which this node takes part, and what they left here.
  void recover();

  // ---- from other nodes ----
  void on_link_down(const std::string& node);
  void on_writable(const std::string& node);
  // False: nobody here receives images of that migration from that node (any more).
  bool on_image(const std::string& from, const std::string& migration, std::string_view body);
  // Answers once this node knows of the migration (its record has arrived by the watch). kConflict:
  // it has ended.
  void expect(const std::string& migration, Done<bool> done);
  // Copying of memory is to end with the round it is in.
  void hurry(const std::string& migration, const std::string& why);

  // Whether this node is still busy with a migration of that task, perhaps one that is decided.
  bool migrates(const std::string& task, const std::string& other_than = "") const;
  // As its source: START has been seen, or is being written.
  bool is_stopping(const std::string& task) const;

  // As its source: whether it will run here again is not known, or not carried out yet. Nothing is
  // bound for it meanwhile.
  bool may_have_left(const std::string& task) const;

  Proposer& proposer() { return *proposer_; }
  Reporter& reporter() { return *reporter_; }

  // ---- for the host: the source's or target's part is over ----
  void forget_source(const std::string& migration);
  void forget_target(const std::string& migration);

 private:
  void begin(const MigrationRecord& record);
  void activate(const MigrationRecord& record);
  void end(const MigrationRecord& record, const MigrationRecord* before);
  void end_keeping(const std::string& migration);
  void step(MigrationRole role, Phase from, Event on);
  bool is_bystander(const MigrationRecord& record) const;
  void close_gates(const MigrationRecord& record);
  void look_for_target(Source& source) const;
  void look_for_source(Target& target) const;
  void take_up_postponed();
  void recover_images();
  void recover_sources();
  void recover_without_images();
  void recover_departed();
  void recover_task(const std::string& task);
  void recover_gates();
  const MigrationRecord* last_here(const std::string& task) const;
  std::shared_ptr<Source> make_source(const MigrationRecord& record);
  std::shared_ptr<Target> make_target(const MigrationRecord& record);

  Scheduler& scheduler_;
  const Cluster& cluster_;
  Faults& faults_;
  ParticipantHost& host_;
  const std::string dc_;
  const std::string& here_;
  const std::shared_ptr<Proposer> proposer_;
  const std::shared_ptr<Reporter> reporter_;
  const Protocol protocol_;
  std::map<std::string, std::shared_ptr<Source>> sources_;
  std::map<std::string, std::shared_ptr<Target>> targets_;
  std::map<std::string, std::vector<Done<bool>>> expected_;
  // Of migrations that an earlier dvsd was the source of, and whose outcome is being carried out.
  std::map<std::string, std::string> departed_;  // by migration: the task
  // Records of a task whose last migration is not carried out yet, each with the one before it.
  std::vector<std::pair<MigrationRecord, std::optional<MigrationRecord>>> postponed_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace dvs
