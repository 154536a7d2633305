// What a node says after its own change: the change is in it, although changes come by a watch.
#include "directory/cluster.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

// A directory with one member; the test says when its news arrive, or that they do not.
class SlowStore : public Store {
 public:
  using OnEvents = std::function<void(int64_t revision, std::vector<WatchEvent>)>;

  explicit SlowStore(std::string member) : member_(std::move(member)) {}

  void txn(std::vector<Compare>, std::vector<Change>, Done<TxnResult>) override {}
  void range(std::string, Done<RangeResult> done) override {
    done(RangeResult{{{member_, R"({"id":3})", 4, 4}}, revision_});
  }
  void grant_lease(std::chrono::seconds, Done<int64_t>) override {}
  void keep_alive(int64_t, Done<std::chrono::seconds>) override {}
  void revoke_lease(int64_t, Done<bool>) override {}
  std::unique_ptr<Watch> watch(std::string, int64_t, OnEvents on_events,
                               std::function<void(Error)> on_lost) override {
    on_events_ = std::move(on_events);
    on_lost_ = std::move(on_lost);
    return nullptr;
  }

  void member_leaves(int64_t revision) {
    on_events_(revision, {{WatchEvent::What::kDelete, {member_, {}, 0, revision}}});
  }
  void nothing_happens(int64_t revision) { on_events_(revision, {}); }
  void removed(const std::string& key, int64_t revision) {
    on_events_(revision, {{WatchEvent::What::kDelete, {key, {}, 0, revision}}});
  }
  // What comes then is read, as of that revision.
  void news_are_lost(int64_t revision) {
    revision_ = revision;
    auto on_lost = std::move(on_lost_);
    on_lost(Error(Code::kUnavailable, "compacted"));
  }

 private:
  std::string member_;
  int64_t revision_ = 4;
  OnEvents on_events_;
  std::function<void(Error)> on_lost_;
};

class CountingListener : public Cluster::Listener {
 public:
  int endpoints = 0;  // so often one has changed
  void on_node(const std::string&) override {}
  void on_dc(const std::string&) override {}
  void on_part(const std::string&, const std::string&) override {}
  void on_endpoint(const std::string&, uint32_t) override { ++endpoints; }
  void on_migration(const std::string&, const MigrationRecord*) override {}
};

class ClusterNews : public testing::Test {
 protected:
  ClusterNews() {
    cluster_.load([](Result<bool> loaded) { EXPECT_TRUE(loaded.ok()); });
    cluster_.follow(listener_);
  }
  // This node has bound it: known before the directory's news tell.
  bool bind(int64_t revision) {
    EndpointRecord record;
    record.slot = 40;
    return cluster_.book_endpoint("DC0", record, static_cast<uint64_t>(revision), revision);
  }
  void read_again() {
    executor_.restart();
    executor_.poll();
  }
  bool is_bound() const { return cluster_.endpoint("DC0", 40) != nullptr; }

  Executor executor_{1};
  EventLoopScheduler scheduler_{executor_};
  SlowStore store_{Keys("c").member("n4")};
  CountingListener listener_;
  Cluster cluster_{scheduler_, store_, "c"};
};

TEST_F(ClusterNews, AnAnswerWaitsForTheChangeThatItFollows) {
  std::string seen;
  cluster_.when_known(6, [&] { seen += cluster_.members().count("n4") == 0 ? "gone " : "there "; });
  EXPECT_EQ(seen, "");
  store_.nothing_happens(5);
  EXPECT_EQ(seen, "");
  store_.member_leaves(6);
  EXPECT_EQ(seen, "gone ");
  store_.nothing_happens(7);
  EXPECT_EQ(seen, "gone ") << "told twice";
}

// It went with a lease, and the news of both are lost: nobody would ever say so again.
TEST_F(ClusterNews, WhatThisNodeHasBoundIsGoneWhenAReadingHasItNot) {
  bind(6);
  store_.news_are_lost(9);
  read_again();
  EXPECT_FALSE(is_bound());
  EXPECT_EQ(listener_.endpoints, 1);
}

TEST_F(ClusterNews, AReadingFromBeforeABindDoesNotUndoIt) {
  bind(12);
  store_.news_are_lost(9);
  read_again();
  EXPECT_TRUE(is_bound());
  store_.news_are_lost(13);
  read_again();
  EXPECT_FALSE(is_bound());
}

TEST_F(ClusterNews, ARemovalFromBeforeABindDoesNotUndoIt) {
  bind(6);
  store_.removed(cluster_.keys().endpoint("DC0", 40), 5);
  EXPECT_TRUE(is_bound());
  EXPECT_EQ(listener_.endpoints, 0);
  store_.removed(cluster_.keys().endpoint("DC0", 40), 7);
  EXPECT_FALSE(is_bound());
}

// A dvsd that was stopped finds the answer to its bind and the news that came since.
TEST_F(ClusterNews, ABindThatIsAnsweredAfterItsRemovalWasHeardOfIsNone) {
  store_.removed(cluster_.keys().endpoint("DC0", 40), 7);
  EXPECT_FALSE(bind(6));
  EXPECT_FALSE(is_bound());
  EXPECT_TRUE(bind(8));
  EXPECT_TRUE(bind(8)) << "it stands";
}

TEST_F(ClusterNews, WhatIsKnownAlreadyNeedsNoWaiting) {
  bool told = false;
  cluster_.when_known(4, [&] { told = true; });
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace dvs
