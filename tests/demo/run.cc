#include "demo/run.h"

#include <unistd.h>

#include <cstdio>

#include "base/clock.h"
#include "base/file.h"
#include "demo/board.h"
#include "demo/protocol.h"

namespace dvs::demo {
namespace {

constexpr int kMigrateAt = 300;
constexpr int kLastBeforeEnd = 800;  // the rest of the requests follows when the migration is over
constexpr std::chrono::seconds kClientLimit{30};

class Run {
 public:
  Run(const Cluster& cluster, const RunPlan& plan)
      : cluster_(cluster),
        plan_(plan),
        board_path_(plan.scratch + "/board"),
        result_path_(plan.scratch + "/client.json") {}

  RunResult all() {
    result_.requests = kRequests;
    result_.lost = kRequests;  // until the client tells better
    if (const Status done = steps(); !done.ok()) wrong(done.error().message());
    if (!result_.wrong.empty()) tell_logs();
    if (const Status done = clean_up(); !done.ok()) {
      wrong(done.error().message());
      result_.cluster_usable = false;
    }
    return std::move(result_);
  }

 private:
  Status steps() {
    DVS_TRY(start());
    if (!await([this] { return board_->answered.load() >= kMigrateAt; }, kClientLimit)) {
      return Error(Code::kTimeout,
                   "the client got only " + std::to_string(board_->answered.load()) + " answers");
    }
    migrate();
    board_->allowed.store(kRequests);
    const auto finished = [this] { return ::access(result_path_.c_str(), F_OK) == 0; };
    if (!await(finished, kClientLimit)) {
      return Error(Code::kTimeout, "the client does not end: it has " +
                                       std::to_string(board_->answered.load()) + " answers");
    }
    DVS_TRY(take_client_result());
    DVS_ASSIGN(const Process server, cluster_.find(kServerEndpoint));
    result_.pid_after = server.pid;
    result_.node_after = server.node;
    check();
    return {};
  }

  Status start() {
    board_ = map_board(board_path_, true);
    if (board_ == nullptr) return errno_error(board_path_);
    board_->pace_from.store(kMigrateAt);
    board_->allowed.store(kLastBeforeEnd);
    if (plan_.failure != nullptr) {
      const Scenario& scenario = plan_.scenario;
      DVS_TRY(cluster_.arm(plan_.failure->on_target ? scenario.target : scenario.source,
                           plan_.failure->point));
    }
    DVS_ASSIGN(const Process server, cluster_.run(plan_.scenario.source, kServerEndpoint,
                                                  {plan_.programs + "/dvs-demo-server"}));
    result_.pid_before = server.pid;
    result_.node_before = server.node;
    DVS_TRY(cluster_.run(plan_.scenario.client, kClientEndpoint,
                         {plan_.programs + "/dvs-demo-client", board_path_, result_path_}));
    return {};
  }

  void migrate() {
    const auto note = [this](const Json& event) {
      if (event.value("phase", "") == "freeze") freeze_ns_ = realtime_ns();
    };
    const int64_t began_ns = realtime_ns();
    auto record =
        cluster_.migrate(plan_.scenario.source, kServerEndpoint, plan_.scenario.target, note);
    result_.migration_ms = static_cast<double>(realtime_ns() - began_ns) / 1e6;
    if (record.ok()) return take_record(*record);
    // Only a preflight may refuse; everything else has a record of what became of it.
    result_.reason = record.error().message();
    if (plan_.failure == nullptr || std::string(plan_.failure->point) != "preflight") {
      wrong("the migration failed: " + result_.reason);
    }
  }

  void take_record(const Json& record) {
    const char* expected = plan_.failure == nullptr ? "committed" : "rolledback";
    const std::string state = record.value("state", "");
    result_.reason = record.value("reason", "");
    result_.phases = record.value("phases", Json::object());
    result_.migration_ms = record.value("migration_ms", 0.0);
    result_.transfer_ms = record.value("transfer_ms", 0.0);
    result_.image_bytes = record.value("image_bytes", uint64_t{0});
    if (state != expected) wrong("the migration is " + state + ": " + result_.reason);
    const int64_t held_ns = board_->held_ns.load();
    if (held_ns != 0 && held_ns < freeze_ns_) wrong("the migration was not in mid-stream");
  }

  Status take_client_result() {
    DVS_ASSIGN(const std::string text, read_file(result_path_));
    DVS_ASSIGN(const Json json, parse_json(text));
    result_.lost = json.value("lost", long{kRequests});
    result_.duplicated = json.value("duplicated", 0L);
    result_.corrupted = json.value("corrupted", 0L);
    result_.longest_gap_ms = json.value("longest_gap_ms", 0.0);
    result_.gap_median_ms = json.value("gap_median_ms", 0.0);
    result_.gap_p99_ms = json.value("gap_p99_ms", 0.0);
    result_.moved_at = json.value("moved_at", 0);
    if (json.value("answered", 0) != kRequests) {
      wrong("the client got " + std::to_string(json.value("answered", 0)) +
            " answers, then error " + std::to_string(json.value("error", 0)));
    }
    if (json.value("pid_first", 0) != result_.pid_before ||
        json.value("pid_last", 0) != result_.pid_before) {
      wrong("the server told another pid");
    }
    const char* last = plan_.failure == nullptr ? plan_.scenario.target : plan_.scenario.source;
    if (json.value("node_first", -1) != cluster_.node_id(plan_.scenario.source) ||
        json.value("node_last", -1) != cluster_.node_id(last)) {
      wrong("the server answered from another node than it should");
    }
    return {};
  }

  void check() {
    const bool commit = plan_.failure == nullptr;
    const std::string expected = commit ? plan_.scenario.target : plan_.scenario.source;
    if (result_.node_after != expected) wrong("the server runs on " + result_.node_after);
    if (result_.pid_after != result_.pid_before) wrong("the server's pid has changed");
    if (result_.lost + result_.duplicated + result_.corrupted != 0) {
      wrong("requests were lost, duplicated or corrupted");
    }
    const bool mid_stream = result_.moved_at > kMigrateAt && result_.moved_at <= kLastBeforeEnd + 1;
    if (commit ? !mid_stream : result_.moved_at != 0) {
      wrong("the server's node changed at request " + std::to_string(result_.moved_at));
    }
  }

  Status clean_up() {
    if (board_ != nullptr) ::munmap(board_, sizeof *board_);
    ::unlink(board_path_.c_str());
    ::unlink(result_path_.c_str());
    DVS_TRY(cluster_.await_whole());
    return cluster_.clear({kServerEndpoint, kClientEndpoint});
  }

  void tell_logs() {
    for (const int endpoint : {kServerEndpoint, kClientEndpoint}) {
      const std::string log = cluster_.log(endpoint);
      if (!log.empty()) wrong("log of endpoint " + std::to_string(endpoint) + ": " + log);
    }
  }

  void wrong(const std::string& what) { result_.wrong.push_back(what); }

  const Cluster& cluster_;
  const RunPlan& plan_;
  const std::string board_path_;
  const std::string result_path_;
  Board* board_ = nullptr;
  int64_t freeze_ns_ = 0;  // CLOCK_REALTIME
  RunResult result_;
};

}  // namespace

RunResult run_once(const Cluster& cluster, const RunPlan& plan) { return Run(cluster, plan).all(); }

}  // namespace dvs::demo
