// What the cluster's state consists of: the records in the directory, their keys and their JSON.
// All keys begin with "/dvs/CLUSTER/".
//
//   members/NODE           {id}            a node that belongs to the cluster, alive or not
//   nodes/NODE             NodeRecord      ... and is alive (on its lease)
//   dcs/DC                 DcRecord
//   parts/DC/NODE          PartRecord      the node has its part of the DC (on its lease)
//   endpoints/DC/SLOT      EndpointRecord  where an endpoint's process is (on its node's lease).
//                                          The revision that created it is the incarnation.
//   migrations/ID          MigrationRecord `state` decides; written by compare-and-swap
//   locks/DC/TASK          ID of the migration that holds the task
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/json.h"
#include "dvk/dvk.h"

namespace dvs {

struct NodeRecord {
  std::string name;
  NodeId id = 0;
  std::string address;
  uint16_t port = 0;
  uint64_t incarnation = 0;  // of its dvsd
};

struct DcRecord {
  std::string name;
  int id = -1;
  std::vector<std::string> nodes;
  uint32_t endpoints = 1024;
  uint32_t tasks = 35;
  uint32_t sysprocs = 64;
  // Who is told, by a message of which type, when a process ends without unbinding.
  int warn2proc = NONE;
  int warnmsg = 0;
  // What CLOCK_REALTIME minus the DC's CLOCK_MONOTONIC is, on every node.
  int64_t clock_origin_ns = 0;
};

struct PartRecord {
  bool ready = false;
  std::string error;  // why there is no part
};

struct EndpointRecord {
  uint32_t slot = 0;
  NodeId node = 0;
  uint32_t epoch = 1;
  int pid = 0;  // DC-wide
  int tid = 0;
  std::string name;  // of the program
  std::string task;
  bool replica = false;  // there may be others, on other nodes
};

// kCopying: memory is copied while the process runs; it has not been stopped, nothing is decided.
enum class MigrationState { kCopying, kActive, kCommitted, kRolledBack };
// No outcome yet.
constexpr bool is_open(MigrationState state) {
  return state == MigrationState::kActive || state == MigrationState::kCopying;
}

// Of a committed migration: the target has all of the process's memory; or it is owed some, and
// whoever has it keeps it; or it could not be had, and the process was ended.
enum class OwedMemory { kNone, kOwed, kLost };

struct MigrationRecord {
  std::string id;
  std::string dc;
  std::string task;
  std::vector<uint32_t> slots;  // all endpoints that move
  std::vector<int> endpoints;   // the same, as numbers
  std::string source;
  std::string target;
  std::string coordinator;
  std::string file_server;  // a third node that keeps the memory meanwhile; empty: none
  bool manual = false;      // START by an application; no process is moved by DVS
  MigrationState state = MigrationState::kActive;
  std::string reason;             // of a rollback, or of lost memory
  std::string algorithm;          // see migrate/schedule.h; empty: the engine carries the memory
  int max_downtime_ms = 10;       // that copying aims at
  uint64_t bandwidth = 0;         // of copying, bytes per second; 0: not limited
  std::string compress = "auto";  // of memory on its way, see migrate/page_packing.h
  std::string why;                // of the algorithm, and when copying was ended
  OwedMemory memory = OwedMemory::kNone;
  bool settled = false;      // it is over, and nothing of it is left on its source or target
  int patience_ms = 30'000;  // how long the target waits for a page it is owed
  int pid = 0;               // of the process the endpoint asked for belongs to
  int64_t started_ns = 0;    // CLOCK_REALTIME
  int64_t ended_ns = 0;
  uint64_t image_bytes = 0;
  uint64_t memory_bytes = 0;  // sent by the mover, while the process ran and when it was stopped
  uint64_t owed_bytes = 0;    // sent later, or never wanted
  int rounds = 0;             // of copying while it ran
  bool adaptive = false;      // the algorithm may be changed to what turns out to be better
  uint64_t faults = 0;        // of the process, on pages that had not come
  double fault_p99_ms = 0;    // how long 99 in 100 of these waited at most
  double migration_ms = 0;
  double transfer_ms = 0;
  double frozen_ms = 0;
  std::map<std::string, double> phases;  // milliseconds
};

const char* memory_name(OwedMemory memory);    // "here", "owed", "lost"
const char* state_name(MigrationState state);  // "copying", "active", "committed", "rolledback"

Json to_json(const NodeRecord& record);
Json to_json(const DcRecord& record);
Json to_json(const PartRecord& record);
Json to_json(const EndpointRecord& record);
Json to_json(const MigrationRecord& record);

// kCorrupt, naming the field. Values are in range afterwards.
Result<NodeRecord> node_record(const std::string& text);
Result<DcRecord> dc_record(const std::string& text);
Result<PartRecord> part_record(const std::string& text);
Result<EndpointRecord> endpoint_record(const std::string& text);
Result<MigrationRecord> migration_record(const std::string& text);

// Keys.
class Keys {
 public:
  explicit Keys(const std::string& cluster) : prefix_("/dvs/" + cluster + "/") {}

  const std::string& prefix() const { return prefix_; }
  std::string member(const std::string& node) const { return prefix_ + "members/" + node; }
  std::string node(const std::string& node) const { return prefix_ + "nodes/" + node; }
  std::string dc(const std::string& dc) const { return prefix_ + "dcs/" + dc; }
  std::string part(const std::string& dc, const std::string& node) const {
    return prefix_ + "parts/" + dc + "/" + node;
  }
  std::string parts(const std::string& dc) const { return prefix_ + "parts/" + dc + "/"; }
  std::string endpoint(const std::string& dc, uint32_t slot) const {
    return prefix_ + "endpoints/" + dc + "/" + std::to_string(slot);
  }
  std::string endpoints(const std::string& dc) const { return prefix_ + "endpoints/" + dc + "/"; }
  std::string migration(const std::string& id) const { return prefix_ + "migrations/" + id; }
  // The authority's list of certificates called back (PEM).
  std::string revoked() const { return prefix_ + "revoked"; }
  std::string lock(const std::string& dc, const std::string& task) const {
    return prefix_ + "locks/" + dc + "/" + task;
  }

 private:
  std::string prefix_;
};

// [A-Za-z0-9_-], 1 to 15 characters: names of nodes, DCs.
bool is_name(const std::string& name);

}  // namespace dvs
