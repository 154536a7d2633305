// What other nodes ask of this one (through Rpc), and the changes of DCs that any node can make.
#include <algorithm>
#include <climits>
#include <csignal>
#include <set>

#include "base/base64.h"
#include "base/clock.h"
#include "base/log.h"
#include "node/conductor.h"

namespace dvs {
namespace {

constexpr int64_t kPartsLimitNs = 15'000'000'000;
constexpr auto kAskAgain = std::chrono::milliseconds(10);

Json to_json(const TaskDescription& d) {
  return {{"task", d.task},           {"slots", d.slots}, {"endpoints", d.endpoints},
          {"revisions", d.revisions}, {"pids", d.pids},   {"threads", d.threads},
          {"files", d.files},         {"cpu", d.cpu},     {"memory_bytes", d.memory_bytes},
          {"no_mover", d.no_mover}};
}

Result<TaskDescription> description_from(const Json& json) {
  TaskDescription d;
  DVS_ASSIGN(d.task, json_get<std::string>(json, "task"));
  DVS_ASSIGN(d.endpoints, json_get<std::vector<int>>(json, "endpoints"));
  DVS_ASSIGN(const auto slots, json_get<std::vector<int>>(json, "slots"));
  d.slots.assign(slots.begin(), slots.end());
  DVS_ASSIGN(d.pids, json_get<std::vector<int>>(json, "pids"));
  DVS_ASSIGN(d.threads, json_get<std::vector<int>>(json, "threads"));
  DVS_ASSIGN(d.memory_bytes, json_get<uint64_t>(json, "memory_bytes"));
  DVS_ASSIGN(d.files, json_get<Json>(json, "files"));
  DVS_ASSIGN(d.cpu, json_get<std::string>(json, "cpu"));
  return d;
}

Result<RunRequest> run_request_from(const Json& json) {
  RunRequest request;
  if (json.contains("endpoint") && !json.at("endpoint").is_null()) {
    DVS_ASSIGN(int endpoint, json_get<int>(json, "endpoint"));
    request.endpoint = endpoint;
  }
  DVS_ASSIGN(request.argv, json_get<std::vector<std::string>>(json, "argv"));
  DVS_ASSIGN(request.env, json_get_or<std::vector<std::string>>(json, "env", {}));
  DVS_ASSIGN(request.cwd, json_get_or<std::string>(json, "cwd", "/"));
  if (request.argv.empty() || request.argv.front().empty()) {
    return Error(Code::kInvalid, "no program to run");
  }
  return request;
}

}  // namespace

// A service that needs the part of the DC named in its arguments.
Rpc::Handler Conductor::with_part(PartService service) {
  return [this, service = std::move(service)](const Json& args, const Done<Json>& reply) {
    serve_part(service, args, reply);
  };
}

void Conductor::serve_part(const PartService& service, const Json& args, const Done<Json>& reply) {
  const auto dc = json_get<std::string>(args, "dc");
  if (!dc.ok()) return reply(dc.error());
  const auto existing = part(*dc);
  if (existing != nullptr) return service(existing, args, reply);
  if (opening_.count(*dc) != 0) {  // this node has just been started
    run_after(context_.executor, kAskAgain,
              [this, service, args, reply] { serve_part(service, args, reply); });
    return;
  }
  reply(Error(Code::kNotFound, "node '" + context_.config.name + "' has no part of DC " + *dc));
}

void Conductor::add_services() {
  add_process_services();
  add_preflight_services();
  add_participant_services();
  add_coordinator_services();
}

void Conductor::add_process_services() {
  using Part = std::shared_ptr<DcPart>;
  rpc_->handle("run", with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto request = run_request_from(args);
                 if (!request.ok()) return reply(request.error());
                 dc->run(std::move(*request), reply);
               }));
  rpc_->handle("log", with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto slot = json_get<uint32_t>(args, "slot");
                 auto offset = json_get<uint64_t>(args, "offset");
                 auto max = json_get<uint64_t>(args, "max");
                 if (!slot.ok() || !offset.ok() || !max.ok())
                   return reply(Error(Code::kInvalid, "bad request"));
                 const Task* task = dc->last_task_of(*slot);
                 if (task == nullptr) return reply(Error(Code::kNotFound, "nothing has run there"));
                 auto log = dc->log(task->id, *offset, std::min<uint64_t>(*max, 1 << 20));
                 if (log.ok()) {
                   (*log)["started_ns"] = task->started_ns;
                   (*log)["data"] = base64_encode((*log)["data"].get_ref<const std::string&>());
                 }
                 reply(std::move(log));
               }));
  rpc_->handle("kill", with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto slot = json_get<uint32_t>(args, "slot");
                 auto number = json_get<int>(args, "signal");
                 if (!slot.ok() || !number.ok()) return reply(Error(Code::kInvalid, "bad request"));
                 const Task* task = dc->task_of(*slot);
                 if (task == nullptr)
                   return reply(Error(Code::kNotFound, "its process is not on this node"));
                 Status sent = dc->signal(task->id, *number);
                 if (!sent.ok()) return reply(sent.error());
                 reply(Json::object());
               }));
  rpc_->handle("ps", [this](const Json&, const Done<Json>& reply) {
    Json list = Json::array();
    for (const auto& [name, existing] : parts_) {
      for (const Json& process : existing->processes()) list.push_back(process);
    }
    reply(list);
  });
}

void Conductor::add_preflight_services() {
  using Part = std::shared_ptr<DcPart>;
  rpc_->handle("migrate.describe",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto slot = json_get<uint32_t>(args, "slot");
                 auto id = json_get<std::string>(args, "id");
                 auto target = json_get<std::string>(args, "target");
                 if (!slot.ok() || !id.ok() || !target.ok()) {
                   return reply(Error(Code::kInvalid, "bad request"));
                 }
                 dc->describe(*id, *slot, [=](Result<TaskDescription> description) {
                   if (!description.ok()) return reply(description.error());
                   Json json = to_json(*description);
                   const Task* task = dc->task_of(*slot);
                   json["pid"] = task->root_pid;
                   json["bytes_per_second"] = dc->sent_per_second(*target);
                   dc->prepare_departure(*id, *task, [reply, json] { reply(json); });
                 });
               }));
  rpc_->handle(
      "migrate.check", with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
        auto json = json_get<Json>(args, "description");
        auto description =
            json.ok() ? description_from(*json) : Result<TaskDescription>(json.error());
        if (!description.ok()) return reply(description.error());
        auto id = json_get<std::string>(args, "id");
        auto apart = json_get<bool>(args, "apart");
        auto patience = json_get<int64_t>(args, "patience_ms");
        if (!id.ok() || !apart.ok() || !patience.ok()) {
          return reply(Error(Code::kInvalid, "bad request"));
        }
        const Arrival arrival{*id, description->task, *apart, *patience};
        dc->check_arrival(*description, [dc, arrival, reply](Result<bool> fit) {
          if (!fit.ok()) return reply(fit.error());
          Status prepared = dc->prepare_arrival(arrival, [reply] { reply(Json::object()); });
          if (!prepared.ok()) reply(prepared.error());
        });
      }));
  rpc_->handle("migrate.dismiss",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto id = json_get<std::string>(args, "id");
                 auto task = json_get<std::string>(args, "task");
                 if (!id.ok() || !task.ok()) return reply(Error(Code::kInvalid, "bad request"));
                 dc->discard_prepared(*id, *task);
                 reply(Json::object());
               }));
}

void Conductor::add_participant_services() {
  using Part = std::shared_ptr<DcPart>;
  rpc_->handle("migrate.expect",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto id = json_get<std::string>(args, "id");
                 if (!id.ok()) return reply(id.error());
                 dc->participant().expect(*id, [reply](Result<bool> ready) {
                   if (!ready.ok()) return reply(ready.error());
                   reply(Json::object());
                 });
               }));
  rpc_->handle("migrate.keep",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto id = json_get<std::string>(args, "id");
                 if (!id.ok()) return reply(id.error());
                 Status sealed = dc->seal_kept(*id);
                 if (!sealed.ok()) return reply(sealed.error());
                 reply(Json::object());
               }));
  rpc_->handle("migrate.hurry",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto id = json_get<std::string>(args, "id");
                 if (!id.ok()) return reply(id.error());
                 dc->participant().hurry(*id, "the time allowed for copying is over");
                 reply(Json::object());
               }));
  rpc_->handle("notify.hardware",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto endpoint = json_get<int>(args, "endpoint");
                 if (!endpoint.ok()) return reply(endpoint.error());
                 reply(Json{{"rc", dc->notify_from_hardware(*endpoint)}});
               }));
  rpc_->handle("migrate.manual",
               with_part([](const Part& dc, const Json& args, const Done<Json>& reply) {
                 auto slot = json_get<uint32_t>(args, "slot");
                 auto pid = json_get<int>(args, "pid");
                 auto id = json_get<std::string>(args, "id");
                 if (!slot.ok() || !pid.ok() || !id.ok()) {
                   return reply(Error(Code::kInvalid, "bad request"));
                 }
                 dc->commit_manually(*id, *slot, *pid, [reply](Result<int> rc) {
                   if (!rc.ok()) return reply(rc.error());
                   reply(Json{{"rc", *rc}});
                 });
               }));
}

void Conductor::add_coordinator_services() {
  rpc_->handle("migrate.phase", [this](const Json& args, const Done<Json>& reply) {
    auto id = json_get<std::string>(args, "id");
    auto phase = json_get<std::string>(args, "phase");
    if (id.ok() && phase.ok()) coordinator_->on_phase(*id, *phase);
    reply(Json::object());
  });
  rpc_->handle("migrate.progress", [this](const Json& args, const Done<Json>& reply) {
    auto id = json_get<std::string>(args, "id");
    auto sent = json_get<uint64_t>(args, "sent");
    auto total = json_get<uint64_t>(args, "total");
    if (id.ok() && sent.ok() && total.ok()) coordinator_->on_progress(*id, *sent, *total);
    reply(Json::object());
  });
  rpc_->handle("migrate.round", [this](const Json& args, const Done<Json>& reply) {
    auto id = json_get<std::string>(args, "id");
    if (id.ok()) coordinator_->on_round(*id, args);
    reply(Json::object());
  });
  rpc_->handle("migrate.status", [this](const Json& args, const Done<Json>& reply) {
    auto id = json_get<std::string>(args, "id");
    reply(id.ok() ? coordinator_->progress(*id) : Json::object());
  });
  rpc_->handle("migrate.done", [this](const Json& args, const Done<Json>& reply) {
    auto id = json_get<std::string>(args, "id");
    if (id.ok()) coordinator_->on_done(*id, args);
    reply(Json::object());
  });
}

// ---- DCs ----

Status Conductor::check_nodes(const std::vector<std::string>& nodes) const {
  if (nodes.empty()) return Error(Code::kInvalid, "a DC needs at least one node");
  std::set<std::string> seen;
  for (const std::string& node : nodes) {
    if (!seen.insert(node).second)
      return Error(Code::kInvalid, "node '" + node + "' is named twice");
    if (!id_of(node).has_value()) return Error(Code::kNotFound, "there is no node '" + node + "'");
    if (cluster_.node(node) == nullptr) {
      return Error(Code::kUnavailable, "node '" + node + "' is down");
    }
  }
  return {};
}

// A node that has just joined may be known as a member before it is known to be up.
void Conductor::await_nodes(const std::vector<std::string>& nodes, int64_t until_ns,
                            Done<bool> done) {
  const Status fit = check_nodes(nodes);
  if (fit.ok()) return done(true);
  const bool may_come =
      fit.error().code() == Code::kUnavailable || fit.error().code() == Code::kNotFound;
  if (!may_come || monotonic_ns() > until_ns) return done(fit.error());
  run_after(context_.executor, std::chrono::milliseconds(10),
            [this, nodes, until_ns, done] { await_nodes(nodes, until_ns, done); });
}

void Conductor::create_dc(const DcRecord& asked, Done<bool> done) {
  DcRecord record = asked;
  if (!is_name(record.name)) {
    return done(Error(Code::kInvalid, "a DC's name has 1 to 15 letters, digits, '-' or '_'"));
  }
  dvk::RegionSpec spec;
  spec.slots = record.endpoints;
  spec.tasks = record.tasks;
  spec.sysprocs = record.sysprocs;
  if (Status fits = dvk::check_spec(spec); !fits.ok()) return done(fits.error());
  int id = asked.id;
  for (const auto& [name, dc] : cluster_.dcs()) {
    if (asked.id < 0) id = std::max(id, dc.id);
    if (dc.id == asked.id && name != record.name) {
      return done(Error(Code::kConflict,
                        "DC id " + std::to_string(dc.id) + " is that of " + name + " already"));
    }
  }
  if (asked.id < 0) ++id;
  record.id = id;
  // Its clock starts at an hour, so that offsets to it are positive on freshly booted machines.
  constexpr int64_t kHourNs = 3'600'000'000'000;
  record.clock_origin_ns = realtime_ns() - kHourNs;
  const std::string key = cluster_.keys().dc(record.name);
  const std::string id_key = cluster_.keys().prefix() + "dcids/" + std::to_string(id);
  std::vector<Compare> compares = {Compare::absent(key), Compare::absent(id_key)};
  std::vector<Change> changes = {Change::put(key, to_text(to_json(record))),
                                 Change::put(id_key, record.name)};
  context_.store.txn(
      std::move(compares), std::move(changes),
      [this, asked, record, done](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error());
        if (!result->applied && cluster_.dc(record.name) == nullptr) {
          // The id was just taken by another new DC: known by the next turn of the watch.
          run_after(context_.executor, std::chrono::milliseconds(20),
                    [this, asked, done] { create_dc(asked, done); });
          return;
        }
        if (!result->applied) {
          return done(Error(Code::kConflict, "there is a DC " + record.name + " already"));
        }
        await_parts(record.name, monotonic_ns() + kPartsLimitNs, done);
      });
}

// Waits until every node of a DC has its part, or one says why not, and no other node has one.
void Conductor::await_parts(const std::string& dc, int64_t until_ns, Done<bool> done) {
  const DcRecord* record = cluster_.dc(dc);
  const auto& parts = cluster_.parts(dc);
  const auto nodes = record == nullptr ? std::vector<std::string>{} : record->nodes;
  std::string late = record == nullptr ? "it has not been made" : "";
  for (const std::string& node : nodes) {
    const auto found = parts.find(node);
    if (found == parts.end()) {
      late = "node '" + node + "' has not made its part";
    } else if (!found->second.ready) {
      return done(Error(Code::kInternal, "node '" + node + "' cannot make its part of DC " + dc +
                                             ": " + found->second.error));
    }
  }
  for (const auto& [node, part] : parts) {
    const bool left = std::find(nodes.begin(), nodes.end(), node) == nodes.end();
    if (left && part.ready) late = "node '" + node + "' has not ended its part";
  }
  if (late.empty()) return done(true);
  if (monotonic_ns() > until_ns) {
    return done(Error(Code::kTimeout, "DC " + dc + ": " + late + " in time"));
  }
  run_after(context_.executor, std::chrono::milliseconds(10),
            [this, dc, until_ns, done] { await_parts(dc, until_ns, done); });
}

void Conductor::change_dc(const std::string& name,
                          const std::function<Result<DcRecord>(DcRecord)>& change,
                          std::vector<Compare> compares, Done<bool> done) {
  const std::string key = cluster_.keys().dc(name);
  context_.store.range(key, [this, name, key, change, compares = std::move(compares),
                             done](Result<RangeResult> found) mutable {
    if (!found.ok()) return done(found.error());
    const KeyValue* current = nullptr;
    for (const KeyValue& kv : found->items) {
      if (kv.key == key) current = &kv;
    }
    if (current == nullptr) return done(Error(Code::kNotFound, "there is no DC " + name));
    auto record = dc_record(current->value);
    if (!record.ok()) return done(record.error());
    auto changed = change(*record);
    if (!changed.ok()) return done(changed.error());
    compares.push_back(Compare::exists_at(key, current->mod_revision));
    context_.store.txn(
        std::move(compares), {Change::put(key, to_text(dvs::to_json(*changed)))},
        [this, name, done](Result<TxnResult> result) {
          if (!result.ok()) return done(result.error());
          if (!result->applied) {
            return done(Error(Code::kConflict, "DC " + name + " was just changed; try again"));
          }
          cluster_.when_known(result->revision, [this, name, done] {
            await_parts(name, monotonic_ns() + kPartsLimitNs, done);
          });
        });
  });
}

void Conductor::remove_dc(const std::string& name, bool force, Done<bool> done) {
  const DcRecord* record = cluster_.dc(name);
  if (record == nullptr) return done(Error(Code::kNotFound, "there is no DC " + name));
  if (!force && !cluster_.endpoints(name).empty()) {
    return done(Error(Code::kConflict, std::to_string(cluster_.endpoints(name).size()) +
                                           " endpoints are bound in DC " + name +
                                           "; end them first, or use --force"));
  }
  const std::string id_key = cluster_.keys().prefix() + "dcids/" + std::to_string(record->id);
  std::vector<Change> changes = {
      Change::remove(cluster_.keys().dc(name)), Change::remove(id_key),
      Change::remove_prefix(cluster_.keys().endpoints(name)),
      Change::remove_prefix(cluster_.keys().prefix() + "locks/" + name + "/")};
  std::vector<Compare> compares;
  // A DC of that name may be created again: it is not to inherit a migration. As always, the first
  // outcome that is written counts.
  for (const auto& [id, entry] : cluster_.migrations()) {
    if (entry.record.dc != name || !is_open(entry.record.state)) continue;
    MigrationRecord ended = entry.record;
    ended.state = MigrationState::kRolledBack;
    ended.reason = "the DC was removed";
    ended.ended_ns = realtime_ns();
    compares.push_back(Compare::exists_at(cluster_.keys().migration(id), entry.revision));
    changes.push_back(Change::put(cluster_.keys().migration(id), to_text(dvs::to_json(ended))));
  }
  auto removed = [this, name, done](Result<TxnResult> result) {
    if (!result.ok()) return done(result.error());
    if (!result->applied) {
      return done(
          Error(Code::kConflict, "a migration in DC " + name + " has just ended; try again"));
    }
    await_no_parts(name, monotonic_ns() + kPartsLimitNs, done);
  };
  context_.store.txn(std::move(compares), std::move(changes), std::move(removed));
}

void Conductor::await_no_parts(const std::string& dc, int64_t until_ns, Done<bool> done) {
  if (cluster_.parts(dc).empty() && part(dc) == nullptr) return done(true);
  if (monotonic_ns() > until_ns) {
    return done(Error(Code::kTimeout, "not every node has removed its part of DC " + dc + " yet"));
  }
  run_after(context_.executor, std::chrono::milliseconds(10),
            [this, dc, until_ns, done] { await_no_parts(dc, until_ns, done); });
}

// Finds the slot and the node of an endpoint of a DC.
Result<std::pair<std::string, uint32_t>> Conductor::locate(const std::string& dc,
                                                           int endpoint) const {
  const DcRecord* record = cluster_.dc(dc);
  if (record == nullptr) return Error(Code::kNotFound, "there is no DC " + dc);
  const int64_t slot = endpoint < -NR_TASKS || endpoint > INT_MAX - NR_TASKS
                           ? int64_t{-1}
                           : int64_t{_ENDPOINT_P(endpoint)} + record->tasks;
  if (slot < 0 || slot >= record->endpoints) {
    return Error(Code::kInvalid,
                 "endpoint " + std::to_string(endpoint) + " is out of range in DC " + dc);
  }
  const auto* entry = cluster_.endpoint(dc, static_cast<uint32_t>(slot));
  if (entry == nullptr) {
    return Error(Code::kNotFound,
                 "no process has endpoint " + std::to_string(endpoint) + " in DC " + dc);
  }
  const auto node = cluster_.name_of(entry->record.node);
  if (!node.has_value()) return Error(Code::kNotFound, "its node has left the cluster");
  return std::make_pair(*node, static_cast<uint32_t>(slot));
}

}  // namespace dvs
