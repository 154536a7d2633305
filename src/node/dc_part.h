// One distributed container's part on this node: its namespaces, its region with the carrying of
// remote operations, its tasks, and this node's side of migrations. Outlives dvsd on disk (tmpfs):
// a restarted dvsd opens it again and goes on.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/child.h"
#include "binding/bindings.h"
#include "dvk/node_view.h"
#include "dvk/region_guard.h"
#include "migrate/memory_fetch.h"
#include "migrate/memory_server.h"
#include "migrate/memory_source.h"
#include "migrate/participant.h"
#include "node/context.h"
#include "node/task.h"
#include "proxy/remote_ops.h"

namespace dvs {

struct RunRequest {
  std::optional<int> endpoint;
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd = "/";
};

// What a migration's preflight learns on the source and the target checks.
struct TaskDescription {
  std::string task;
  std::vector<uint32_t> slots;
  std::vector<int> endpoints;
  std::vector<int64_t> revisions;  // of the endpoints' records
  std::vector<int> pids;           // DC-wide, of all its processes
  std::vector<int> threads;        // DC-wide, of all its threads
  uint64_t memory_bytes = 0;
  Json files;            // [{"path", "size"}]: mapped files
  std::string cpu;       // of its node, base64
  std::string no_mover;  // why the mover cannot carry its memory; empty: it can
};

// What /proc tells of a task's processes, all together.
struct Mappings {
  uint64_t resident_bytes = 0;
  std::set<std::string> files;
  bool incomplete = false;  // somebody answers the page faults of one
  NotesOfProcesses notes;
};

// What the target prepares for, after the preflight.
struct Arrival {
  std::string migration;
  std::string task;
  bool apart = false;  // the mover carries its memory
  int64_t patience_ms = 0;
};

class DcPart : public std::enable_shared_from_this<DcPart>,
               private RemoteOps::Env,
               private BindingHost,
               private ParticipantHost {
 public:
  // Opens what an earlier dvsd left (`done` is called at once: the directory's news that come after
  // what recover() has seen must find the part), or creates it.
  static void open(NodeContext& context, const DcRecord& record,
                   Done<std::shared_ptr<DcPart>> done);
  // What an earlier dvsd had of a DC that there is no more, to be destroyed. kNotFound: its
  // processes have ended with its container; what was left has been removed.
  static Result<std::shared_ptr<DcPart>> find_left(NodeContext& context, const std::string& name);
  ~DcPart() override;

  const DcRecord& record() const { return record_; }
  bool alive() const { return container_->alive(); }
  // Ends every process, removes everything of the DC from this node.
  void destroy(Done<bool> done);

  // ---- tasks ----
  void run(RunRequest request, Done<Json> done);
  Json processes() const;
  Result<Json> log(const std::string& task, uint64_t offset, uint64_t max) const;
  Status signal(const std::string& task, int number);
  const Task* task_of(uint32_t slot) const;
  const Task* last_task_of(uint32_t slot) const;  // also one that has ended

  // ---- the directory's news ----
  void place(uint32_t slot) { bindings_.place(slot); }
  void place_all() { bindings_.place_all(); }  // once, when the part has been opened
  void update_nodes();                         // which nodes the region names, and which are up
  void update_record(const DcRecord& record) {
    record_ = record;
    update_nodes();
  }
  void on_migration(const MigrationRecord& record, const MigrationRecord* before) {
    participant_.on_migration(record, before);
  }

  // ---- from other nodes ----
  void on_operation(NodeId from, const wire::Operation& operation);
  void on_link_up(NodeId node);
  void on_link_down(NodeId node);
  void on_writable(NodeId node);
  void on_image(NodeId from, const std::string& migration, std::string_view body);
  Participant& participant() { return participant_; }
  // A file server's answer that all memory of that migration is here, and will be kept.
  Status seal_kept(const std::string& migration);

  // dvk_hdw_notify() at any node, for this one: OK or an EDVS error.
  int notify_from_hardware(int endpoint);
  // dvk_migr_commit() at another node, for this one. Answers OK or an EDVS error.
  void commit_manually(const std::string& id, uint32_t slot, int pid, Done<int> done);

  // ---- preflight ----
  // Of memory, when some was last sent to that node; 0: not known.
  double sent_per_second(const std::string& node) const;
  void describe(const std::string& migration, uint32_t slot, Done<TaskDescription> done);
  void check_arrival(const TaskDescription& description, Done<bool> done);
  // Starts the engine ahead of migration `id`. Given up again when that does not begin in time, or
  // its coordinator says that it will not.
  void prepare_departure(const std::string& id, const Task& task, std::function<void()> ready);
  Status check_room(const TaskDescription& description) const;
  Status check_ids_and_files(const TaskDescription& description) const;
  Status prepare_arrival(const Arrival& arrival, std::function<void()> ready);
  void discard_prepared(const std::string& id, const std::string& task);

  const dvk::Region& region() const { return region_; }

 private:
  // The process or thread of this node that is bound to a slot.
  struct Watched {
    uint64_t number = 0;  // of the binding, see Bindings
    pid_t host_pid = 0;
    std::unique_ptr<boost::asio::posix::stream_descriptor> pidfd;
  };

  // A process of this node that stands by for an endpoint of another one (dc_standby.cc).
  struct Standby {
    dvk::Kind kind = dvk::Kind::kBackup;
    ThreadIds ids;
    std::string task;
    std::unique_ptr<boost::asio::posix::stream_descriptor> pidfd;
  };
  // dvs-pager, which fills the memory of a task that has arrived.
  struct Pager {
    MigrationRecord record;  // empty before it begins
    std::shared_ptr<MemoryFetch> fetch;
  };
  // Memory that arrives here as at a file server.
  struct Keeper {
    mover::Store store;
    Status failed;
  };
  // What a process asks through a control slot.
  struct Asked {
    int command = 0;
    int pid = 0;
    int endpoint = 0;
    int node = 0;
    std::string name;
  };
  using Answer = std::function<void(int rc)>;

  DcPart(NodeContext& context, DcRecord record);

  // dc_part.cc: life and tasks
  void create(Done<std::shared_ptr<DcPart>> done);
  Status reopen();
  Status prepare_directory();
  void save() const;
  Result<Json> saved() const;
  void save_task(const Task& task) const;
  void load_tasks();
  std::vector<pid_t> known_pids() const;
  ContainerSpec container_spec() const;
  void start();
  void recover();
  void watch_doorbell();
  bool is_broken();
  std::string cgroup_of(const std::string& task) const;
  void try_run(RunRequest request, Done<Json> done);
  void run_anywhere(RunRequest request, int attempt, Done<Json> done);
  void launched(const std::shared_ptr<Launch>& launch, Task task, uint32_t slot, Done<Json> done);
  void task_may_have_ended(const std::string& id);
  void forget_old_tasks();
  std::optional<int> exit_status_of(int pid) const;

  // dc_bind.cc: BindingHost, and deaths
  std::optional<std::string> task_of_thread(int tid) const override;
  bool has_task(const std::string& task) const override { return tasks_.count(task) != 0; }
  bool is_migrating(const std::string& task) const override;
  bool may_have_left(const std::string& task) const override {
    return participant_.may_have_left(task);
  }
  void watch(const EndpointRecord& record, uint64_t number) override;
  void unwatch(uint32_t slot) override { watched_.erase(slot); }
  bool is_retired(uint32_t slot) const override { return warnings_.count(slot) != 0; }
  void on_gone(uint32_t slot) override;
  void on_place_changed(uint32_t slot) override { ops_->on_place_changed(slot); }
  std::vector<EndpointRecord> unbound() const override;
  void keep_unbound(const std::vector<EndpointRecord>& records) override;
  std::optional<uint32_t> free_user_slot() const;
  void await_death(uint32_t slot);
  void process_died(uint32_t slot);
  void warn_next(uint32_t slot);
  void look_at_warnings();
  EndpointRecord record_of(uint32_t slot, const std::string& task, const ThreadIds& ids) const;
  std::optional<std::pair<std::string, ThreadIds>> find_thread(int dc_tid) const;
  static UniqueFd open_pidfd(const ThreadIds& ids);
  static bool has_ended(boost::asio::posix::stream_descriptor& pidfd);

  // dc_standby.cc: backups and replicas
  void stand_by(uint32_t slot, dvk::Kind kind, dvk::Identity primary, const std::string& task,
                const ThreadIds& ids);
  void find_standby(uint32_t slot);
  void await_death_of_standby(uint32_t slot);
  void end_standby(uint32_t slot);
  void show_elsewhere(uint32_t slot, const dvk::Identity& primary) override;
  void primary_gone(uint32_t slot);

  // dc_requests.cc: what processes ask
  void serve_requests();
  void answer_request(size_t index, uint32_t ticket, int result);
  void serve_bind(const Asked& asked, const Answer& answer);
  int name_remote(uint32_t slot, const Asked& asked);
  void serve_unbind(int endpoint, const Answer& answer);
  void serve_migrate(const Asked& asked, const Answer& answer);
  void serve_hardware_notify(int endpoint, const Answer& answer);
  bool is_served(const std::string& task) const;
  Status refuse_requests_of(const MigrationRecord& record);

  // dc_manual.cc: migrations by hand
  const Cluster::MigrationEntry* manual_migration_of(uint32_t slot) const;
  void await_migration(const std::string& id, int64_t until_ns, Done<int> done);
  void start_manually(uint32_t slot, Done<int> done);
  void park_manually(const std::string& migration, uint32_t slot);
  void end_orphan(uint32_t slot);
  void commit_known(uint32_t slot, int pid, Done<int> done);
  void end_manually(MigrationRecord record, int64_t revision, MigrationState outcome,
                    std::vector<Change> changes, Done<int> done);
  void begin_by_hand(const MigrationRecord& record) override;
  void end_by_hand(const MigrationRecord& record) override;

  // RemoteOps::Env
  bool send(NodeId node, const wire::Operation& operation) override;
  void drive_later(uint32_t slot) override;
  bool is_forgotten(uint32_t slot, uint64_t incarnation) const override {
    return context_.cluster.is_forgotten(record_.name, slot, incarnation);
  }
  pid_t host_pid_of(uint32_t slot) const;
  int read_memory(uint32_t slot, uint64_t address, char* to, size_t bytes) override;
  int write_memory(uint32_t slot, uint64_t address, const char* from, size_t bytes) override;

  // dc_migrate.cc: ParticipantHost
  Result<bool> settle(const MigrationRecord& record) override;
  void freeze(const MigrationRecord& record, Done<bool> done) override;
  Status check_frozen(const MigrationRecord& record) override;
  void dump(const MigrationRecord& record, Done<DumpResult> done) override;
  Result<std::vector<Piece>> collect(const MigrationRecord& record) override;
  void await_target(const MigrationRecord& record, Done<bool> done) override;
  void await_ready(const MigrationRecord& record, const std::string& name, Done<bool> done);
  bool send(const MigrationRecord& record, std::string_view body) override;
  bool congested(const MigrationRecord& record) override;
  void break_link(const MigrationRecord& record) override;
  void go_on(const MigrationRecord& record, Done<bool> done) override;
  void let_go(const MigrationRecord& record) override;
  void end_departed(const MigrationRecord& record, Done<bool> done) override;
  void on_source_finished(const MigrationRecord& record) override;
  std::string image_directory(const MigrationRecord& record) override;
  void restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) override;
  void take_in(const MigrationRecord& record, Done<bool> done) override;
  Result<dvk::Capsule> take_task(const MigrationRecord& record);
  void settle_in(const MigrationRecord& record) override;
  void clean_up(const MigrationRecord& record, Done<bool> done) override;
  void on_target_finished(const MigrationRecord& record) override;
  void close_gates(const MigrationRecord& record) override;
  void open_gates(const MigrationRecord& record) override;
  void open_gates_except(const std::set<uint32_t>& slots) override;
  std::vector<std::string> migrations_with_images() override;
  void remove_images(const std::string& migration) override;
  std::unique_ptr<HeldTree> find_held(const MigrationRecord& record) override;
  std::vector<std::string> tasks() override;
  void thaw_if_frozen(const std::string& task) override;
  void look_whether_ended(const std::string& task) override;

  // dc_memory.cc
  void copy_memory(const MigrationRecord& record, Done<mover::Round> done) override;
  void give_up_copying(const MigrationRecord& record) override;
  void copy_rest(const MigrationRecord& record, uint64_t budget, Done<mover::Round> done) override;
  std::optional<Proposer::Endpoints> endpoints_of(const MigrationRecord& record) override;
  void on_round(const MigrationRecord& record, const CopyingSchedule& schedule) override;
  bool runs_in_dc(pid_t host_pid) const;
  std::vector<mover::ProcessId> processes_of(const std::string& task) const;
  static const std::string& memory_goes_to(const MigrationRecord& record);
  static const std::string& memory_comes_from(const MigrationRecord& record);
  static Packer packer_of(const MigrationRecord& record);
  MemorySource& memory_source(const MigrationRecord& record);
  Done<mover::Round> entrust(const MigrationRecord& record, Done<mover::Round> done);

  // dc_owed.cc
  bool send_image(const std::string& to, std::string_view body);
  bool is_congested(const std::string& to);
  void on_memory(NodeId from, const std::string& migration, std::string_view body);
  MemoryServer* server_of(const MigrationRecord& record);
  void serve(const MigrationRecord& record, const MemoryFrame& want);
  void expect_memory(const MigrationRecord& record) override;
  void keep_memory(const MigrationRecord& record) override;
  bool keeps_memory(const std::string& migration) override;
  static void keep(Keeper& keeper, const MemoryFrame& frame);
  void end_keeping(const std::string& migration) override;
  void start_pager(const Arrival& arrival);
  void use_pager(const std::string& migration, UniqueFd socket);
  void await_memory(const MigrationRecord& record, Done<Json> done) override;
  void tell_of_fetching(const std::string& migration);
  void memory_ended(const MigrationRecord& record, const Done<Json>& done);
  void end_pager(const std::string& migration);

  EngineSite site(const std::string& migration) const;
  DumpRequest dump_request(const std::string& migration, const Task& task) const;
  Status describe_task(uint32_t slot, TaskDescription& description,
                       std::vector<mover::ProcessId>& processes);
  void end_description(const std::string& migration, uint32_t slot, Mappings seen,
                       const Done<TaskDescription>& done);
  void discard_unless_begun(const std::string& id, const std::string& task);
  std::optional<NodeId> node_id(const std::string& name) const;

  NodeContext& context_;
  DcRecord record_;
  const std::string dir_;
  std::unique_ptr<Container> container_;
  dvk::Region region_;
  std::unique_ptr<dvk::RegionGuard> guard_;
  bool broken_ = false;  // said so
  std::unique_ptr<RemoteOps> ops_;
  Doorbells::Listening doorbell_;
  std::map<std::string, Task> tasks_;
  bool recovered_ = false;  // what earlier migrations have left is known
  Bindings bindings_;
  std::map<uint32_t, Watched> watched_;
  std::map<uint32_t, Standby> standbys_;
  struct Warning {
    std::vector<int> to;  // endpoints still to tell
    message m{};
    int64_t until_ns = 0;
  };
  std::map<uint32_t, Warning> warnings_;   // of processes that have ended
  std::map<size_t, uint32_t> in_service_;  // control slot -> ticket being answered
  std::map<std::string, std::unique_ptr<MemorySource>> memories_;  // by migration
  std::map<std::string, std::string> arrivals_;    // by migration that is prepared: the task
  std::map<std::string, NotesOfProcesses> notes_;  // by migration: the preflight's
  std::map<std::string, std::unique_ptr<MemoryServer>> servers_;  // by migration
  std::map<std::string, Keeper> keepers_;                         // by migration
  std::map<std::string, Pager> pagers_;                           // by migration
  // Last: it uses all of the above.
  Participant participant_;
};

}  // namespace dvs
