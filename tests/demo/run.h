// One run of the demo: a server, a client with 1,000 requests, a migration in the middle of them.
#pragma once

#include <string>
#include <vector>

#include "demo/cluster.h"

namespace dvs::demo {

struct Scenario {
  const char* name;
  const char* title;
  const char* client;  // the nodes: of the client, and of the server before and after
  const char* source;
  const char* target;
  // The paper's figures.
  double paper_migration_s;
  double paper_migration_sd_s;
  double paper_transfer_s;
};

constexpr double kPaperImageMb = 2.5;
constexpr Scenario kScenarios[] = {
    {"remote-to-client", "remote -> client's node", "n1", "n2", "n1", 1.738, 0.077, 0.450},
    {"client-to-remote", "client's node -> remote", "n1", "n1", "n2", 1.598, 0.311, 0.684},
    {"remote-to-remote", "remote -> other remote", "n1", "n2", "n3", 1.983, 0.218, 0.471},
};

// What makes a migration fail: a fault point, where it is armed, and how a user would call it.
struct Failure {
  const char* point;
  bool on_target;
  const char* title;
};

constexpr Failure kFailures[] = {
    {"preflight", true, "preflight refuses"},
    {"dump", false, "dump fails"},
    {"transfer", false, "transfer breaks"},
    {"restore", true, "restore fails"},
    {"target-dies-restored", true, "target's dvsd dies"},
};

struct RunPlan {
  const Scenario& scenario;
  const Failure* failure;  // null: the migration is to commit
  std::string programs;    // the directory of the demo's programs
  std::string scratch;     // a directory for the run's files
};

struct RunResult {
  std::vector<std::string> wrong;  // what was not as it must be
  bool cluster_usable = true;      // for another run
  std::string reason;              // of the rollback, as DVS told it
  Json phases = Json::object();    // of the migration, in milliseconds
  double migration_ms = 0;
  double transfer_ms = 0;
  uint64_t image_bytes = 0;
  double longest_gap_ms = 0;
  double gap_median_ms = 0;  // of all gaps in the run
  double gap_p99_ms = 0;
  int requests = 0;
  long lost = 0;
  long duplicated = 0;
  long corrupted = 0;
  int moved_at = 0;  // the first request answered from the other node
  int pid_before = 0;
  int pid_after = 0;
  std::string node_before;
  std::string node_after;
};

// Leaves no process in the DC and the cluster whole, or says that it could not.
RunResult run_once(const Cluster& cluster, const RunPlan& plan);

}  // namespace dvs::demo
