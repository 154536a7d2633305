// What a node says after its own change: the change is in it, although changes come by a watch.
#include "directory/cluster.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

// A directory with one member; the test says when its news arrive.
class SlowStore : public Store {
 public:
  using OnEvents = std::function<void(int64_t revision, std::vector<WatchEvent>)>;

  explicit SlowStore(std::string member) : member_(std::move(member)) {}

  void txn(std::vector<Compare>, std::vector<Change>, Done<TxnResult>) override {}
  void range(std::string, Done<RangeResult> done) override {
    done(RangeResult{{{member_, R"({"id":3})", 4, 4}}, 4});
  }
  void grant_lease(std::chrono::seconds, Done<int64_t>) override {}
  void keep_alive(int64_t, Done<std::chrono::seconds>) override {}
  void revoke_lease(int64_t, Done<bool>) override {}
  std::unique_ptr<Watch> watch(std::string, int64_t, OnEvents on_events,
                               std::function<void(Error)>) override {
    on_events_ = std::move(on_events);
    return nullptr;
  }

  void member_leaves(int64_t revision) {
    on_events_(revision, {{WatchEvent::What::kDelete, {member_, {}, 0, revision}}});
  }
  void nothing_happens(int64_t revision) { on_events_(revision, {}); }

 private:
  std::string member_;
  OnEvents on_events_;
};

class NoListener : public Cluster::Listener {
 public:
  void on_node(const std::string&) override {}
  void on_dc(const std::string&) override {}
  void on_part(const std::string&, const std::string&) override {}
  void on_endpoint(const std::string&, uint32_t) override {}
  void on_migration(const std::string&) override {}
};

class ClusterNews : public testing::Test {
 protected:
  ClusterNews() {
    cluster_.load([](Result<bool> loaded) { EXPECT_TRUE(loaded.ok()); });
    cluster_.follow(listener_);
  }

  Executor executor_{1};
  EventLoopScheduler scheduler_{executor_};
  SlowStore store_{Keys("c").member("n4")};
  NoListener listener_;
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

TEST_F(ClusterNews, WhatIsKnownAlreadyNeedsNoWaiting) {
  bool told = false;
  cluster_.when_known(4, [&] { told = true; });
  EXPECT_TRUE(told);
}

}  // namespace
}  // namespace dvs
