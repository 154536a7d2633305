#include "node/conductor.h"

#include <algorithm>
#include <random>

#include "base/base64.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "mover/tracker.h"

namespace dvs {
namespace {

constexpr auto kCallLimit = std::chrono::seconds(20);

}  // namespace

Conductor::Conductor(Executor& executor, Doorbells& doorbells, NodeConfig config, Store& store,
                     Engine& engine, Cgroups cgroups)
    : scheduler_(executor),
      faults_(config.faults),
      cluster_(scheduler_, store, config.cluster),
      context_{executor,           scheduler_, doorbells, std::move(config), store, cluster_,
               std::move(cgroups), engine,     faults_},
      presence_(scheduler_, store, context_.lease) {
  context_.incarnation = static_cast<uint64_t>(realtime_ns());
  context_.aside = &aside_;
  context_.peers = this;
  if (!mover::probe_tracking().write_protect) {
    context_.no_mover = "this kernel cannot tell which pages a process has written (Linux 6.7 can)";
  } else {
    context_.no_mover = engine.why_not_apart();
  }
}

Conductor::~Conductor() = default;

void Conductor::start(Done<bool> done) {
  load([this, done](Result<bool> loaded) {
    if (!loaded.ok()) return done(loaded.error());
    for (const auto& [name, node] : cluster_.nodes()) on_node(name);
    for (const auto& [name, dc] : cluster_.dcs()) on_dc(name);
    close_left_parts();
    cluster_.follow(*this);
    learn_cpu();
    done(true);
  });
}

// For the preflight of migrations; until it is known they are not refused for their CPU.
void Conductor::learn_cpu() {
  context_.engine.describe_cpu(context_.config.run_dir + "/cpu", [this](Result<std::string> cpu) {
    if (cpu.ok())
      context_.cpu = base64_encode(*cpu);
    else
      log::warn("cannot describe this node's CPU: {}", cpu.error().message());
  });
}

Status Conductor::open_links_and_parts() {
  on_revoked();
  LinkOptions options;
  options.cluster = context_.config.cluster;
  options.node = context_.id;
  options.name = context_.config.name;
  options.incarnation = context_.incarnation;
  options.listen_address = context_.config.listen_address;
  options.listen_port = context_.config.listen_port;
  options.compress = context_.config.compress_links;
  options.tls = context_.config.tls;
  options.batch = context_.config.batch_links;
  LinkEvents events;
  events.on_up = [this](NodeId peer) {
    for (const auto& [name, part] : parts_) part->on_link_up(peer);
  };
  events.on_down = [this](NodeId peer, const std::string&) {
    rpc_->on_down(peer);
    for (const auto& [name, part] : parts_) part->on_link_down(peer);
  };
  events.on_frame = [this](NodeId peer, const wire::Frame& frame) { on_frame(peer, frame); };
  events.on_writable = [this](NodeId peer) {
    for (const auto& [name, part] : parts_) part->on_writable(peer);
  };
  DVS_ASSIGN(links_, open_links(context_.executor, std::move(options), std::move(events)));
  context_.links = links_.get();
  rpc_ = std::make_unique<Rpc>(context_.executor, context_.id);
  rpc_->use(*links_);
  context_.rpc = rpc_.get();
  coordinator_ = std::make_unique<Coordinator>(scheduler_, context_.store, cluster_,
                                               static_cast<Peers&>(*this), faults_,
                                               context_.config.name, std::random_device()());
  add_services();
  return {};
}

void Conductor::recheck_links() {
  if (links_ != nullptr) links_->recheck();
}

// Frames whose checksum is right and whose contents make no sense are from a peer that is broken or
// hostile: its link ends, and is logged and made anew no more often than any other.
void Conductor::on_frame(NodeId peer, const wire::Frame& frame) {
  if (frame.type == wire::FrameType::kControl) {
    rpc_->on_frame(peer, frame.body.view());
  } else if (frame.type == wire::FrameType::kOperation) {
    auto operation = wire::decode_operation(frame.body);
    if (!operation.ok()) return links_->drop(peer, operation.error().message());
    if (auto part = part_by_id(operation->dcid)) part->on_operation(peer, *operation);
  } else if (frame.type == wire::FrameType::kImage) {
    auto id = transfer_id(frame.body.view());
    if (!id.ok()) return links_->drop(peer, id.error().message());
    for (const auto& [name, part] : parts_) part->on_image(peer, *id, frame.body.view());
  }
}

std::shared_ptr<DcPart> Conductor::part(const std::string& dc) const {
  auto found = parts_.find(dc);
  return found == parts_.end() ? nullptr : found->second;
}

std::shared_ptr<DcPart> Conductor::part_by_id(int dcid) const {
  for (const auto& [name, part] : parts_) {
    if (part->record().id == dcid) return part;
  }
  return nullptr;
}

std::optional<NodeId> Conductor::id_of(const std::string& node) const {
  const auto found = cluster_.members().find(node);
  if (found == cluster_.members().end()) return std::nullopt;
  return found->second;
}

void Conductor::call(const std::string& node, const std::string& call, Json args,
                     std::chrono::milliseconds timeout, Done<Json> done) {
  const auto id = id_of(node);
  if (!id.has_value()) {
    return context_.later(
        [done, node] { done(Error(Code::kNotFound, "there is no node '" + node + "'")); });
  }
  rpc_->call(*id, call, std::move(args), timeout, [done, node](Result<Json> answer) {
    if (answer.ok() || answer.error().code() != Code::kUnavailable) return done(answer);
    done(answer.error().context("node '" + node + "'"));
  });
}

void Conductor::call(const std::string& node, const std::string& call, Json args, Done<Json> done) {
  this->call(node, call, std::move(args), kCallLimit, std::move(done));
}

// ---- the directory's news ----

void Conductor::on_node(const std::string& name) {
  if (name != context_.config.name && links_ != nullptr) {
    const auto id = id_of(name);
    const NodeRecord* record = cluster_.node(name);
    if (record != nullptr) {
      links_->expect(record->id, name, record->address, record->port);
    } else if (id.has_value()) {
      links_->forget(*id);
    }
  }
  for (const auto& [dc, part] : parts_) part->update_nodes();
}

bool Conductor::spans_this_node(const DcRecord* dc) const {
  return dc != nullptr &&
         std::find(dc->nodes.begin(), dc->nodes.end(), context_.config.name) != dc->nodes.end();
}

void Conductor::on_dc(const std::string& name) {
  const DcRecord* record = cluster_.dc(name);
  const bool mine = spans_this_node(record);
  if (closing_.count(name) != 0) return;
  auto existing = part(name);
  if (mine && existing == nullptr) {
    open_part(*record);
  } else if (mine) {
    existing->update_record(*record);
  } else if (existing != nullptr) {
    close_part(name, existing);
  } else if (cluster_.parts(name).count(context_.config.name) != 0) {
    presence_.remove(cluster_.keys().part(name, context_.config.name), [] {});  // it was an error
  }
}

// Of DCs that were removed, or taken from this node, while it had no dvsd.
void Conductor::close_left_parts() {
  const auto names = list_dir(paths::dc_dir(context_.config.run_dir, ""));
  if (!names.ok()) return;
  for (const std::string& name : *names) {
    if (spans_this_node(cluster_.dc(name)) || !is_name(name)) continue;
    log::info("DC {}: it was removed meanwhile", name);
    auto left = DcPart::find_left(context_, name);
    if (left.ok()) {
      close_part(name, *left);
    } else {
      presence_.remove(cluster_.keys().part(name, context_.config.name), [] {});
    }
  }
}

void Conductor::close_part(const std::string& name, const std::shared_ptr<DcPart>& part) {
  closing_.insert(name);
  parts_.erase(name);
  part->destroy([this, part, name](Result<bool> destroyed) {
    if (!destroyed.ok()) log::error("DC {}: {}", name, destroyed.error().message());
    presence_.remove(cluster_.keys().part(name, context_.config.name), [this, name] {
      closing_.erase(name);
      on_dc(name);  // it may have come back meanwhile
    });
  });
}

void Conductor::open_part(const DcRecord& record) {
  if (!opening_.insert(record.name).second) return;
  DcPart::open(context_, record,
               [this, name = record.name](Result<std::shared_ptr<DcPart>> opened) {
                 opening_.erase(name);
                 if (!opened.ok()) {
                   log::error("DC {}: {}", name, opened.error().message());
                   return publish_part(name, {false, opened.error().message()});
                 }
                 parts_[name] = *opened;
                 publish_part(name, {true, ""});
                 (*opened)->update_nodes();
                 (*opened)->place_all();
                 on_dc(name);  // it may have changed meanwhile
               });
}

void Conductor::publish_part(const std::string& dc, const PartRecord& record) {
  presence_.put(cluster_.keys().part(dc, context_.config.name), to_text(to_json(record)));
}

void Conductor::on_part(const std::string&, const std::string&) {}

// Whoever may write to the directory may have written it: it counts if the authority has signed it.
void Conductor::on_revoked() {
  if (context_.config.tls == nullptr || cluster_.revoked().empty()) return;
  const auto news = context_.config.tls->take_revoked(cluster_.revoked());
  // (An older one than this node was given by hand is none of its business.)
  if (!news.ok() && news.error().code() == Code::kConflict) return;
  if (!news.ok()) {
    return log::error("the list of revoked certificates in the directory: {}",
                      news.error().message());
  }
  if (!*news) return;
  log::info("certificates were revoked");
  recheck_links();
}

void Conductor::on_endpoint(const std::string& dc, uint32_t slot) {
  if (auto existing = part(dc)) existing->place(slot);
}

void Conductor::on_migration(const std::string& id, const MigrationRecord* before) {
  const auto* entry = cluster_.migration(id);
  if (entry == nullptr) {
    const auto existing = before == nullptr ? nullptr : part(before->dc);
    if (existing != nullptr) existing->participant().on_forgotten(*before);
    return;
  }
  coordinator_->on_record(entry->record, entry->revision);
  if (auto existing = part(entry->record.dc)) existing->on_migration(entry->record, before);
}

}  // namespace dvs
