#include "migrate/history.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

class History : public testing::Test {
 protected:
  MigrationRecord& add(const std::string& task, const std::string& source,
                       const std::string& target) {
    Cluster::MigrationEntry& entry = all_["m" + std::to_string(all_.size() + 1)];
    entry.incarnation = ++revision_;
    entry.revision = static_cast<int64_t>(revision_);
    MigrationRecord& record = entry.record;
    record.id = "m" + std::to_string(all_.size());
    record.dc = "DC0";
    record.task = task;
    record.source = source;
    record.target = target;
    record.state = MigrationState::kCommitted;
    record.settled = true;
    return record;
  }
  std::vector<std::string> removable_ids(size_t kept, size_t most = 100) const {
    std::vector<std::string> ids;
    for (const auto* entry : removable(all_, kept, most)) ids.push_back(entry->record.id);
    return ids;
  }
  using Ids = std::vector<std::string>;

  std::map<std::string, Cluster::MigrationEntry> all_;
  uint64_t revision_ = 10;
};

TEST_F(History, TheNewestAreKept) {
  for (int i = 0; i < 5; ++i) add("t", "n1", "n2");
  EXPECT_EQ(removable_ids(5), Ids{});
  EXPECT_EQ(removable_ids(3), (Ids{"m1", "m2"}));
  EXPECT_EQ(removable_ids(0, 2), (Ids{"m1", "m2"}));
}

TEST_F(History, WhatIsNotOverStaysAndWhatCameAfterItToo) {
  add("t", "n1", "n2").state = MigrationState::kActive;
  add("t", "n2", "n3");
  add("other", "n1", "n2");
  EXPECT_EQ(removable_ids(0), Ids{"m3"});
}

TEST_F(History, WhatNobodyHasSettledStays) {
  add("t", "n1", "n2").settled = false;
  add("t", "n2", "n3");
  EXPECT_EQ(removable_ids(0), Ids{}) << "n1 may have its copy still";
}

// Both may have been asked before either knew of the first.
TEST_F(History, ALaterOneThatNobodyHasSettledSaysNothing) {
  add("t", "n1", "n2").settled = false;
  add("t", "n1", "n2").settled = false;
  EXPECT_EQ(removable_ids(0), Ids{});
  add("t", "n1", "n2");
  EXPECT_EQ(removable_ids(0), (Ids{"m1", "m2", "m3"}));
}

TEST_F(History, UntilBothItsNodesHaveTakenPartInALaterOne) {
  add("t", "n1", "n2").settled = false;
  add("t", "n2", "n3");
  add("t", "n3", "n1");
  EXPECT_EQ(removable_ids(0), (Ids{"m1", "m2", "m3"}));
}

TEST_F(History, OneByHandSaysNothingOfNodes) {
  add("t", "n1", "n2").settled = false;
  add("t", "n1", "n2").manual = true;
  EXPECT_EQ(removable_ids(0), Ids{});
}

TEST_F(History, MemoryThatIsOwedStays) {
  add("t", "n1", "n2").memory = OwedMemory::kOwed;
  EXPECT_EQ(removable_ids(0), Ids{});
}

}  // namespace
}  // namespace dvs
