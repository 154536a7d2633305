// Who this node is, and that it lives: its id in the cluster, its lease, its record.
#include <algorithm>
#include <set>

#include "base/file.h"
#include "node/conductor.h"

namespace dvs {
namespace {

constexpr int kIdentityAttempts = 20;

std::string member_text(NodeId id) { return to_text(Json{{"id", id}}); }

std::string identity_file(const NodeConfig& config) { return config.run_dir + "/node.json"; }

}  // namespace

void Conductor::load(Done<bool> done) {
  cluster_.load([this, done](Result<bool> loaded) {
    if (!loaded.ok()) return done(loaded.error().context("cannot read the directory"));
    take_identity(done, 0);
  });
}

// The id that this name has, or the smallest free one. Two new nodes may want the same id at the
// same time: the member's key and the id's key are taken in one transaction.
void Conductor::take_identity(Done<bool> done, int attempt) {
  const auto& members = cluster_.members();
  if (auto found = members.find(context_.config.name); found != members.end()) {
    context_.id = found->second;
    return join(done);
  }
  std::set<NodeId> used;
  for (const auto& [name, id] : members) used.insert(id);
  NodeId id = 0;
  while (used.count(id) != 0) ++id;
  if (id >= dvk::kRegionNodes) {
    return done(Error(Code::kNoSpace, "the cluster has its largest number of nodes"));
  }
  const std::string key = cluster_.keys().member(context_.config.name);
  const std::string id_key = cluster_.keys().prefix() + "ids/" + std::to_string(id);
  context_.store.txn({Compare::absent(key), Compare::absent(id_key)},
                     {Change::put(key, member_text(id)), Change::put(id_key, context_.config.name)},
                     [this, done, attempt](Result<TxnResult> result) {
                       if (!result.ok()) return done(result.error().context("cannot join"));
                       if (attempt == kIdentityAttempts) {
                         return done(Error(Code::kConflict, "cannot get an id in the cluster"));
                       }
                       cluster_.load([this, done, attempt](Result<bool> loaded) {
                         if (!loaded.ok()) return done(loaded.error());
                         take_identity(done, attempt + 1);
                       });
                     });
}

void Conductor::join(Done<bool> done) {
  presence_.start(
      earlier_lease(), [this] { return on_lease(); }, std::move(done));
}

// Of a dvsd before this one, in this cluster; 0: none.
int64_t Conductor::earlier_lease() const {
  auto text = read_file(identity_file(context_.config));
  auto json = text.ok() ? parse_json(*text) : Result<Json>(text.error());
  if (!json.ok()) return 0;
  auto lease = json_get<int64_t>(*json, "lease");
  auto cluster = json_get<std::string>(*json, "cluster");
  const bool ours = lease.ok() && cluster.ok() && *cluster == context_.config.cluster;
  return ours ? *lease : 0;
}

// For the next dvsd. And once there is one, links may be opened: who has heard of this node knows
// where.
Status Conductor::on_lease() {
  DVS_TRY(make_dirs(context_.config.run_dir));
  const Json json = {{"name", context_.config.name},
                     {"cluster", context_.config.cluster},
                     {"id", context_.id},
                     {"lease", context_.lease}};
  DVS_TRY(replace_file(identity_file(context_.config), to_text(json)));
  if (links_ != nullptr) return {};
  DVS_TRY(open_links_and_parts());
  NodeRecord record;
  record.name = context_.config.name;
  record.id = context_.id;
  record.address = context_.config.listen_address;
  record.port = links_->port();
  record.incarnation = context_.incarnation;
  presence_.put(cluster_.keys().node(record.name), to_text(to_json(record)));
  return {};
}

void Conductor::leave(const std::string& node, Done<bool> done) {
  if (cluster_.members().count(node) == 0) {
    return done(Error(Code::kNotFound, "there is no node '" + node + "'"));
  }
  for (const auto& [name, dc] : cluster_.dcs()) {
    if (std::find(dc.nodes.begin(), dc.nodes.end(), node) != dc.nodes.end()) {
      return done(Error(Code::kConflict, "node '" + node + "' is part of DC " + name +
                                             "; take it out first (dvs dc shrink " + name + " " +
                                             node + ")"));
    }
  }
  const NodeId id = cluster_.members().at(node);
  const std::string key = cluster_.keys().member(node);
  const std::string id_key = cluster_.keys().prefix() + "ids/" + std::to_string(id);
  context_.store.txn(
      {Compare::value_is(key, member_text(id))},
      {Change::remove(key), Change::remove(id_key), Change::remove(cluster_.keys().node(node))},
      [this, node, done](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error());
        if (!result->applied) {
          return done(Error(Code::kNotFound, "node '" + node + "' has just left"));
        }
        cluster_.when_known(result->revision, [done] { done(true); });
      });
}

}  // namespace dvs
