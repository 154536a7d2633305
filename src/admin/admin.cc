// The calls of dvk_admin.h, as requests to this node's dvsd.
#include <dvk/dvk_admin.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "api/http_server.h"
#include "dvk/region.h"

namespace dvs {
namespace {

constexpr std::chrono::seconds kAskLimit{30};
constexpr std::chrono::seconds kChangeLimit{60};

constexpr int kMaxProcs = static_cast<int>(dvk::kMaxSlots) - NR_TASKS;

// An answer, or the error to return.
struct Answer {
  int rc = OK;
  Json body;
};

std::string socket_path() {
  const char* named = std::getenv("DVS_SOCKET");
  return named != nullptr && *named != 0 ? named : kNodeSocket;
}

// Of the way to dvsd and back.
int unheard(const Error& error) {
  switch (error.code()) {
    case Code::kDenied:
      return EDVSPRIVILEGES;
    case Code::kUnavailable:
    case Code::kInvalid:
      return EDVSDVSINIT;
    case Code::kTimeout:
      return EDVSTIMEDOUT;
    default:
      return EDVSGENERIC;
  }
}

// What dvsd answered.
int refused(const Error& error) {
  switch (error.code()) {
    case Code::kInvalid:
      return EDVSINVAL;
    case Code::kConflict:
    case Code::kNotFound:  // it was there a moment ago
    case Code::kUnavailable:
      return EDVSRSCBUSY;
    case Code::kTimeout:
      return EDVSTIMEDOUT;
    case Code::kNoSpace:
      return EDVSALLOCMEM;
    case Code::kDenied:
      return EDVSPRIVILEGES;
    default:
      return EDVSGENERIC;
  }
}

Answer exchange(const char* method, const std::string& target, const Json& body,
                std::chrono::milliseconds limit) {
  HttpCall call;
  call.socket_path = socket_path();
  call.method = method;
  call.target = target;
  call.body = body;
  call.silence = limit;
  const auto answer = http_exchange(call);
  if (!answer.ok()) return {unheard(answer.error()), {}};
  if (const auto error = answer->error()) return {refused(*error), {}};
  return {OK, answer->body};
}

Answer ask(const std::string& target) { return exchange("GET", target, nullptr, kAskLimit); }

int change(const char* method, const std::string& target, const Json& body = nullptr) {
  return exchange(method, target, body, kChangeLimit).rc;
}

std::string dc_target(const std::string& name) { return "/v1/dcs/" + url_encode(name); }

// ---- what dvsd tells of nodes and DCs ----

struct Node {
  std::string name;
  int id = -1;
  bool up = false;
  bool self = false;
  bool linked = false;
};

struct Dc {
  std::string name;
  int id = -1;
  std::vector<std::string> nodes;
};

template <typename T>
T field(const Json& json, const char* name, T fallback) {
  auto value = json_get_or<T>(json, name, fallback);
  return value.ok() ? *value : fallback;
}

Node node_of(const Json& json) {
  Node node;
  node.name = field<std::string>(json, "name", "");
  node.id = field(json, "id", -1);
  node.up = field<std::string>(json, "state", "") == "up";
  const auto link = field<std::string>(json, "link", "");
  node.self = link == "self";
  node.linked = link == "up";
  return node;
}

Dc dc_of(const Json& json) {
  Dc dc;
  dc.name = field<std::string>(json, "name", "");
  dc.id = field(json, "id", -1);
  dc.nodes = field<std::vector<std::string>>(json, "nodes", {});
  return dc;
}

bool spans(const Dc& dc, const std::string& node) {
  return std::find(dc.nodes.begin(), dc.nodes.end(), node) != dc.nodes.end();
}

template <typename T>
int list(const char* what, T (*of)(const Json&), std::vector<T>& all) {
  const Answer answer = ask(std::string("/v1/") + what);
  if (answer.rc != OK) return answer.rc;
  for (const Json& item : field<std::vector<Json>>(answer.body, what, {})) all.push_back(of(item));
  return OK;
}

template <typename Found>
int find_node(const Found& wanted, int missing, Node& node) {
  std::vector<Node> nodes;
  if (int rc = list("nodes", node_of, nodes); rc != OK) return rc;
  const auto found = std::find_if(nodes.begin(), nodes.end(), wanted);
  if (found == nodes.end()) return missing;
  node = *found;
  return OK;
}

int find_node(int id, Node& node) {
  return find_node([id](const Node& n) { return n.id == id; }, EDVSBADNODEID, node);
}

// The node of the dvsd that is asked.
int find_self(Node& node) {
  if (int rc = find_node([](const Node& n) { return n.self; }, EDVSDVSINIT, node); rc != OK) {
    return rc;
  }
  return node.up ? OK : EDVSDVSINIT;
}

int find_dc(int dcid, Dc& dc) {
  std::vector<Dc> dcs;
  if (int rc = list("dcs", dc_of, dcs); rc != OK) return rc;
  const auto found =
      std::find_if(dcs.begin(), dcs.end(), [dcid](const Dc& d) { return d.id == dcid; });
  if (found == dcs.end()) return EDVSBADDCID;
  dc = *found;
  return OK;
}

int remove_dc(const Dc& dc) { return change("DELETE", dc_target(dc.name) + "?force=1"); }

int remove_node(const Dc& dc, const std::string& node) {
  return change("DELETE", dc_target(dc.name) + "/nodes/" + url_encode(node));
}

// ---- the structures ----

bool within(int value, uint32_t limit) {
  return value >= 0 && static_cast<uint32_t>(value) <= limit;
}

int check_needs(const dvs_usr_t& dvs) {
  if (!within(dvs.d_nr_dcs, dvk::kDcIds) || !within(dvs.d_nr_nodes, dvk::kRegionNodes) ||
      !within(dvs.d_nr_procs, kMaxProcs) || !within(dvs.d_nr_tasks, NR_TASKS) ||
      !within(dvs.d_nr_sysprocs, dvk::kMaxSlots)) {
    return EDVSBADRANGE;
  }
  const bool copies =
      within(dvs.d_max_copybuf, dvk::kCopyWindow) && within(dvs.d_max_copylen, MAXCOPYLEN);
  return copies ? OK : EDVSBADVALUE;
}

void describe(const std::string& cluster, dvs_usr_t& dvs) {
  const dvk::RegionSpec usual;
  dvs = dvs_usr_t{};
  std::strncpy(dvs.d_name, cluster.c_str(), sizeof dvs.d_name - 1);
  dvs.d_nr_dcs = dvk::kDcIds;
  dvs.d_nr_nodes = dvk::kRegionNodes;
  dvs.d_nr_tasks = static_cast<int>(usual.tasks);
  dvs.d_nr_procs = static_cast<int>(usual.slots - usual.tasks);
  dvs.d_nr_sysprocs = static_cast<int>(usual.sysprocs);
  dvs.d_max_copybuf = dvk::kCopyWindow;
  dvs.d_max_copylen = MAXCOPYLEN;
  dvs.d_version = DVS_VERSION;
  dvs.d_flags = DVK_USERMODE | DVK_INITIALIZED;
  dvs.d_size_proc = sizeof(dvk::Descriptor);
}

// Checks what a new DC is to be, and puts DVS's sizes where none are asked for.
int complete(dc_usr_t& dc) {
  if (::strnlen(dc.dc_name, sizeof dc.dc_name) == sizeof dc.dc_name) return EDVSNAMESIZE;
  if (dc.dc_dcid < -1 || dc.dc_dcid >= dvk::kDcIds) return EDVSBADDCID;
  dvk::RegionSpec spec;
  if (dc.dc_nr_tasks == 0) dc.dc_nr_tasks = static_cast<int>(spec.tasks);
  if (dc.dc_nr_procs == 0) dc.dc_nr_procs = static_cast<int>(spec.slots - spec.tasks);
  if (dc.dc_nr_sysprocs == 0) dc.dc_nr_sysprocs = static_cast<int>(spec.sysprocs);
  if (dc.dc_nr_tasks != NR_TASKS || !within(dc.dc_nr_procs, kMaxProcs) ||
      !within(dc.dc_nr_sysprocs, dvk::kMaxSlots)) {
    return EDVSBADRANGE;
  }
  spec.slots = static_cast<uint32_t>(dc.dc_nr_procs + NR_TASKS);
  spec.sysprocs = static_cast<uint32_t>(dc.dc_nr_sysprocs);
  return dvk::check_spec(spec).ok() ? OK : EDVSBADRANGE;
}

}  // namespace
}  // namespace dvs

using namespace dvs;  // NOLINT(google-build-using-namespace): this file is the bridge to C

int dvk_dvs_init(int node, dvs_usr_t* dvs) {
  if (dvs == nullptr) return EDVSINVAL;
  if (int rc = check_needs(*dvs); rc != OK) return rc;
  Node self;
  if (int rc = find_self(self); rc != OK) return rc;
  if (self.id != node) return EDVSBADNODEID;
  const Answer answer = ask("/v1/node");
  if (answer.rc != OK) return answer.rc;
  describe(field<std::string>(answer.body, "cluster", ""), *dvs);
  return self.id;
}

int dvk_dvs_end(void) {
  Node self;
  if (int rc = find_self(self); rc != OK) return rc;
  std::vector<Dc> dcs;
  if (int rc = list("dcs", dc_of, dcs); rc != OK) return rc;
  int first = OK;
  for (const Dc& dc : dcs) {
    if (!spans(dc, self.name)) continue;
    const int rc = dc.nodes.size() == 1 ? remove_dc(dc) : remove_node(dc, self.name);
    if (first == OK) first = rc;
  }
  return first;
}

int dvk_dc_init(dc_usr_t* dc) {
  if (dc == nullptr) return EDVSINVAL;
  dc_usr_t made = *dc;
  if (int rc = complete(made); rc != OK) return rc;
  Node self;
  if (int rc = find_self(self); rc != OK) return rc;
  const Answer answer = exchange("POST", "/v1/dcs",
                                 {{"name", made.dc_name},
                                  {"id", made.dc_dcid},
                                  {"nodes", {self.name}},
                                  {"endpoints", made.dc_nr_procs + NR_TASKS},
                                  {"servers", made.dc_nr_sysprocs - NR_TASKS},
                                  {"warn2proc", made.dc_warn2proc},
                                  {"warnmsg", made.dc_warnmsg}},
                                 kChangeLimit);
  if (answer.rc != OK) return answer.rc;
  made.dc_dcid = dc_of(answer.body).id;
  made.dc_flags = DC_RUNNING;
  made.dc_nr_nodes = 1;
  made.dc_nodes = self.id < 64 ? 1UL << self.id : 0;
  made.dc_pid = 1;
  *dc = made;
  return self.id;
}

int dvk_dc_end(int dcid) {
  Dc dc;
  if (int rc = find_dc(dcid, dc); rc != OK) return rc;
  return remove_dc(dc);
}

int dvk_add_node(int dcid, int node) {
  Dc dc;
  Node added;
  if (int rc = find_dc(dcid, dc); rc != OK) return rc;
  if (int rc = find_node(node, added); rc != OK) return rc;
  if (spans(dc, added.name)) return EDVSDCNODE;
  if (!added.up) return EDVSNODEFREE;
  return change("POST", dc_target(dc.name) + "/nodes", {{"node", added.name}});
}

int dvk_del_node(int dcid, int node) {
  Dc dc;
  Node removed;
  if (int rc = find_dc(dcid, dc); rc != OK) return rc;
  if (int rc = find_node(node, removed); rc != OK) return rc;
  if (!spans(dc, removed.name)) return EDVSNODCNODE;
  return remove_node(dc, removed.name);
}

int dvk_node_up(const char* name, int node, int /*pxid*/) {
  if (name == nullptr) return EDVSINVAL;
  Node other;
  if (int rc = find_node(node, other); rc != OK) return rc;
  if (other.self || other.name != name) return EDVSBADNODEID;
  return other.linked ? OK : EDVSNOTCONN;
}

int dvk_node_down(int node) {
  Node other;
  if (int rc = find_node(node, other); rc != OK) return rc;
  if (other.self) return EDVSBADNODEID;
  return other.linked ? EDVSNOSYS : OK;
}

int dvk_proxies_bind(const char*, int, int, int, int) { return EDVSNOSYS; }
int dvk_proxies_unbind(int) { return EDVSNOSYS; }
int dvk_proxy_conn(int, int) { return EDVSNOSYS; }
int dvk_get2rmt_T(cmd_t*, proxy_payload_t*, long) { return EDVSNOSYS; }
int dvk_put2lcl(cmd_t*, proxy_payload_t*) { return EDVSNOSYS; }
