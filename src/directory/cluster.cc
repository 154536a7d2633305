#include "directory/cluster.h"

#include <charconv>

#include "base/log.h"

namespace dvs {
namespace {

constexpr auto kReadAgain = std::chrono::milliseconds(500);

// Splits "a/b/c" at the first slash.
std::pair<std::string, std::string> split(const std::string& path) {
  const size_t slash = path.find('/');
  if (slash == std::string::npos) return {path, {}};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

std::optional<uint32_t> to_number(const std::string& text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Keeps `map[key]` in step with a record; a record that makes no sense is logged and left out.
template <typename Map, typename Parse>
void keep(Map& map, const std::string& key, const KeyValue& kv, bool deleted, Parse parse) {
  if (deleted) {
    map.erase(key);
    return;
  }
  if (auto record = parse(kv.value); record.ok()) {
    map[key] = std::move(*record);
  } else {
    log::warn("ignoring {}: {}", kv.key, record.error().message());
  }
}

template <typename Map, typename Key>
auto* find_in(Map& map, const Key& key) {
  auto found = map.find(key);
  return found == map.end() ? nullptr : &found->second;
}

}  // namespace

Cluster::Cluster(Scheduler& scheduler, Store& store, const std::string& name)
    : scheduler_(scheduler), store_(store), keys_(name) {}

void Cluster::load(Done<bool> done) {
  store_.range(keys_.prefix(), [this, done](Result<RangeResult> result) {
    if (!result.ok()) return done(result.error());
    revision_ = result->revision;
    for (const KeyValue& kv : result->items) apply(kv, false);
    done(true);
  });
}

void Cluster::follow(Listener& listener) {
  listener_ = &listener;
  watch();
}

void Cluster::watch() {
  watch_ = store_.watch(
      keys_.prefix(), revision_,
      [this](int64_t revision, std::vector<WatchEvent> events) {
        for (const WatchEvent& event : events) {
          apply(event.kv, event.what == WatchEvent::What::kDelete);
        }
        reached(revision);
      },
      [this](Error error) {
        log::warn("lost track of the directory ({}); reading it again", error.message());
        scheduler_.post([this] { resync(); });
      });
}

// Reads everything and applies the difference, as if it had been watched.
void Cluster::resync() {
  watch_.reset();
  store_.range(keys_.prefix(), [this](Result<RangeResult> result) {
    if (!result.ok()) {
      scheduler_.after(kReadAgain, [this] { resync(); });
      return;
    }
    auto gone = known_;
    for (const KeyValue& kv : result->items) gone.erase(kv.key);
    for (const std::string& key : gone) apply({key, {}, 0, result->revision, 0}, true);
    for (const KeyValue& kv : result->items) apply(kv, false);
    reached(result->revision);
    watch();
  });
}

void Cluster::reached(int64_t revision) {
  revision_ = revision;
  while (!waiting_.empty() && waiting_.begin()->first <= revision_) {
    auto then = waiting_.extract(waiting_.begin());
    then.mapped()();
  }
}

void Cluster::when_known(int64_t revision, std::function<void()> then) {
  if (revision <= revision_) return then();
  waiting_.emplace(revision, std::move(then));
}

void Cluster::apply(const KeyValue& kv, bool deleted) {
  if (kv.key.compare(0, keys_.prefix().size(), keys_.prefix()) != 0) return;
  const auto [kind, rest] = split(kv.key.substr(keys_.prefix().size()));
  if (kind == "endpoints" && is_booked_ahead(rest, kv.mod_revision)) return;
  if (deleted)
    known_.erase(kv.key);
  else
    known_.insert(kv.key);
  if (kind == "members") {
    apply_member(rest, kv, deleted);
  } else if (kind == "nodes") {
    keep(nodes_, rest, kv, deleted, node_record);
    if (listener_ != nullptr) listener_->on_node(rest);
  } else if (kind == "dcs") {
    keep(dcs_, rest, kv, deleted, dc_record);
    if (listener_ != nullptr) listener_->on_dc(rest);
  } else if (kind == "parts") {
    const auto [dc, node] = split(rest);
    keep(parts_[dc], node, kv, deleted, part_record);
    if (listener_ != nullptr) listener_->on_part(dc, node);
  } else if (kind == "endpoints") {
    apply_endpoint(rest, kv, deleted);
  } else if (kind == "migrations") {
    apply_migration(rest, kv, deleted);
  } else if (kind == "revoked") {
    revoked_ = deleted ? "" : kv.value;
    if (listener_ != nullptr) listener_->on_revoked();
  } else if (kind == "locks") {
    if (deleted)
      locks_.erase(rest);
    else
      locks_[rest] = kv.value;
  }
}

void Cluster::apply_member(const std::string& name, const KeyValue& kv, bool deleted) {
  keep(members_, name, kv, deleted, [](const std::string& text) -> Result<NodeId> {
    DVS_ASSIGN(Json json, parse_json(text));
    return json_get<uint16_t>(json, "id");
  });
  if (listener_ != nullptr) listener_->on_node(name);
}

bool Cluster::is_booked_ahead(const std::string& rest, int64_t revision) const {
  const auto [dc, number] = split(rest);
  const auto slot = to_number(number);
  const auto* entry = slot.has_value() ? endpoint(dc, *slot) : nullptr;
  return entry != nullptr && entry->revision > revision;
}

void Cluster::apply_endpoint(const std::string& rest, const KeyValue& kv, bool deleted) {
  const auto [dc, number] = split(rest);
  const auto slot = to_number(number);
  if (!slot.has_value()) return;
  auto& entries = endpoints_[dc];
  if (deleted) {
    entries.erase(*slot);
  } else if (auto record = endpoint_record(kv.value); record.ok()) {
    record->slot = *slot;
    entries[*slot] = {std::move(*record), static_cast<uint64_t>(kv.create_revision),
                      kv.mod_revision};
  } else {
    log::warn("ignoring {}: {}", kv.key, record.error().message());
    return;
  }
  if (listener_ != nullptr) listener_->on_endpoint(dc, *slot);
}

bool Cluster::book_endpoint(const std::string& dc, const EndpointRecord& record,
                            uint64_t incarnation, int64_t revision) {
  if (revision <= revision_) {
    const auto* entry = endpoint(dc, record.slot);
    return entry != nullptr && entry->incarnation == incarnation &&
           entry->record.node == record.node;
  }
  endpoints_[dc][record.slot] = {record, incarnation, revision};
  known_.insert(keys_.endpoint(dc, record.slot));
  return true;
}

void Cluster::apply_migration(const std::string& id, const KeyValue& kv, bool deleted) {
  const MigrationEntry* known = migration(id);
  const auto before = known == nullptr ? std::nullopt : std::optional(known->record);
  if (deleted) {
    migrations_.erase(id);
  } else if (auto record = migration_record(kv.value); record.ok()) {
    migrations_[id] = {std::move(*record), static_cast<uint64_t>(kv.create_revision),
                       kv.mod_revision};
  } else {
    log::warn("ignoring {}: {}", kv.key, record.error().message());
    return;
  }
  if (listener_ != nullptr) listener_->on_migration(id, before.has_value() ? &*before : nullptr);
}

const std::map<std::string, PartRecord>& Cluster::parts(const std::string& dc) const {
  static const std::map<std::string, PartRecord> kNone;
  const auto* found = find_in(parts_, dc);
  return found == nullptr ? kNone : *found;
}

const std::map<uint32_t, Cluster::EndpointEntry>& Cluster::endpoints(const std::string& dc) const {
  static const std::map<uint32_t, EndpointEntry> kNone;
  const auto* found = find_in(endpoints_, dc);
  return found == nullptr ? kNone : *found;
}

const NodeRecord* Cluster::node(const std::string& name) const { return find_in(nodes_, name); }
const DcRecord* Cluster::dc(const std::string& name) const { return find_in(dcs_, name); }
const Cluster::MigrationEntry* Cluster::migration(const std::string& id) const {
  return find_in(migrations_, id);
}

const Cluster::EndpointEntry* Cluster::endpoint(const std::string& dc, uint32_t slot) const {
  return find_in(endpoints(dc), slot);
}

bool Cluster::is_forgotten(const std::string& dc, uint32_t slot, uint64_t incarnation) const {
  if (static_cast<uint64_t>(revision_) < incarnation) return false;
  const EndpointEntry* entry = endpoint(dc, slot);
  return entry == nullptr || entry->incarnation != incarnation;
}

std::optional<std::string> Cluster::name_of(NodeId id) const {
  for (const auto& [name, member] : members_) {
    if (member == id) return name;
  }
  return std::nullopt;
}

std::optional<std::string> Cluster::lock_of(const std::string& dc, const std::string& task) const {
  const auto* found = find_in(locks_, dc + "/" + task);
  if (found == nullptr) return std::nullopt;
  return *found;
}

}  // namespace dvs
