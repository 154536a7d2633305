#include "soak/directory.h"

#include <algorithm>

namespace dvs::soak {

Result<std::unique_ptr<Directory>> Directory::open(const std::string& etcd,
                                                   const std::string& cluster) {
  std::unique_ptr<Directory> directory(new Directory(cluster));
  DVS_TRY(directory->start(etcd));
  return directory;
}

Directory::~Directory() {
  executor_.stop();
  if (thread_.joinable()) thread_.join();
}

Status Directory::start(const std::string& etcd) {
  EtcdOptions options;
  options.endpoints = {etcd};
  DVS_ASSIGN(store_, open_etcd(executor_, options));
  Result<bool> loaded(Error(Code::kTimeout, "etcd does not answer"));
  bool done = false;
  load([&](Result<bool> result) {
    loaded = std::move(result);
    done = true;
  });
  while (!done && executor_.run_one() > 0) {
  }
  if (!loaded.ok()) return loaded.error();
  thread_ = std::thread([this] {
    const auto guard = boost::asio::make_work_guard(executor_);
    executor_.run();
  });
  return {};
}

void Directory::load(Done<bool> done) {
  store_->range(keys_.prefix(), [this, done](Result<RangeResult> range) {
    if (!range.ok()) return done(range.error());
    for (const KeyValue& kv : range->items) apply(kv, false);
    watch(range->revision);
    done(true);
  });
}

void Directory::watch(int64_t revision) {
  watch_ = store_->watch(
      keys_.prefix(), revision,
      [this](int64_t, const std::vector<WatchEvent>& events) {
        for (const WatchEvent& event : events) {
          apply(event.kv, event.what == WatchEvent::What::kDelete);
        }
      },
      [](const Error&) {});  // nobody compacts this etcd
}

void Directory::apply(const KeyValue& kv, bool deleted) {
  const std::lock_guard lock(mutex_);
  if (kv.key.rfind(keys_.migration(""), 0) == 0) {
    if (deleted) return;
    auto record = migration_record(kv.value);
    if (record.ok()) migrations_[record->id] = *record;
  } else if (deleted) {
    all_.erase(kv.key);
  } else {
    all_[kv.key] = kv.value;
  }
}

std::optional<EndpointRecord> Directory::endpoint(const std::string& dc, uint32_t slot) const {
  const std::lock_guard lock(mutex_);
  const auto found = all_.find(keys_.endpoint(dc, slot));
  if (found == all_.end()) return std::nullopt;
  auto record = endpoint_record(found->second);
  if (!record.ok()) return std::nullopt;
  return *record;
}

std::string Directory::node(NodeId id) const {
  const std::lock_guard lock(mutex_);
  const std::string prefix = keys_.member("");
  for (auto it = all_.lower_bound(prefix); it != all_.end() && it->first.rfind(prefix, 0) == 0;
       ++it) {
    const auto json = parse_json(it->second);
    const auto number = json.ok() ? json_get<int>(*json, "id") : Result<int>(-1);
    if (number.ok() && *number == static_cast<int>(id)) return it->first.substr(prefix.size());
  }
  return "";
}

std::map<std::string, MigrationRecord> Directory::migrations() const {
  const std::lock_guard lock(mutex_);
  return migrations_;
}

void Directory::forget_migrations() {
  const std::lock_guard lock(mutex_);
  migrations_.clear();
}

size_t Directory::locks() const {
  const std::lock_guard lock(mutex_);
  const std::string prefix = keys_.prefix() + "locks/";
  return static_cast<size_t>(std::count_if(all_.begin(), all_.end(), [&](const auto& entry) {
    return entry.first.rfind(prefix, 0) == 0;
  }));
}

size_t Directory::keys() const {
  const std::lock_guard lock(mutex_);
  return all_.size();
}

}  // namespace dvs::soak
