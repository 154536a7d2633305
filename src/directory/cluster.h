// The cluster as this node knows it: the directory's records, kept up to date by a watch. Reading
// is immediate; changing goes through the Store. One thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/scheduler.h"
#include "directory/records.h"
#include "directory/store.h"

namespace dvs {

class Cluster {
 public:
  template <typename Record>
  struct Entry {
    Record record;
    uint64_t incarnation = 0;  // revision that created it
    int64_t revision = 0;      // of the last change
  };
  using EndpointEntry = Entry<EndpointRecord>;
  using MigrationEntry = Entry<MigrationRecord>;

  // Told after the change is in the maps below; of one transaction, in the order of its changes.
  // May be told of something that did not change (after a resynchronisation).
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void on_node(const std::string& name) = 0;
    virtual void on_dc(const std::string& name) = 0;
    virtual void on_part(const std::string& dc, const std::string& node) = 0;
    virtual void on_endpoint(const std::string& dc, uint32_t slot) = 0;
    // `before`: as it was known last; null: not at all.
    virtual void on_migration(const std::string& id, const MigrationRecord* before) = 0;
    virtual void on_revoked() {}
  };

  Cluster(Scheduler& scheduler, Store& store, const std::string& name);

  // Reads everything; then the maps are filled, and from follow() on the listener is told of
  // changes.
  void load(Done<bool> done);
  void follow(Listener& listener);

  const Keys& keys() const { return keys_; }
  const std::map<std::string, NodeId>& members() const { return members_; }
  const std::map<std::string, NodeRecord>& nodes() const { return nodes_; }
  const std::map<std::string, DcRecord>& dcs() const { return dcs_; }
  const std::map<std::string, PartRecord>& parts(const std::string& dc) const;
  const std::map<uint32_t, EndpointEntry>& endpoints(const std::string& dc) const;
  const std::map<std::string, MigrationEntry>& migrations() const { return migrations_; }
  // Keys::revoked(), as somebody has written it; empty: nobody has.
  const std::string& revoked() const { return revoked_; }

  const NodeRecord* node(const std::string& name) const;
  const DcRecord* dc(const std::string& name) const;
  const EndpointEntry* endpoint(const std::string& dc, uint32_t slot) const;
  const MigrationEntry* migration(const std::string& id) const;
  // An endpoint that was bound by that revision is not any more.
  bool is_forgotten(const std::string& dc, uint32_t slot, uint64_t incarnation) const;
  std::optional<std::string> name_of(NodeId id) const;  // of a member
  std::optional<std::string> lock_of(const std::string& dc, const std::string& task) const;

  // Of the directory: what happened until then is in the maps.
  int64_t revision() const { return revision_; }
  // Runs `then` once everything up to `revision` of the directory is in the maps: an answer that is
  // given from there does not contradict what was asked before it. At once if it is already.
  void when_known(int64_t revision, std::function<void()> then);

  // Books the result of an own transaction ahead of the watch, so that what follows sees it. False:
  // the news have overtaken it, and the endpoint is not there any more.
  bool book_endpoint(const std::string& dc, const EndpointRecord& record, uint64_t incarnation,
                     int64_t revision);

 private:
  void watch();
  void resync();
  void reached(int64_t revision);
  void apply(const KeyValue& kv, bool deleted);
  void apply_member(const std::string& name, const KeyValue& kv, bool deleted);
  // What this node knows of an endpoint, from a transaction of its own, is newer.
  bool is_booked_ahead(const std::string& rest, int64_t revision) const;
  void apply_endpoint(const std::string& rest, const KeyValue& kv, bool deleted);
  void apply_migration(const std::string& id, const KeyValue& kv, bool deleted);

  Scheduler& scheduler_;
  Store& store_;
  Keys keys_;
  Listener* listener_ = nullptr;
  std::unique_ptr<Store::Watch> watch_;
  int64_t revision_ = 0;
  std::multimap<int64_t, std::function<void()>> waiting_;  // by the revision that they wait for
  std::set<std::string> known_;  // all keys, to find out which are gone when all is read again
  std::map<std::string, NodeId> members_;
  std::map<std::string, NodeRecord> nodes_;
  std::map<std::string, DcRecord> dcs_;
  std::map<std::string, std::map<std::string, PartRecord>> parts_;
  std::map<std::string, std::map<uint32_t, EndpointEntry>> endpoints_;
  std::map<std::string, MigrationEntry> migrations_;
  std::string revoked_;
  std::map<std::string, std::string> locks_;  // "DC/TASK" -> migration id
};

}  // namespace dvs
