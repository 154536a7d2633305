#include "model_store.h"

#include <algorithm>

namespace dvs::sim {
namespace {

constexpr int64_t kMs = 1'000'000;
constexpr int64_t kRequestLimitNs = 2'000 * kMs;
constexpr int64_t kWatchAgainNs = 50 * kMs;
constexpr int kWatchesLost = 5;  // in 1000

bool below(const std::string& key, const std::string& prefix) {
  return key.compare(0, prefix.size(), prefix) == 0;
}

}  // namespace

// ---- the server ----

void ModelStore::set_down(bool down) {
  if (down_ && !down) {
    for (auto& [id, lease] : leases_) {
      lease.expires_ns = events_.now_ns() + std::chrono::nanoseconds(lease.ttl).count();
      events_.after(std::chrono::nanoseconds(lease.ttl).count(), kForever,
                    [this, id = id] { expire(id); });
    }
  }
  down_ = down;
}

bool ModelStore::holds(const Compare& compare) const {
  if (compare.what == Compare::What::kUnchangedBelow) {
    const auto [begin, end] = all_below(compare.key);
    return std::all_of(begin, end, [&](const auto& entry) {
      return entry.second.mod_revision <= compare.revision;
    });
  }
  const auto found = keys_.find(compare.key);
  const KeyValue* kv = found == keys_.end() ? nullptr : &found->second;
  if (compare.what == Compare::What::kValue) return kv != nullptr && kv->value == compare.value;
  if (kv == nullptr) return compare.revision == 0;
  return compare.revision ==
         (compare.what == Compare::What::kCreateRevision ? kv->create_revision : kv->mod_revision);
}

std::pair<ModelStore::Each, ModelStore::Each> ModelStore::all_below(
    const std::string& prefix) const {
  const auto begin = keys_.lower_bound(prefix);
  const auto end = std::find_if_not(begin, keys_.end(),
                                    [&](const auto& entry) { return below(entry.first, prefix); });
  return {begin, end};
}

void ModelStore::remove(std::string key, std::vector<WatchEvent>& events) {
  if (keys_.erase(key) == 0) return;
  events.push_back({WatchEvent::What::kDelete, {std::move(key), {}, 0, revision_, 0}});
}

Result<TxnResult> ModelStore::txn(const std::vector<Compare>& compares,
                                  const std::vector<Change>& changes) {
  for (const Change& change : changes) {
    if (change.lease != 0 && leases_.count(change.lease) == 0) {
      return Error(Code::kNotFound, "the lease has expired");
    }
  }
  const bool all = std::all_of(compares.begin(), compares.end(),
                               [this](const Compare& compare) { return holds(compare); });
  if (!all && !ignores_compares) return TxnResult{false, revision_};
  if (changes.empty()) return TxnResult{true, revision_};
  ++revision_;
  std::vector<WatchEvent> events;
  for (const Change& change : changes) {
    if (change.what == Change::What::kPut) {
      KeyValue& kv = keys_[change.key];
      if (kv.create_revision == 0) kv.create_revision = revision_;
      kv = {change.key, change.value, kv.create_revision, revision_, change.lease};
      events.push_back({WatchEvent::What::kPut, kv});
    } else if (change.what == Change::What::kDelete) {
      remove(change.key, events);
    } else {
      const auto [begin, end] = all_below(change.key);
      for (auto next = begin; next != end;) remove((next++)->first, events);
    }
  }
  publish(std::move(events));
  return TxnResult{true, revision_};
}

void ModelStore::publish(std::vector<WatchEvent> events) {
  history_.push_back({revision_, std::move(events)});
  for (const auto& watcher : watchers_) {
    if (const auto tell = watcher.lock()) (*tell)();
  }
}

RangeResult ModelStore::range(const std::string& prefix) const {
  RangeResult result;
  result.revision = revision_;
  const auto [begin, end] = all_below(prefix);
  for (auto each = begin; each != end; ++each) result.items.push_back(each->second);
  return result;
}

int64_t ModelStore::grant(std::chrono::seconds ttl) {
  const int64_t id = ++last_lease_;
  const int64_t ttl_ns = std::chrono::nanoseconds(ttl).count();
  leases_[id] = {ttl, events_.now_ns() + ttl_ns};
  events_.after(ttl_ns, kForever, [this, id] { expire(id); });
  return id;
}

Result<std::chrono::seconds> ModelStore::keep_alive(int64_t lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return Error(Code::kNotFound, "the lease has expired");
  const int64_t ttl_ns = std::chrono::nanoseconds(found->second.ttl).count();
  found->second.expires_ns = events_.now_ns() + ttl_ns;
  events_.after(ttl_ns, kForever, [this, lease] { expire(lease); });
  return found->second.ttl;
}

void ModelStore::end_lease(int64_t lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end()) return;
  found->second.expires_ns = events_.now_ns();
  expire(lease);
}

void ModelStore::expire(int64_t lease) {
  const auto found = leases_.find(lease);
  if (found == leases_.end() || found->second.expires_ns > events_.now_ns() || down_) return;
  leases_.erase(found);
  ++revision_;
  std::vector<WatchEvent> events;
  for (auto next = keys_.begin(); next != keys_.end();) {
    const auto each = next++;
    if (each->second.lease == lease) remove(each->first, events);
  }
  if (!events.empty() && on_expired) on_expired();
  publish(std::move(events));
}

// ---- a client ----

class ModelStore::Client final : public Store {
 public:
  Client(ModelStore& server, int node, Life life) : server_(server), node_(node), life_(life) {}

  void txn(std::vector<Compare> compares, std::vector<Change> changes,
           Done<TxnResult> done) override {
    ask<TxnResult>([&server = server_, compares = std::move(compares),
                    changes = std::move(changes)] { return server.txn(compares, changes); },
                   std::move(done));
  }
  void range(std::string prefix, Done<RangeResult> done) override {
    ask<RangeResult>(
        [&server = server_, prefix = std::move(prefix)]() -> Result<RangeResult> {
          return server.range(prefix);
        },
        std::move(done));
  }
  void grant_lease(std::chrono::seconds ttl, Done<int64_t> done) override {
    ask<int64_t>([&server = server_, ttl]() -> Result<int64_t> { return server.grant(ttl); },
                 std::move(done));
  }
  void keep_alive(int64_t lease, Done<std::chrono::seconds> done) override {
    ask<std::chrono::seconds>([&server = server_, lease] { return server.keep_alive(lease); },
                              std::move(done));
  }
  void revoke_lease(int64_t, Done<bool> done) override {
    ask<bool>([]() -> Result<bool> { return true; }, std::move(done));
  }
  std::unique_ptr<Watch> watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<WatchEvent>)> on_events,
      std::function<void(Error)> on_lost) override;

 private:
  struct Watching;

  // There, at one instant; back. Each way may take long, or get lost.
  template <typename T>
  void ask(std::function<Result<T>()> server_side, Done<T> done) {
    EventQueue& events = server_.events_;
    const int64_t there = events.between_ns(50'000, 2 * kMs);
    events.after(there, kForever,
                 [this, &server = server_, node = node_, life = life_,
                  server_side = std::move(server_side), done = std::move(done)] {
                   EventQueue& queue = server.events_;
                   const Result<T> unknown = Error(Code::kTimeout, "etcd did not answer");
                   if (!server.reaches(node)) {
                     return queue.after(kRequestLimitNs, life, [done, unknown] { done(unknown); });
                   }
                   const Result<T> result = server_side();
                   const int64_t back = queue.between_ns(50'000, 2 * kMs);
                   queue.after(back, life, [&server, node, life, done, result, unknown] {
                     if (server.reaches(node)) return done(result);
                     server.events_.after(kRequestLimitNs, life,
                                          [done, unknown] { done(unknown); });
                   });
                 });
  }

  ModelStore& server_;
  const int node_;
  const Life life_;
};

struct ModelStore::Client::Watching final : Watch {
  Watching(ModelStore& the_server, int the_node, Life the_life, std::string the_prefix)
      : server(the_server), node(the_node), life(the_life), prefix(std::move(the_prefix)) {}

  void schedule(int64_t delay_ns) {
    if (std::exchange(scheduled, true)) return;
    server.events_.after(delay_ns, life, [weak = std::weak_ptr(alive), this] {
      if (weak.expired()) return;
      scheduled = false;
      deliver();
    });
  }
  // As when what it has not seen is compacted away: after a while it learns that.
  void lose() {
    scheduled = true;
    server.events_.after(server.events_.between_ns(0, 300 * kMs), life,
                         [weak = std::weak_ptr(alive), this] {
                           if (!weak.expired()) on_lost(Error(Code::kUnavailable, "compacted"));
                         });
  }
  void deliver() {
    if (!server.reaches(node)) return schedule(kWatchAgainNs);
    while (next < server.history_.size() && server.history_[next].revision <= revision) ++next;
    if (next == server.history_.size()) return;
    const bool compacted = server.compacted_.erase(node) != 0;
    if (compacted || server.events_.chance(kWatchesLost)) return lose();
    const Batch& batch = server.history_[next++];
    revision = batch.revision;
    std::vector<WatchEvent> mine;
    for (const WatchEvent& event : batch.events) {
      if (below(event.kv.key, prefix)) mine.push_back(event);
    }
    if (next < server.history_.size()) schedule(server.events_.between_ns(20'000, 500'000));
    if (server.loses_news && server.events_.chance(100)) return;
    on_events(revision, std::move(mine));
  }

  ModelStore& server;
  const int node;
  const Life life;
  const std::string prefix;
  int64_t revision = 0;
  size_t next = 0;
  bool scheduled = false;
  std::function<void(int64_t, std::vector<WatchEvent>)> on_events;
  std::function<void(Error)> on_lost;
  std::shared_ptr<Work> alive;
};

std::unique_ptr<Store::Watch> ModelStore::Client::watch(
    std::string prefix, int64_t revision,
    std::function<void(int64_t revision, std::vector<WatchEvent>)> on_events,
    std::function<void(Error)> on_lost) {
  auto watching = std::make_unique<Watching>(server_, node_, life_, std::move(prefix));
  watching->revision = revision;
  watching->on_events = std::move(on_events);
  watching->on_lost = std::move(on_lost);
  Watching* raw = watching.get();
  watching->alive = std::make_shared<Work>([raw] {
    // Mostly at once; now and then somebody hears of it late.
    EventQueue& events = raw->server.events_;
    raw->schedule(events.chance(950) ? events.between_ns(50'000, 2 * kMs)
                                     : events.between_ns(2 * kMs, 200 * kMs));
  });
  server_.watchers_.push_back(watching->alive);
  watching->schedule(0);
  return watching;
}

std::unique_ptr<Store> ModelStore::connect(int node, Life life) {
  return std::make_unique<Client>(*this, node, life);
}

}  // namespace dvs::sim
