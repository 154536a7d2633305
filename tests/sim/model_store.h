// etcd as a model: linearizable transactions, leases, watches without gaps; seen over a network
// that delays, loses requests and loses answers.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "directory/store.h"
#include "event_queue.h"

namespace dvs::sim {

class ModelStore {
 public:
  explicit ModelStore(EventQueue& events) : events_(events) {}

  // While it is down, or cut off from a node, requests of it are not answered. Coming back it gives
  // every lease its whole time again, as etcd does.
  void set_down(bool down);
  void cut_off(int node, bool cut) { cut_off_[node] = cut; }
  // What that node has not heard when it is reached again is compacted away.
  void compact_before(int node) { compacted_.insert(node); }
  bool reaches(int node) const {
    const auto found = cut_off_.find(node);
    return !down_ && (found == cut_off_.end() || !found->second);
  }

  // ---- what the server does, at one instant ----
  Result<TxnResult> txn(const std::vector<Compare>& compares, const std::vector<Change>& changes);
  RangeResult range(const std::string& prefix) const;
  int64_t grant(std::chrono::seconds ttl);
  Result<std::chrono::seconds> keep_alive(int64_t lease);
  void end_lease(int64_t lease);  // before its time
  const std::map<std::string, KeyValue>& keys() const { return keys_; }
  int64_t revision() const { return revision_; }

  // Of one dvsd: what it has asked for dies with it, except that the server may have done it.
  std::unique_ptr<Store> connect(int node, Life life);

  Work on_expired;  // a lease has ended, and its keys are gone

  // Planted mistakes, see bugs.h.
  bool ignores_compares = false;
  bool loses_news = false;

 private:
  class Client;
  struct Batch {
    int64_t revision = 0;
    std::vector<WatchEvent> events;
  };
  struct Lease {
    std::chrono::seconds ttl{0};
    int64_t expires_ns = 0;
  };

  bool holds(const Compare& compare) const;
  void expire(int64_t lease);
  void remove(std::string key, std::vector<WatchEvent>& events);
  using Each = std::map<std::string, KeyValue>::const_iterator;
  std::pair<Each, Each> all_below(const std::string& prefix) const;
  void publish(std::vector<WatchEvent> events);

  EventQueue& events_;
  bool down_ = false;
  std::map<int, bool> cut_off_;
  std::set<int> compacted_;
  std::map<std::string, KeyValue> keys_;
  std::map<int64_t, Lease> leases_;
  std::deque<Batch> history_;
  std::vector<std::weak_ptr<Work>> watchers_;  // told that there is something new
  int64_t revision_ = 1;
  int64_t last_lease_ = 0;
};

}  // namespace dvs::sim
