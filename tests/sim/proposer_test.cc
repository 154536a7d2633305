// What decides a migration, over the model of the directory.
#include "migrate/proposer.h"

#include <gtest/gtest.h>

#include "event_queue.h"
#include "model_store.h"

namespace dvs::sim {
namespace {

using std::chrono_literals::operator""s;

constexpr uint32_t kSlot = 40;
constexpr uint32_t kOther = 41;

class ProposerTest : public testing::Test {
 protected:
  ProposerTest() {
    txn({Change::put(keys().endpoint("DC0", kSlot), place(kSlot))});
    cluster_.load([this](Result<bool> loaded) {
      ASSERT_TRUE(loaded.ok());
      cluster_.follow(listener_);
    });
    settle();
  }

  const Keys& keys() const { return cluster_.keys(); }
  void settle() {
    bool over = false;
    events_.after(2'000'000'000, kForever, [&over] { over = true; });
    while (!over) events_.step();
  }
  void txn(const std::vector<Change>& changes) { ASSERT_TRUE(server_.txn({}, changes).ok()); }
  static std::string place(uint32_t slot) {
    EndpointRecord record;
    record.slot = slot;
    record.node = 0;
    record.pid = record.tid = 1000;
    record.task = "t";
    return to_text(to_json(record));
  }
  void write(const MigrationRecord& record) {
    txn({Change::put(keys().migration(record.id), to_text(to_json(record)))});
    settle();
  }
  MigrationRecord stored() const {
    const auto found = server_.keys().find(keys().migration("m1"));
    return found == server_.keys().end() ? MigrationRecord{}
                                         : *migration_record(found->second.value);
  }
  EndpointRecord stored_endpoint(uint32_t slot) const {
    return *endpoint_record(server_.keys().at(keys().endpoint("DC0", slot)).value);
  }
  static MigrationRecord migration(MigrationState state, std::vector<uint32_t> slots) {
    MigrationRecord record;
    record.id = "m1";
    record.dc = "DC0";
    record.task = "t";
    record.source = "n1";
    record.target = "n2";
    record.coordinator = "n3";
    record.state = state;
    record.slots = std::move(slots);
    record.endpoints.assign(record.slots.size(), 5);
    return record;
  }

  struct Deaf : Cluster::Listener {
    void on_node(const std::string&) override {}
    void on_dc(const std::string&) override {}
    void on_part(const std::string&, const std::string&) override {}
    void on_endpoint(const std::string&, uint32_t) override {}
    void on_migration(const std::string&, const MigrationRecord*) override {}
  };

  EventQueue events_{1};
  ModelStore server_{events_};
  SimScheduler scheduler_{events_, kForever};
  std::unique_ptr<Store> store_ = server_.connect(1, kForever);
  Cluster cluster_{scheduler_, *store_, "sim"};
  Deaf listener_;
  Faults faults_{false};
  const std::string name_ = "n2";
  const NodeId id_ = 1;
  const int64_t lease_ = server_.grant(60s);
  std::shared_ptr<Proposer> proposer_ =
      std::make_shared<Proposer>(scheduler_, *store_, cluster_, faults_, Self{name_, id_, lease_});
};

TEST_F(ProposerTest, ACommitMovesTheEndpoints) {
  write(migration(MigrationState::kActive, {kSlot}));
  proposer_->commit(migration(MigrationState::kActive, {kSlot}));
  settle();
  EXPECT_EQ(stored().state, MigrationState::kCommitted);
  EXPECT_EQ(stored_endpoint(kSlot).node, id_);
  EXPECT_EQ(stored_endpoint(kSlot).epoch, 2u);
}

// It went with a lease, and was bound again: the capsule may speak of the earlier one.
TEST_F(ProposerTest, ACommitIsRefusedOnceAnEndpointWasBoundAgain) {
  write(migration(MigrationState::kActive, {kSlot}));
  const std::string key = keys().endpoint("DC0", kSlot);
  txn({Change::remove(key)});
  txn({Change::put(key, place(kSlot))});
  settle();
  proposer_->commit(migration(MigrationState::kActive, {kSlot}));
  settle();
  EXPECT_EQ(stored().state, MigrationState::kRolledBack);
  EXPECT_EQ(stored().reason, "the endpoints changed during the migration");
  EXPECT_EQ(stored_endpoint(kSlot).node, 0);
}

// The target knew only what the preflight had seen.
TEST_F(ProposerTest, AnOutcomeNamesWhatWasBoundDuringCopying) {
  const auto at_begin = migration(MigrationState::kCopying, {kSlot});
  write(at_begin);
  txn({Change::put(keys().endpoint("DC0", kOther), place(kOther))});
  write(migration(MigrationState::kActive, {kSlot, kOther}));
  proposer_->commit(at_begin);
  settle();
  EXPECT_EQ(stored().state, MigrationState::kCommitted);
  EXPECT_EQ(stored().slots, (std::vector<uint32_t>{kSlot, kOther}));
  EXPECT_EQ(stored_endpoint(kOther).node, id_);
}

TEST_F(ProposerTest, ARollbackNamesItToo) {
  const auto at_begin = migration(MigrationState::kCopying, {kSlot});
  write(at_begin);
  write(migration(MigrationState::kActive, {kSlot, kOther}));
  proposer_->rollback(at_begin, "no room");
  settle();
  EXPECT_EQ(stored().state, MigrationState::kRolledBack);
  EXPECT_EQ(stored().reason, "no room");
  EXPECT_EQ(stored().slots, (std::vector<uint32_t>{kSlot, kOther}));
}

// START may be known to the source, and not yet here.
TEST_F(ProposerTest, ACommitWaitsUntilStartIsKnown) {
  const auto record = migration(MigrationState::kCopying, {kSlot});
  write(record);
  proposer_->commit(record);
  settle();
  EXPECT_EQ(stored().state, MigrationState::kCopying);
  write(migration(MigrationState::kActive, {kSlot}));
  EXPECT_EQ(stored().state, MigrationState::kCommitted);
}

TEST_F(ProposerTest, StartWaitsForABindUnderWay) {
  const auto record = migration(MigrationState::kCopying, {kSlot});
  write(record);
  bool bound = false;
  proposer_->freeze(record, [&]() -> std::optional<Proposer::Endpoints> {
    if (!bound) return std::nullopt;
    return Proposer::Endpoints{{kSlot, 5}, {kOther, 6}};
  });
  settle();
  EXPECT_EQ(stored().state, MigrationState::kCopying);
  txn({Change::put(keys().endpoint("DC0", kOther), place(kOther))});
  bound = true;
  settle();
  EXPECT_EQ(stored().state, MigrationState::kActive);
  EXPECT_EQ(stored().slots, (std::vector<uint32_t>{kSlot, kOther}));
}

}  // namespace
}  // namespace dvs::sim
