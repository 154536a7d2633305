// The HTTP API (docs/api.md): each route checks its input, then reads the cluster's state or asks
// the node concerned.
#include <algorithm>
#include <charconv>

#include "base/base64.h"
#include "base/clock.h"
#include "node/conductor.h"

namespace dvs {
namespace {

Result<int> to_int(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error(Code::kInvalid, "'" + text + "' is not a number");
  }
  return value;
}

uint64_t query_number(const HttpRequest& request, const char* key, uint64_t fallback) {
  const auto found = request.query.find(key);
  if (found == request.query.end()) return fallback;
  uint64_t value = fallback;
  const std::string& text = found->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : fallback;
}

std::string join(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

bool contains(const std::vector<std::string>& list, const std::string& item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

}  // namespace

struct Conductor::Route {
  ApiRoute what;
  void (Conductor::*handler)(const HttpRequest&, Reply);
};

// Who may do what: viewers see, operators run, end and move processes, administrators do the rest.
// (docs/api.md has the roles, too; a test compares.)
const Conductor::Route Conductor::kRoutes[] = {
    {{Role::kView, "GET", "/v1/node"}, &Conductor::get_node},
    {{Role::kView, "GET", "/v1/nodes"}, &Conductor::get_nodes},
    {{Role::kAdmin, "DELETE", "/v1/nodes/{}"}, &Conductor::delete_node},
    {{Role::kAdmin, "POST", "/v1/revoked"}, &Conductor::post_revoked},
    {{Role::kView, "GET", "/v1/dcs"}, &Conductor::get_dcs},
    {{Role::kAdmin, "POST", "/v1/dcs"}, &Conductor::post_dc},
    {{Role::kAdmin, "DELETE", "/v1/dcs/{}"}, &Conductor::delete_dc},
    {{Role::kAdmin, "POST", "/v1/dcs/{}/nodes"}, &Conductor::post_dc_node},
    {{Role::kAdmin, "DELETE", "/v1/dcs/{}/nodes/{}"}, &Conductor::delete_dc_node},
    {{Role::kOperate, "POST", "/v1/dcs/{}/processes"}, &Conductor::post_process},
    {{Role::kView, "GET", "/v1/processes"}, &Conductor::get_processes},
    {{Role::kOperate, "POST", "/v1/dcs/{}/endpoints/{}/kill"}, &Conductor::post_kill},
    {{Role::kView, "GET", "/v1/dcs/{}/endpoints/{}/logs"}, &Conductor::get_logs},
    {{Role::kOperate, "POST", "/v1/migrations"}, &Conductor::post_migration},
    {{Role::kView, "GET", "/v1/migrations"}, &Conductor::get_migrations},
    {{Role::kView, "GET", "/v1/migrations/{}"}, &Conductor::get_migration},
    {{Role::kOperate, "POST", "/v1/migrations/{}/cancel"}, &Conductor::cancel_migration},
    {{Role::kAdmin, "POST", "/v1/faults"}, &Conductor::post_fault},
};

void Conductor::add_routes(HttpServer& server) {
  for (const Route& route : kRoutes) {
    server.add(
        route.what.method, route.what.path,
        [this, handler = route.handler](const HttpRequest& request, Reply reply) {
          (this->*handler)(request, std::move(reply));
        },
        route.what.role);
  }
}

std::vector<Conductor::ApiRoute> Conductor::api_routes() {
  std::vector<ApiRoute> all;
  for (const Route& route : kRoutes) all.push_back(route.what);
  return all;
}

// ---- nodes ----

void Conductor::get_node(const HttpRequest&, Reply reply) {
  reply->reply({{"name", context_.config.name},
                {"id", context_.id},
                {"cluster", context_.config.cluster},
                {"version", DVS_VERSION},
                {"incarnation", context_.incarnation},
                {"engine", context_.engine.version()}});
}

void Conductor::get_nodes(const HttpRequest&, Reply reply) {
  Json list = Json::array();
  for (const auto& [name, id] : cluster_.members()) {
    const NodeRecord* record = cluster_.node(name);
    const bool self = name == context_.config.name;
    Json dcs = Json::array();
    for (const auto& [dc, dc_record] : cluster_.dcs()) {
      if (contains(dc_record.nodes, name)) dcs.push_back(dc);
    }
    list.push_back({{"name", name},
                    {"id", id},
                    {"state", record != nullptr ? "up" : "down"},
                    {"address", record != nullptr ? record->address : ""},
                    {"port", record != nullptr ? record->port : 0},
                    {"link", self                ? "self"
                             : links_->is_up(id) ? "up"
                                                 : "down"},
                    {"dcs", dcs}});
  }
  reply->reply({{"nodes", list}});
}

void Conductor::delete_node(const HttpRequest& request, Reply reply) {
  leave(request.params[0], [reply](Result<bool> left) {
    if (!left.ok()) return reply->fail(left.error());
    reply->reply(Json::object());
  });
}

// This node takes the list in, then all do by the directory.
void Conductor::post_revoked(const HttpRequest& request, Reply reply) {
  const auto list = json_get<std::string>(request.body, "revoked");
  if (!list.ok()) return reply->fail(list.error());
  if (context_.config.tls == nullptr) {
    return reply->fail(Error(Code::kUnsupported,
                             "this node's links are plain: there is nothing "
                             "to call back"));
  }
  const auto news = context_.config.tls->take_revoked(*list);
  if (!news.ok()) return reply->fail(news.error());
  if (*news) recheck_links();
  const std::string key = cluster_.keys().revoked();
  const std::string& known = cluster_.revoked();
  context_.store.txn(
      {known.empty() ? Compare::absent(key) : Compare::value_is(key, known)},
      {Change::put(key, *list)}, [reply](Result<TxnResult> written) {
        if (!written.ok()) return reply->fail(written.error());
        if (written->applied) return reply->reply(Json::object());
        reply->fail(Error(Code::kConflict, "another list has just been published; try again"));
      });
}

// ---- DCs ----

Json Conductor::dc_json(const DcRecord& record) const {
  Json missing = Json::object();  // nodes without their part of it, and why
  for (const std::string& node : record.nodes) {
    const auto part = cluster_.parts(record.name).find(node);
    if (part == cluster_.parts(record.name).end()) {
      missing[node] = cluster_.node(node) == nullptr ? "the node is down" : "it is being made";
    } else if (!part->second.ready) {
      missing[node] = part->second.error;
    }
  }
  return {{"name", record.name},           {"id", record.id},
          {"nodes", record.nodes},         {"missing", missing},
          {"endpoints", record.endpoints}, {"bound", cluster_.endpoints(record.name).size()}};
}

void Conductor::get_dcs(const HttpRequest&, Reply reply) {
  Json list = Json::array();
  for (const auto& [name, record] : cluster_.dcs()) list.push_back(dc_json(record));
  reply->reply({{"dcs", list}});
}

namespace {

// Takes a field that may be missing; `record` has what it is then.
template <typename T>
Status take(const Json& body, const char* name, T& field) {
  auto value = json_get_or<T>(body, name, field);
  if (!value.ok()) return value.error();
  field = *value;
  return {};
}

Result<DcRecord> asked_dc(const Json& body) {
  DcRecord record;
  DVS_ASSIGN(record.name, json_get<std::string>(body, "name"));
  DVS_ASSIGN(record.nodes, json_get<std::vector<std::string>>(body, "nodes"));
  DVS_TRY(take(body, "id", record.id));
  if (record.id >= dvk::kDcIds) {
    return Error(Code::kInvalid, "a DC's id is below " + std::to_string(dvk::kDcIds));
  }
  DVS_TRY(take(body, "endpoints", record.endpoints));
  uint32_t servers = record.sysprocs - record.tasks;
  DVS_TRY(take(body, "servers", servers));
  if (servers > dvk::kMaxSlots) return Error(Code::kInvalid, "too many servers");
  record.sysprocs = record.tasks + servers;
  DVS_TRY(take(body, "warn2proc", record.warn2proc));
  DVS_TRY(take(body, "warnmsg", record.warnmsg));
  return record;
}

}  // namespace

void Conductor::post_dc(const HttpRequest& request, Reply reply) {
  auto asked = asked_dc(request.body);
  if (!asked.ok()) return reply->fail(asked.error());
  const DcRecord& record = *asked;
  constexpr int64_t kNodesLimitNs = 1'000'000'000;
  await_nodes(record.nodes, monotonic_ns() + kNodesLimitNs, [this, reply, record](Result<bool> up) {
    if (!up.ok()) return reply->fail(up.error());
    create_dc(record, [this, reply, name = record.name](Result<bool> created) {
      const DcRecord* dc = cluster_.dc(name);
      if (!created.ok()) return reply->fail(created.error());
      reply->reply(dc != nullptr ? dc_json(*dc) : Json::object());
    });
  });
}

void Conductor::delete_dc(const HttpRequest& request, Reply reply) {
  remove_dc(request.params[0], query_number(request, "force", 0) != 0,
            [reply](Result<bool> removed) {
              if (!removed.ok()) return reply->fail(removed.error());
              reply->reply(Json::object());
            });
}

void Conductor::post_dc_node(const HttpRequest& request, Reply reply) {
  auto node = json_get<std::string>(request.body, "node");
  if (!node.ok()) return reply->fail(node.error());
  if (Status fit = check_nodes({*node}); !fit.ok()) return reply->fail(fit.error());
  const std::string dc = request.params[0];
  change_dc(
      dc,
      [node = *node](DcRecord record) -> Result<DcRecord> {
        if (contains(record.nodes, node)) {
          return Error(Code::kConflict, "node '" + node + "' is part of it already");
        }
        record.nodes.push_back(node);
        return record;
      },
      {},
      [this, reply, dc](Result<bool> changed) {
        if (!changed.ok()) return reply->fail(changed.error());
        reply->reply(dc_json(*cluster_.dc(dc)));
      });
}

void Conductor::delete_dc_node(const HttpRequest& request, Reply reply) {
  const std::string dc = request.params[0];
  const std::string node = request.params[1];
  const auto id = id_of(node);
  for (const auto& [slot, entry] : cluster_.endpoints(dc)) {
    if (cluster_.node(node) != nullptr && id.has_value() && entry.record.node == *id) {
      return reply->fail(Error(Code::kConflict, "endpoints of DC " + dc + " live on node '" + node +
                                                    "'; migrate or end them first"));
    }
  }
  change_dc(
      dc,
      [node](DcRecord record) -> Result<DcRecord> {
        auto found = std::find(record.nodes.begin(), record.nodes.end(), node);
        if (found == record.nodes.end()) {
          return Error(Code::kNotFound, "node '" + node + "' is not part of it");
        }
        if (record.nodes.size() == 1) {
          return Error(Code::kConflict, "it is the last node; remove the DC instead");
        }
        record.nodes.erase(found);
        return record;
      },
      // Nobody was bound since we looked.
      {Compare::unchanged_below(cluster_.keys().endpoints(dc), cluster_.revision())},
      [this, reply, dc](Result<bool> changed) {
        if (!changed.ok()) return reply->fail(changed.error());
        reply->reply(dc_json(*cluster_.dc(dc)));
      });
}

// ---- processes ----

namespace {

Error not_in_dc(const DcRecord& dc, const std::string& node) {
  return Error(Code::kInvalid, "node '" + node + "' is not part of " + dc.name +
                                   " (its nodes: " + join(dc.nodes) + ")");
}

}  // namespace

void Conductor::post_process(const HttpRequest& request, Reply reply) {
  const DcRecord* dc = cluster_.dc(request.params[0]);
  if (dc == nullptr) {
    return reply->fail(Error(Code::kNotFound, "there is no DC " + request.params[0]));
  }
  auto node = json_get<std::string>(request.body, "node");
  if (!node.ok()) return reply->fail(node.error());
  if (!id_of(*node).has_value()) {
    return reply->fail(Error(Code::kNotFound, "there is no node '" + *node + "'"));
  }
  if (!contains(dc->nodes, *node)) return reply->fail(not_in_dc(*dc, *node));
  Json args = request.body;
  args["dc"] = dc->name;
  call(*node, "run", std::move(args), [reply](Result<Json> started) {
    if (!started.ok()) return reply->fail(started.error());
    reply->reply(*started);
  });
}

void Conductor::get_processes(const HttpRequest& request, Reply reply) {
  struct Gathering {
    Json list = Json::array();
    Json missing = Json::array();
    size_t left = 0;
  };
  auto gathering = std::make_shared<Gathering>();
  const auto wanted = request.query.find("dc");
  const std::string dc = wanted == request.query.end() ? "" : wanted->second;
  if (!dc.empty() && cluster_.dc(dc) == nullptr) {
    return reply->fail(Error(Code::kNotFound, "there is no DC " + dc));
  }
  gathering->left = cluster_.nodes().size();
  for (const auto& [name, node] : cluster_.nodes()) {
    call(name, "ps", Json::object(), [gathering, reply, dc, node_name = name](Result<Json> list) {
      if (!list.ok()) gathering->missing.push_back(node_name);
      for (const Json& process : list.ok() ? *list : Json::array()) {
        if (dc.empty() || process.at("dc") == dc) gathering->list.push_back(process);
      }
      if (--gathering->left > 0) return;
      std::sort(gathering->list.begin(), gathering->list.end(), [](const Json& a, const Json& b) {
        return std::tuple(a.at("dc"), a.at("endpoint")) < std::tuple(b.at("dc"), b.at("endpoint"));
      });
      reply->reply({{"processes", gathering->list}, {"unreachable", gathering->missing}});
    });
  }
}

void Conductor::post_kill(const HttpRequest& request, Reply reply) {
  auto endpoint = to_int(request.params[1]);
  auto signal = json_get_or<int>(request.body, "signal", SIGTERM);
  if (!endpoint.ok()) return reply->fail(endpoint.error());
  if (!signal.ok() || *signal < 1 || *signal > 64) {
    return reply->fail(Error(Code::kInvalid, "there is no such signal"));
  }
  auto place = locate(request.params[0], *endpoint);
  if (!place.ok()) return reply->fail(place.error());
  call(place->first, "kill",
       {{"dc", request.params[0]}, {"slot", place->second}, {"signal", *signal}},
       [reply](Result<Json> killed) {
         if (!killed.ok()) return reply->fail(killed.error());
         reply->reply(*killed);
       });
}

// The node that has the process; when it has ended, the node that remembers the newest task.
void Conductor::get_logs(const HttpRequest& request, Reply reply) {
  auto endpoint = to_int(request.params[1]);
  if (!endpoint.ok()) return reply->fail(endpoint.error());
  const std::string dc = request.params[0];
  const DcRecord* record = cluster_.dc(dc);
  if (record == nullptr) return reply->fail(Error(Code::kNotFound, "there is no DC " + dc));
  const auto encoding = request.query.find("encoding");
  const bool as_text = encoding == request.query.end() || encoding->second != "base64";
  // As it travels between nodes, or as text.
  auto show = [reply, as_text](Json log) {
    if (as_text) {
      auto text = json_get<std::string>(log, "data");
      auto bytes = text.ok() ? base64_decode(*text) : text;
      if (!bytes.ok()) return reply->fail(bytes.error());
      log["data"] = *bytes;
    }
    reply->reply(log);
  };
  Json args = {{"dc", dc},
               {"slot", _ENDPOINT_P(*endpoint) + static_cast<int>(record->tasks)},
               {"offset", query_number(request, "offset", 0)},
               {"max", query_number(request, "max", 64 * 1024)}};
  if (auto place = locate(dc, *endpoint); place.ok()) {
    return call(place->first, "log", args, [reply, show](Result<Json> log) {
      if (!log.ok()) return reply->fail(log.error());
      show(*log);
    });
  }
  struct Newest {
    Json log;
    int64_t started_ns = -1;
    size_t left = 0;
  };
  auto newest = std::make_shared<Newest>();
  newest->left = record->nodes.size();
  for (const std::string& node : record->nodes) {
    call(node, "log", args, [newest, reply, show, dc, number = *endpoint](Result<Json> log) {
      const int64_t started = log.ok() ? log->value("started_ns", int64_t{0}) : -1;
      if (started > newest->started_ns) {
        newest->started_ns = started;
        newest->log = *log;
      }
      if (--newest->left > 0) return;
      if (newest->started_ns >= 0) return show(newest->log);
      reply->fail(Error(Code::kNotFound,
                        "nothing has run at endpoint " + std::to_string(number) + " of DC " + dc));
    });
  }
}

// ---- migrations ----

namespace {

// When what memory moves, and how long that may take.
Status read_schedule(const Json& body, MigrationRequest& asked) {
  DVS_ASSIGN(asked.algorithm, json_get_or<std::string>(body, "algorithm", "auto"));
  DVS_ASSIGN(asked.file_server, json_get_or<std::string>(body, "file_server", ""));
  DVS_ASSIGN(asked.compress, json_get_or<std::string>(body, "compress", "auto"));
  if (auto packer = Packer::make(asked.compress); !packer.ok()) return packer.error();
  ChoiceFacts facts;
  facts.file_server = !asked.file_server.empty();
  DVS_TRY(choose_algorithm(asked.algorithm, facts));
  DVS_ASSIGN(const int patience_ms, json_get_or<int>(body, "patience_ms", 30'000));
  if (patience_ms < 100) return Error(Code::kInvalid, "the patience must be at least 100 ms");
  asked.patience = std::chrono::milliseconds(patience_ms);
  DVS_ASSIGN(const int downtime_ms, json_get_or<int>(body, "max_downtime_ms", 10));
  DVS_ASSIGN(const auto on_timeout, json_get_or<std::string>(body, "on_timeout", "cancel"));
  if (downtime_ms < 1) return Error(Code::kInvalid, "the downtime aimed at must be positive");
  if (on_timeout != "cancel" && on_timeout != "force") {
    return Error(Code::kInvalid, "on_timeout is cancel or force, not '" + on_timeout + "'");
  }
  asked.max_downtime = std::chrono::milliseconds(downtime_ms);
  if (body.contains("bandwidth")) {
    DVS_ASSIGN(asked.bandwidth, json_get<uint64_t>(body, "bandwidth"));
    constexpr uint64_t kLeast = 64 << 10;
    if (asked.bandwidth < kLeast) {
      return Error(Code::kInvalid, "the bandwidth must be at least 64 KiB per second");
    }
  }
  asked.force = on_timeout == "force";
  if (!body.contains("timeout_ms")) return {};
  DVS_ASSIGN(const int timeout_ms, json_get<int>(body, "timeout_ms"));
  if (timeout_ms < 1) return Error(Code::kInvalid, "the time allowed must be positive");
  asked.timeout = std::chrono::milliseconds(timeout_ms);
  return {};
}

}  // namespace

// As the coordinator does when the time allowed is over. What comes of it arrives by the watch.
void Conductor::cancel_migration(const HttpRequest& request, Reply reply) {
  const std::string& id = request.params[0];
  const auto* entry = cluster_.migration(id);
  if (entry == nullptr) return reply->fail(Error(Code::kNotFound, "there is no migration " + id));
  const Error ended(Code::kConflict, "migration " + id + " has ended already");
  if (!is_open(entry->record.state)) return reply->fail(ended);
  MigrationRecord record = entry->record;
  record.state = MigrationState::kRolledBack;
  record.reason = "canceled";
  record.ended_ns = realtime_ns();
  const std::string key = cluster_.keys().migration(id);
  context_.store.txn({Compare::exists_at(key, entry->revision)},
                     {Change::put(key, to_text(dvs::to_json(record))),
                      Change::remove(cluster_.keys().lock(record.dc, record.task))},
                     [this, request, reply, record](Result<TxnResult> result) {
                       if (!result.ok()) return reply->fail(result.error());
                       if (result->applied) return reply->reply(dvs::to_json(record));
                       // It has gone on, or ended.
                       cluster_.when_known(result->revision, [this, request, reply] {
                         cancel_migration(request, reply);
                       });
                     });
}

// Whether something of the DC can go to that node.
Status Conductor::check_node_of(const DcRecord& dc, const std::string& node) const {
  if (!id_of(node).has_value()) {
    return Error(Code::kNotFound, "there is no node '" + node + "'");
  }
  if (!contains(dc.nodes, node)) return not_in_dc(dc, node);
  if (cluster_.node(node) == nullptr) {
    return Error(Code::kUnavailable, "node '" + node + "' is down");
  }
  return {};
}

void Conductor::post_migration(const HttpRequest& request, Reply reply) {
  MigrationRequest asked;
  auto dc_name = json_get<std::string>(request.body, "dc");
  auto endpoint = json_get<int>(request.body, "endpoint");
  auto target = json_get<std::string>(request.body, "target");
  for (const Error* error :
       {dc_name.ok() ? nullptr : &dc_name.error(), endpoint.ok() ? nullptr : &endpoint.error(),
        target.ok() ? nullptr : &target.error()}) {
    if (error != nullptr) return reply->fail(*error);
  }
  if (Status how = read_schedule(request.body, asked); !how.ok()) return reply->fail(how.error());
  auto place = locate(*dc_name, *endpoint);
  if (!place.ok()) return reply->fail(place.error());
  const DcRecord& dc = *cluster_.dc(*dc_name);
  Status usable = check_node_of(dc, *target);
  if (usable.ok() && place->first == *target) {
    usable = Error(Code::kInvalid, "it runs on node '" + *target + "' already");
  }
  if (const std::string& server = asked.file_server; usable.ok() && !server.empty()) {
    usable = check_node_of(dc, server);
    if (server == place->first || server == *target) {
      usable = Error(Code::kInvalid, "the file server must be a third node");
    }
  }
  if (!usable.ok()) return reply->fail(usable.error());
  asked.dc = dc.name;
  asked.endpoint = *endpoint;
  asked.slot = place->second;
  asked.source = place->first;
  asked.target = *target;
  // Nothing is streamed before the preflight is over, so that a refusal is a plain error.
  auto held_back = std::make_shared<std::vector<Json>>();
  auto started = std::make_shared<bool>(false);
  coordinator_->run(
      asked,
      [reply, held_back, started](const Json& event) {
        if (!*started && event.value("phase", "") == "preflight") {
          held_back->push_back(event);
          return;
        }
        *started = true;
        for (const Json& earlier : std::exchange(*held_back, {})) reply->event(earlier);
        reply->event(event);
      },
      [reply, held_back, started](Result<MigrationRecord> record) {
        if (!record.ok()) return reply->fail(record.error());
        for (const Json& earlier : std::exchange(*held_back, {})) reply->event(earlier);
        *started = true;
        reply->event({{"event", "end"}, {"migration", to_json(*record)}});
        reply->end_events();
      });
}

void Conductor::get_migrations(const HttpRequest&, Reply reply) {
  Json list = Json::array();
  const auto& migrations = cluster_.migrations();
  for (auto it = migrations.rbegin(); it != migrations.rend(); ++it) {
    list.push_back(to_json(it->second.record));
  }
  reply->reply({{"migrations", list}});
}

void Conductor::get_migration(const HttpRequest& request, Reply reply) {
  const auto* entry = cluster_.migration(request.params[0]);
  if (entry == nullptr) {
    return reply->fail(Error(Code::kNotFound, "there is no migration " + request.params[0]));
  }
  const MigrationRecord& record = entry->record;
  const auto coordinator = id_of(record.coordinator);
  const bool goes_on = is_open(record.state) || record.memory == OwedMemory::kOwed;
  if (!goes_on || !coordinator.has_value()) return reply->reply(to_json(record));
  // The rest the coordinator knows; without it the record alone is the answer.
  rpc_->call(*coordinator, "migrate.status", {{"id", record.id}}, std::chrono::seconds(2),
             [reply, record](Result<Json> progress) {
               Json answer = to_json(record);
               if (progress.ok()) answer["progress"] = *progress;
               reply->reply(answer);
             });
}

void Conductor::post_fault(const HttpRequest& request, Reply reply) {
  auto point = json_get<std::string>(request.body, "point");
  const auto stop = json_get_or<bool>(request.body, "stop", false);
  if (!point.ok()) return reply->fail(point.error());
  if (!stop.ok()) return reply->fail(stop.error());
  if (Status armed = faults_.arm(*point, *stop); !armed.ok()) return reply->fail(armed.error());
  reply->reply(Json::object());
}

}  // namespace dvs
