// Who this node is, and that it lives: its id in the cluster, its lease, its record.
#include <algorithm>
#include <set>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "node/conductor.h"

namespace dvs {
namespace {

// A node whose dvsd is silent for this long counts as dead. Restarting dvsd takes far less.
constexpr std::chrono::seconds kLeaseTtl{10};
constexpr std::chrono::milliseconds kLeasePeriod{2000};
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
    return take_lease(done);
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

// The lease of an earlier dvsd, if it still lives: the endpoints of running processes hang on it.
void Conductor::take_lease(Done<bool> done) {
  auto grant = [this, done] {
    context_.store.grant_lease(kLeaseTtl, [this, done](Result<int64_t> lease) {
      if (!lease.ok()) return done(lease.error().context("cannot get a lease"));
      context_.lease = *lease;
      announce_node(done);
    });
  };
  auto text = read_file(identity_file(context_.config));
  auto json = text.ok() ? parse_json(*text) : Result<Json>(text.error());
  auto lease = json.ok() ? json_get<int64_t>(*json, "lease") : Result<int64_t>(json.error());
  auto cluster =
      json.ok() ? json_get<std::string>(*json, "cluster") : Result<std::string>(json.error());
  if (!lease.ok() || !cluster.ok() || *cluster != context_.config.cluster) return grant();
  context_.store.keep_alive(*lease,
                            [this, done, grant, old = *lease](Result<std::chrono::seconds> alive) {
                              if (!alive.ok() && alive.error().code() == Code::kNotFound)
                                return grant();
                              if (!alive.ok())
                                return done(alive.error().context("cannot renew the lease"));
                              context_.lease = old;
                              announce_node(done);
                            });
}

Status Conductor::remember_identity() const {
  DVS_TRY(make_dirs(context_.config.run_dir));
  const Json json = {{"name", context_.config.name},
                     {"cluster", context_.config.cluster},
                     {"id", context_.id},
                     {"lease", context_.lease}};
  return replace_file(identity_file(context_.config), to_text(json));
}

void Conductor::announce_node(Done<bool> done) {
  if (Status remembered = remember_identity(); !remembered.ok()) return done(remembered.error());
  if (links_ == nullptr) {
    if (Status opened = open_links_and_parts(); !opened.ok()) return done(opened.error());
  }
  NodeRecord record;
  record.name = context_.config.name;
  record.id = context_.id;
  record.address = context_.config.listen_address;
  record.port = links_->port();
  record.incarnation = context_.incarnation;
  context_.store.txn(
      {},
      {Change::put(cluster_.keys().node(record.name), to_text(to_json(record)), context_.lease)},
      [this, done](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error().context("cannot announce"));
        keep_lease();
        done(true);
      });
}

void Conductor::keep_lease() {
  lease_timer_.expires_after(kLeasePeriod);
  lease_timer_.async_wait([this](const boost::system::error_code& ec) {
    if (ec) return;
    context_.store.keep_alive(context_.lease, [this](Result<std::chrono::seconds> alive) {
      if (!alive.ok() && alive.error().code() == Code::kNotFound) return lease_lost();
      if (!alive.ok()) log::warn("cannot renew the lease: {}", alive.error().message());
      keep_lease();
    });
  });
}

// The cluster took this node for dead and has forgotten its endpoints: who waited for them has been
// told so. It joins again; its processes live on without endpoints until they bind again.
void Conductor::lease_lost() {
  log::error("the lease was lost; joining again");
  context_.store.grant_lease(kLeaseTtl, [this](Result<int64_t> lease) {
    if (!lease.ok()) {
      log::error("cannot get a lease: {}", lease.error().message());
      return keep_lease();
    }
    context_.lease = *lease;
    announce_node([this](Result<bool> announced) {
      if (!announced.ok()) {
        log::error("{}", announced.error().message());
        return keep_lease();
      }
      for (const auto& [name, part] : parts_) publish_part(name, {true, ""});
    });
  });
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
