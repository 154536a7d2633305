// The coordinator of migrations: any node, the one that was asked. It checks, writes the record
// that starts everything, watches and reports. It is not needed for the outcome: the target
// proposes COMMIT and anybody may propose ROLLBACK, each by compare-and-swap on the record. If the
// coordinator dies, the migration goes on without it.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/scheduler.h"
#include "directory/cluster.h"
#include "directory/records.h"
#include "directory/store.h"
#include "migrate/faults.h"
#include "migrate/peers.h"
#include "migrate/protocol.h"
#include "migrate/schedule.h"

namespace dvs {

struct MigrationRequest {
  std::string dc;
  int endpoint = 0;
  uint32_t slot = 0;
  std::string source;
  std::string target;
  std::string algorithm = "auto";
  std::chrono::milliseconds max_downtime{10};
  std::string file_server;  // a node, or empty
  std::string compress = "auto";
  std::chrono::milliseconds patience{30'000};  // of the target, with memory it is owed
  uint64_t bandwidth = 0;  // of copying while it runs, bytes per second; 0: not limited
  // Of all of it; without: copying may last as long as it does, the rest kFrozenLimit.
  std::optional<std::chrono::milliseconds> timeout;
  bool force = false;  // when copying is not over by then, freeze instead of giving up
};

class Coordinator {
 public:
  static constexpr size_t kRecordsKept = 1000;
  using OnEvent = std::function<void(const Json& event)>;

  // `salt`: differs from that of every other coordinator of the cluster, for the ids it gives.
  // `records_kept`: of migrations that are over, as history (history.h).
  Coordinator(Scheduler& scheduler, Store& store, const Cluster& cluster, Peers& peers,
              Faults& faults, std::string self, uint64_t salt, size_t records_kept = kRecordsKept)
      : scheduler_(scheduler),
        store_(store),
        cluster_(cluster),
        keys_(cluster.keys()),
        peers_(peers),
        faults_(faults),
        self_(std::move(self)),
        salt_(salt),
        records_kept_(records_kept) {}

  // Asks source and target whether it can be done, then starts. `done` when the outcome has been
  // carried out on both sides and no memory is owed (or, five seconds after that, without the
  // report of a side): the record.
  // An Error: refused before anything was started.
  void run(MigrationRequest request, OnEvent on_event, Done<MigrationRecord> done);

  // The record has changed (from the watch), with the revision it changed at.
  void on_record(const MigrationRecord& record, int64_t revision);
  // What participants tell.
  void on_phase(const std::string& id, const std::string& phase);
  void on_progress(const std::string& id, uint64_t sent, uint64_t total);
  void on_round(const std::string& id, Json round);
  void on_done(const std::string& id, const Json& report);
  // What is known of a migration that this node coordinates: {"phase", "t_ms", "sent", "total",
  // "percent", "remaining_bytes", "rate" (bytes per second, now), "seconds_left" (of what is being
  // sent; with the downtime expected) and what to_json(CopyingSchedule) says}, as far as known.
  // Empty: it does not, or not any more.
  Json progress(const std::string& id) const;

 private:
  struct Running {
    MigrationRequest request;
    MigrationRecord record;
    int64_t revision = 0;                 // of the migration's record
    std::vector<int64_t> slot_revisions;  // of the endpoints' records, at the preflight
    OnEvent on_event;
    Json latest = Json::object();  // of all events
    uint64_t sent = 0;             // at the last progress
    double sent_ms = 0;
    double rate = 0;  // bytes per second
    Done<MigrationRecord> done;
    Phase phase = Phase::kBegun;
    int64_t began_ns = 0;    // CLOCK_MONOTONIC, of the request
    int64_t started_ns = 0;  // of the START
    bool source_done = false;
    bool target_done = false;
    uint64_t alarm = 0;  // the number of the last one that was set
  };
  using RunningPtr = std::shared_ptr<Running>;

  void preflight_target(const RunningPtr& running, const Json& description);
  void step(Running& running, Event event);
  void refuse(const RunningPtr& running, const Error& why);
  void dismiss(const RunningPtr& running, const Error& why);
  Status choose(Running& running, const Json& description) const;
  void start(const RunningPtr& running);
  void write_start(const RunningPtr& running);
  void start_again(const RunningPtr& running);
  void look_for_start(const RunningPtr& running);
  void on_started(const RunningPtr& running);
  void on_active(const RunningPtr& running);
  void copying_is_late(const RunningPtr& running);
  std::string new_id();
  void call(const std::string& node, const std::string& call, Json args, Done<Json> done);
  void set_alarm(const RunningPtr& running, std::chrono::milliseconds after,
                 std::function<void()> ring);
  void give_up(const RunningPtr& running);
  void on_memory(const RunningPtr& running, const MigrationRecord& record);
  void finish_soon(const RunningPtr& running);
  void finish_if_done(const RunningPtr& running);
  void finish(const RunningPtr& running, Event why);
  void prune();
  RunningPtr find(const std::string& id) const;
  void tell(const RunningPtr& running, Json event);
  double elapsed_ms(const Running& running) const;

  Scheduler& scheduler_;
  Store& store_;
  const Cluster& cluster_;
  const Keys& keys_;
  Peers& peers_;
  Faults& faults_;
  const std::string self_;
  const uint64_t salt_;
  const size_t records_kept_;
  uint64_t ids_ = 0;
  std::map<std::string, RunningPtr> running_;
};

}  // namespace dvs
