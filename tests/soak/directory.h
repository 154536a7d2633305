// What etcd says, watched from outside of every dvsd.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "directory/records.h"
#include "directory/store.h"

namespace dvs::soak {

class Directory {
 public:
  // For a process in the network of the cluster. Reads everything before it returns.
  static Result<std::unique_ptr<Directory>> open(const std::string& etcd,
                                                 const std::string& cluster);
  ~Directory();

  std::optional<EndpointRecord> endpoint(const std::string& dc, uint32_t slot) const;
  // The node that is a member with this id; "" if none.
  std::string node(NodeId id) const;
  // All migrations seen since the last forget(), by id.
  std::map<std::string, MigrationRecord> migrations() const;
  void forget_migrations();
  size_t locks() const;
  // All but the migrations.
  size_t keys() const;

 private:
  explicit Directory(const std::string& cluster) : keys_(cluster) {}
  Status start(const std::string& etcd);
  void load(Done<bool> done);
  void watch(int64_t revision);
  void apply(const KeyValue& kv, bool deleted);

  const Keys keys_;
  Executor executor_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<Store::Watch> watch_;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::map<std::string, std::string> all_;  // but migrations
  std::map<std::string, MigrationRecord> migrations_;
};

}  // namespace dvs::soak
