#include "demo/cluster.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include "api/http_server.h"
#include "local/local_cluster.h"

namespace dvs::demo {
namespace {

constexpr std::chrono::seconds kLimit{20};
constexpr const char* kAnyNode = "n1";

std::string endpoint_path(int endpoint, const char* what) {
  return std::string("/v1/dcs/") + kDc + "/endpoints/" + std::to_string(endpoint) + "/" + what;
}

}  // namespace

bool await(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

Result<Cluster> Cluster::start(const std::string& dir, const std::string& scratch, bool tls) {
  local::UpOptions options;
  options.dir = dir;
  options.tls = tls;
  options.faults = true;
  options.die_with_caller = true;
  options.dc_writable = {scratch};
  DVS_TRY(local::up(options));
  DVS_ASSIGN(const local::Info info, local::info(dir));
  Cluster cluster;
  Json names = Json::array();
  for (const auto& node : info.nodes) {
    cluster.sockets_[node.name] = node.socket;
    names.push_back(node.name);
  }
  DVS_TRY(cluster.await_whole());
  DVS_TRY(cluster.call(kAnyNode, "POST", "/v1/dcs", {{"name", kDc}, {"nodes", names}}));
  for (const auto& [name, socket] : cluster.sockets_) {
    DVS_ASSIGN(const Json node, cluster.call(name, "GET", "/v1/node"));
    DVS_ASSIGN(cluster.ids_[name], json_get<int>(node, "id"));
  }
  return cluster;
}

Result<Json> Cluster::call(const std::string& node, const std::string& method,
                           const std::string& target, const Json& body,
                           const std::function<void(const Json&)>& on_event) const {
  HttpCall request{sockets_.at(node), method, target, body, on_event, kLimit};
  DVS_ASSIGN(HttpAnswer answer, http_exchange(request));
  if (const auto error = answer.error()) return *error;
  return std::move(answer.body);
}

Status Cluster::arm(const std::string& node, const std::string& point) const {
  DVS_TRY(call(node, "POST", "/v1/faults", {{"point", point}}));
  return {};
}

Result<Process> Cluster::run(const std::string& node, int endpoint,
                             const std::vector<std::string>& argv) const {
  DVS_ASSIGN(const Json started, call(node, "POST", std::string("/v1/dcs/") + kDc + "/processes",
                                      {{"node", node}, {"endpoint", endpoint}, {"argv", argv}}));
  DVS_ASSIGN(const int pid, json_get<int>(started, "pid"));
  return Process{pid, node};
}

Result<Json> Cluster::migrate(const std::string& asked, int endpoint, const std::string& target,
                              const std::function<void(const Json&)>& on_event) const {
  DVS_ASSIGN(const Json end,
             call(asked, "POST", "/v1/migrations",
                  {{"dc", kDc}, {"endpoint", endpoint}, {"target", target}}, on_event));
  return json_get<Json>(end, "migration");
}

Result<Process> Cluster::find(int endpoint) const {
  DVS_ASSIGN(const Json answer, call(kAnyNode, "GET", std::string("/v1/processes?dc=") + kDc));
  DVS_ASSIGN(const Json processes, json_get<Json>(answer, "processes"));
  for (const Json& process : processes) {
    DVS_ASSIGN(const int number, json_get<int>(process, "endpoint"));
    if (number != endpoint) continue;
    DVS_ASSIGN(const int pid, json_get<int>(process, "pid"));
    DVS_ASSIGN(std::string node, json_get<std::string>(process, "node"));
    return Process{pid, std::move(node)};
  }
  return Error(Code::kNotFound, "nothing runs at endpoint " + std::to_string(endpoint));
}

Status Cluster::clear(const std::vector<int>& endpoints) const {
  const auto is_free = [&] {
    bool gone = true;
    for (const int endpoint : endpoints) {
      const auto found = find(endpoint);
      if (!found.ok() && found.error().code() == Code::kNotFound) continue;
      gone = false;
      // Fails when it has ended meanwhile, or while its node restarts: looking again shows.
      (void)call(kAnyNode, "POST", endpoint_path(endpoint, "kill"), {{"signal", SIGKILL}});
    }
    return gone && nothing_bound();
  };
  if (await(is_free, kLimit)) return {};
  return Error(Code::kTimeout, "the processes of the run do not end");
}

// A process that has ended is not listed any more, a moment before its endpoint can be used again.
bool Cluster::nothing_bound() const {
  return std::all_of(sockets_.begin(), sockets_.end(), [this](const auto& entry) {
    const auto answer = call(entry.first, "GET", "/v1/dcs");
    const auto dcs = answer.ok() ? json_get<Json>(*answer, "dcs") : answer;
    return dcs.ok() && std::all_of(dcs->begin(), dcs->end(),
                                   [](const Json& dc) { return dc.value("bound", -1) == 0; });
  });
}

bool Cluster::is_whole() const {
  const auto linked = [](const Json& node) {
    return node.value("state", "") == "up" && node.value("link", "") != "down";
  };
  return std::all_of(sockets_.begin(), sockets_.end(), [&](const auto& entry) {
    const auto answer = call(entry.first, "GET", "/v1/nodes");
    if (!answer.ok()) return false;
    const auto nodes = json_get<Json>(*answer, "nodes");
    return nodes.ok() && nodes->size() == sockets_.size() &&
           std::all_of(nodes->begin(), nodes->end(), linked);
  });
}

Status Cluster::await_whole() const {
  if (await([this] { return is_whole(); }, kLimit)) return {};
  return Error(Code::kTimeout, "the nodes do not all see each other");
}

std::string Cluster::log(int endpoint) const {
  const auto answer = call(kAnyNode, "GET", endpoint_path(endpoint, "logs"));
  return answer.ok() ? answer->value("data", "") : answer.error().message();
}

}  // namespace dvs::demo
