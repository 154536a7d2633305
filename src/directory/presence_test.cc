// A node that lives is in the directory: whatever of its lease's keeping fails.
#include "directory/presence.h"

#include <gtest/gtest.h>

#include <deque>
#include <set>

namespace dvs {
namespace {

// What is to be done later is done by hand.
class ManualScheduler final : public Scheduler {
 public:
  int64_t monotonic_ns() const override { return 0; }
  int64_t realtime_ns() const override { return 0; }
  void post(Work work) override { works_.push_back(std::move(work)); }
  void after(std::chrono::nanoseconds, Work work) override { works_.push_back(std::move(work)); }
  void pass() {
    for (Work& work : std::exchange(works_, {})) work();
  }

 private:
  std::deque<Work> works_;
};

class LeaseStore final : public Store {
 public:
  std::set<int64_t> leases;
  std::map<std::string, std::pair<std::string, int64_t>> keys;  // value, lease
  bool takes_writes = true;
  bool answers_late = false;

  void txn(std::vector<Compare>, std::vector<Change> changes, Done<TxnResult> done) override {
    if (!takes_writes) return done(Error(Code::kTimeout, "no answer"));
    for (const Change& change : changes) {
      const bool put = change.what == Change::What::kPut;
      if (put && leases.count(change.lease) == 0) return done(Error(Code::kNotFound, "no lease"));
      if (put) keys[change.key] = {change.value, change.lease};
      if (!put) keys.erase(change.key);
    }
    if (!answers_late) return done(TxnResult{true, 1});
    late_.push_back([done] { done(TxnResult{true, 1}); });
  }
  void range(std::string, Done<RangeResult>) override {}
  void grant_lease(std::chrono::seconds, Done<int64_t> done) override {
    leases.insert(++last_);
    done(last_);
  }
  void keep_alive(int64_t lease, Done<std::chrono::seconds> done) override {
    if (leases.count(lease) == 0) return done(Error(Code::kNotFound, "no lease"));
    done(std::chrono::seconds(10));
  }
  void revoke_lease(int64_t, Done<bool>) override {}
  std::unique_ptr<Watch> watch(std::string, int64_t,
                               std::function<void(int64_t, std::vector<WatchEvent>)>,
                               std::function<void(Error)>) override {
    return nullptr;
  }

  void end_leases() {
    leases.clear();
    keys.clear();
  }
  void answer() {
    for (const auto& answer : std::exchange(late_, {})) answer();
  }

 private:
  int64_t last_ = 0;
  std::vector<std::function<void()>> late_;
};

class PresenceTest : public testing::Test {
 protected:
  void start(int64_t earlier = 0) {
    presence_.start(
        earlier,
        [this] {
          if (++leases_ == 1) presence_.put("node", "n1");
          return Status();
        },
        [this](Result<bool> joined) { joined_ = joined.ok(); });
  }
  bool is_there(const std::string& key) const { return store_.keys.count(key) != 0; }

  ManualScheduler scheduler_;
  LeaseStore store_;
  int64_t lease_ = 0;
  int leases_ = 0;  // so many it has had
  bool joined_ = false;
  Presence presence_{scheduler_, store_, lease_};
};

TEST_F(PresenceTest, AnEarlierLeaseThatLivesIsGoneOnWith) {
  store_.leases.insert(77);
  start(77);
  EXPECT_TRUE(joined_);
  EXPECT_EQ(lease_, 77);
  EXPECT_TRUE(is_there("node"));
}

TEST_F(PresenceTest, InsteadOfALeaseThatHasEndedThereIsANewOneAndAllIsWrittenOnIt) {
  start();
  presence_.put("part", "ready");
  store_.end_leases();
  scheduler_.pass();
  EXPECT_EQ(leases_, 2);
  EXPECT_TRUE(is_there("node"));
  EXPECT_TRUE(is_there("part"));
  EXPECT_EQ(store_.keys["part"].second, lease_);
}

// The new lease was got, and what was to be written on it was not: nobody would look for it again.
TEST_F(PresenceTest, WhatCannotBeWrittenOnANewLeaseIsWrittenLater) {
  start();
  store_.end_leases();
  store_.takes_writes = false;
  scheduler_.pass();
  scheduler_.pass();
  EXPECT_FALSE(is_there("node"));
  store_.takes_writes = true;
  scheduler_.pass();
  EXPECT_TRUE(is_there("node"));
}

TEST_F(PresenceTest, ARecordThatCouldNotBeWrittenIsWrittenLater) {
  start();
  store_.takes_writes = false;
  presence_.put("part", "ready");
  store_.takes_writes = true;
  scheduler_.pass();
  EXPECT_TRUE(is_there("part"));
}

// An answer to what was written on the lost lease says nothing of the new one.
TEST_F(PresenceTest, AnAnswerThatComesAfterItsLeaseHasEndedDoesNotCount) {
  start();
  store_.answers_late = true;
  presence_.put("part", "ready");
  store_.end_leases();
  scheduler_.pass();
  store_.answer();
  store_.answer();
  EXPECT_EQ(store_.keys["part"].second, lease_);
  EXPECT_EQ(store_.keys["node"].second, lease_);
}

TEST_F(PresenceTest, WhatIsRemovedStaysRemovedOnTheNextLease) {
  start();
  presence_.put("part", "ready");
  bool removed = false;
  store_.takes_writes = false;
  presence_.remove("part", [&] { removed = true; });
  EXPECT_FALSE(removed);
  store_.takes_writes = true;
  scheduler_.pass();
  EXPECT_TRUE(removed);
  store_.end_leases();
  scheduler_.pass();
  EXPECT_FALSE(is_there("part"));
  EXPECT_TRUE(is_there("node"));
}

}  // namespace
}  // namespace dvs
