// The cluster's shared state as an ordered key-value store with leases, transactions and watches:
// what DVS needs of etcd, and no more. `EtcdStore` is the real one; tests may use a model of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "tls/session.h"

namespace dvs {

struct KeyValue {
  std::string key;
  std::string value;
  int64_t create_revision = 0;
  int64_t mod_revision = 0;
  int64_t lease = 0;  // 0: none
};

// One condition of a transaction.
struct Compare {
  enum class What { kCreateRevision, kModRevision, kValue, kUnchangedBelow };
  std::string key;
  What what = What::kCreateRevision;
  int64_t revision = 0;  // for the revisions; 0 means "the key does not exist"
  std::string value;     // for kValue

  static Compare absent(std::string key) { return {std::move(key), What::kCreateRevision, 0, {}}; }
  static Compare exists_at(std::string key, int64_t mod_revision) {
    return {std::move(key), What::kModRevision, mod_revision, {}};
  }
  static Compare value_is(std::string key, std::string value) {
    return {std::move(key), What::kValue, 0, std::move(value)};
  }
  // No key that starts with `prefix` was created or changed after `revision`.
  static Compare unchanged_below(std::string prefix, int64_t revision) {
    return {std::move(prefix), What::kUnchangedBelow, revision, {}};
  }
};

// One change of a transaction.
struct Change {
  enum class What { kPut, kDelete, kDeletePrefix };
  What what = What::kPut;
  std::string key;
  std::string value;
  int64_t lease = 0;

  static Change put(std::string key, std::string value, int64_t lease = 0) {
    return {What::kPut, std::move(key), std::move(value), lease};
  }
  static Change remove(std::string key) { return {What::kDelete, std::move(key), {}, 0}; }
  static Change remove_prefix(std::string key) {
    return {What::kDeletePrefix, std::move(key), {}, 0};
  }
};

struct TxnResult {
  bool applied = false;  // all compares held and the changes were made, atomically
  int64_t revision = 0;  // the store's revision after it
};

struct RangeResult {
  std::vector<KeyValue> items;  // in key order
  int64_t revision = 0;         // the state these items were read at
};

struct WatchEvent {
  enum class What { kPut, kDelete };
  What what = What::kPut;
  KeyValue kv;  // for kDelete: key and mod_revision only
};

// All calls: on the Executor's thread. A Done is called exactly once, later; destroying the Store
// drops what is under way: no Done and no watch function is called after that. Errors:
// kUnavailable — no endpoint answered (whether a transaction was applied is then unknown: read
// back before acting on it); kTimeout — likewise; kCorrupt — the answer made no sense, likewise;
// kNotFound — a lease that a put names has expired (nothing was changed); kInvalid — the store
// refuses the request as such, for example two changes of one key in one transaction.
class Store {
 public:
  virtual ~Store() = default;

  // If all `compares` hold, makes all `changes`; atomic and durable.
  virtual void txn(std::vector<Compare> compares, std::vector<Change> changes,
                   Done<TxnResult> done) = 0;
  // All keys that start with `prefix` (linearizable).
  virtual void range(std::string prefix, Done<RangeResult> done) = 0;

  // A lease: its keys vanish when it is not refreshed for `ttl`. Answers the lease's id (never 0).
  virtual void grant_lease(std::chrono::seconds ttl, Done<int64_t> done) = 0;
  // Refreshes once. kNotFound: the lease has expired.
  virtual void keep_alive(int64_t lease, Done<std::chrono::seconds> done) = 0;
  // Ends a lease and deletes its keys. False: it had ended already.
  virtual void revoke_lease(int64_t lease, Done<bool> done) = 0;

  // Every change to keys under `prefix` after `revision` (exclusive), in order, batch by batch: a
  // batch holds all events of one revision. Reconnects by itself and goes on without a gap.
  // `on_lost` is called when that is impossible (the revision was compacted away): the caller
  // reads everything again and watches anew. Runs until the handle is destroyed; after that
  // neither function is called again.
  class Watch {
   public:
    virtual ~Watch() = default;
  };
  virtual std::unique_ptr<Watch> watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<WatchEvent>)> on_events,
      std::function<void(Error)> on_lost) = 0;
};

struct EtcdOptions {
  std::vector<std::string> endpoints;  // "http://host:port", "https://..."; tried in turn
  std::chrono::milliseconds request_timeout{2000};
  tls::Files tls =
      {};  // for https: whom to trust (empty: the system's), and our certificate if any
};

// A client of etcd's v3 JSON gateway. Host names are looked up here, once, blocking; numeric
// addresses never block. kInvalid: an endpoint that is not of the form above (or none at all), a
// file, or files without https; kUnavailable: a host name that cannot be looked up. An etcd that is
// down is no error here, only in the requests. Destroy the Store before the executor.
Result<std::unique_ptr<Store>> open_etcd(Executor& executor, EtcdOptions options);

}  // namespace dvs
