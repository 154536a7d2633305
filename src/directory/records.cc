#include "directory/records.h"

#include <algorithm>

namespace dvs {
namespace {

// Reads members of a JSON object one after the other; the first failure sticks.
class Fields {
 public:
  explicit Fields(const std::string& text) {
    auto parsed = parse_json(text);
    if (parsed.ok() && parsed->is_object()) {
      json_ = std::move(*parsed);
    } else {
      failure_ = "not a JSON object";
    }
  }

  template <typename T>
  Fields& get(const char* key, T& value) {
    if (!failure_.empty()) return *this;
    if (auto result = json_get<T>(json_, key); result.ok()) {
      value = std::move(*result);
    } else {
      failure_ = result.error().message();
    }
    return *this;
  }
  Fields& require(bool condition, const char* what) {
    if (failure_.empty() && !condition) failure_ = what;
    return *this;
  }
  const Json& json() const { return json_; }

  template <typename T>
  Result<T> finish(const char* what, T record) const {
    if (failure_.empty()) return record;
    return Error(Code::kCorrupt, std::string("a ") + what + " record: " + failure_);
  }

 private:
  Json json_;
  std::string failure_;
};

constexpr const char* kStateNames[] = {"copying", "active", "committed", "rolledback"};
constexpr const char* kMemoryNames[] = {"here", "owed", "lost"};

bool all_names(const std::vector<std::string>& names) {
  return std::all_of(names.begin(), names.end(), is_name);
}

}  // namespace

bool is_name(const std::string& name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= 15 && std::all_of(name.begin(), name.end(), allowed);
}

const char* memory_name(OwedMemory memory) { return kMemoryNames[static_cast<int>(memory)]; }
const char* state_name(MigrationState state) { return kStateNames[static_cast<int>(state)]; }

Json to_json(const NodeRecord& r) {
  return {{"name", r.name},
          {"id", r.id},
          {"address", r.address},
          {"port", r.port},
          {"incarnation", r.incarnation}};
}

Result<NodeRecord> node_record(const std::string& text) {
  NodeRecord r;
  return Fields(text)
      .get("name", r.name)
      .get("id", r.id)
      .get("address", r.address)
      .get("port", r.port)
      .get("incarnation", r.incarnation)
      .require(is_name(r.name) && r.id < kMaxNodes, "name or id out of range")
      .finish("node", r);
}

Json to_json(const DcRecord& r) {
  return {
      {"name", r.name},           {"id", r.id},           {"nodes", r.nodes},
      {"endpoints", r.endpoints}, {"tasks", r.tasks},     {"sysprocs", r.sysprocs},
      {"warn2proc", r.warn2proc}, {"warnmsg", r.warnmsg}, {"clock_origin_ns", r.clock_origin_ns}};
}

Result<DcRecord> dc_record(const std::string& text) {
  DcRecord r;
  return Fields(text)
      .get("name", r.name)
      .get("id", r.id)
      .get("nodes", r.nodes)
      .get("endpoints", r.endpoints)
      .get("tasks", r.tasks)
      .get("sysprocs", r.sysprocs)
      .get("warn2proc", r.warn2proc)
      .get("warnmsg", r.warnmsg)
      .get("clock_origin_ns", r.clock_origin_ns)
      .require(is_name(r.name) && all_names(r.nodes), "a name out of range")
      .finish("DC", r);
}

Json to_json(const PartRecord& r) { return {{"ready", r.ready}, {"error", r.error}}; }

Result<PartRecord> part_record(const std::string& text) {
  PartRecord r;
  return Fields(text).get("ready", r.ready).get("error", r.error).finish("part", r);
}

Json to_json(const EndpointRecord& r) {
  return {{"slot", r.slot}, {"node", r.node}, {"epoch", r.epoch}, {"pid", r.pid},
          {"tid", r.tid},   {"name", r.name}, {"task", r.task},   {"replica", r.replica}};
}

Result<EndpointRecord> endpoint_record(const std::string& text) {
  EndpointRecord r;
  return Fields(text)
      .get("slot", r.slot)
      .get("node", r.node)
      .get("epoch", r.epoch)
      .get("pid", r.pid)
      .get("tid", r.tid)
      .get("name", r.name)
      .get("task", r.task)
      .get("replica", r.replica)
      .require(r.node < kMaxNodes, "node out of range")
      .finish("endpoint", r);
}

Json to_json(const MigrationRecord& r) {
  return {{"id", r.id},
          {"dc", r.dc},
          {"task", r.task},
          {"slots", r.slots},
          {"endpoints", r.endpoints},
          {"source", r.source},
          {"target", r.target},
          {"coordinator", r.coordinator},
          {"file_server", r.file_server},
          {"manual", r.manual},
          {"state", state_name(r.state)},
          {"reason", r.reason},
          {"algorithm", r.algorithm},
          {"why", r.why},
          {"max_downtime_ms", r.max_downtime_ms},
          {"bandwidth", r.bandwidth},
          {"compress", r.compress},
          {"memory_bytes", r.memory_bytes},
          {"owed_bytes", r.owed_bytes},
          {"memory", memory_name(r.memory)},
          {"settled", r.settled},
          {"patience_ms", r.patience_ms},
          {"adaptive", r.adaptive},
          {"faults", r.faults},
          {"fault_p99_ms", r.fault_p99_ms},
          {"rounds", r.rounds},
          {"pid", r.pid},
          {"started_ns", r.started_ns},
          {"ended_ns", r.ended_ns},
          {"image_bytes", r.image_bytes},
          {"migration_ms", r.migration_ms},
          {"transfer_ms", r.transfer_ms},
          {"frozen_ms", r.frozen_ms},
          {"phases", r.phases}};
}

Result<MigrationRecord> migration_record(const std::string& text) {
  MigrationRecord r;
  std::string state;
  std::string memory;
  std::vector<int> slots;
  Fields fields(text);
  fields.get("id", r.id).get("dc", r.dc).get("task", r.task).get("slots", slots);
  fields.get("endpoints", r.endpoints).get("source", r.source).get("target", r.target);
  fields.get("coordinator", r.coordinator).get("manual", r.manual).get("state", state);
  fields.get("reason", r.reason).get("pid", r.pid).get("started_ns", r.started_ns);
  fields.get("ended_ns", r.ended_ns).get("image_bytes", r.image_bytes);
  fields.get("migration_ms", r.migration_ms).get("transfer_ms", r.transfer_ms);
  fields.get("frozen_ms", r.frozen_ms).get("algorithm", r.algorithm).get("why", r.why);
  fields.get("memory_bytes", r.memory_bytes).get("rounds", r.rounds);
  fields.get("max_downtime_ms", r.max_downtime_ms).get("bandwidth", r.bandwidth);
  fields.get("compress", r.compress);
  fields.get("file_server", r.file_server).get("owed_bytes", r.owed_bytes).get("memory", memory);
  fields.get("settled", r.settled);
  fields.get("patience_ms", r.patience_ms).get("adaptive", r.adaptive);
  fields.get("faults", r.faults).get("fault_p99_ms", r.fault_p99_ms);
  const auto* found = std::find(std::begin(kStateNames), std::end(kStateNames), state);
  const auto* owed = std::find(std::begin(kMemoryNames), std::end(kMemoryNames), memory);
  fields.require(found != std::end(kStateNames), "unknown state");
  fields.require(owed != std::end(kMemoryNames), "unknown state of the memory");
  fields.require(r.patience_ms > 0, "patience out of range");
  fields.require(is_name(r.dc) && is_name(r.source) && is_name(r.target), "a name out of range");
  fields.require(std::all_of(slots.begin(), slots.end(), [](int slot) { return slot >= 0; }),
                 "a slot out of range");
  if (found != std::end(kStateNames)) {
    r.state = static_cast<MigrationState>(found - std::begin(kStateNames));
  }
  if (owed != std::end(kMemoryNames)) {
    r.memory = static_cast<OwedMemory>(owed - std::begin(kMemoryNames));
  }
  r.slots.assign(slots.begin(), slots.end());
  if (auto phases = json_get<Json>(fields.json(), "phases"); phases.ok() && phases->is_object()) {
    for (const auto& [phase, ms] : phases->items()) {
      if (ms.is_number()) r.phases[phase] = ms.get<double>();
    }
  }
  return fields.finish("migration", r);
}

}  // namespace dvs
