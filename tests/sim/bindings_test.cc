// What a lost lease takes away comes back, to whom it belongs, and to nobody else.
#include "binding/bindings.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "event_queue.h"
#include "model_store.h"

namespace dvs::sim {
namespace {

using std::chrono_literals::operator""s;

constexpr int kEndpoint = 10;
constexpr int kTid = 1010;
constexpr int64_t kSecond = 1'000'000'000;

class BindingsTest : public testing::Test, protected BindingHost, private Cluster::Listener {
 protected:
  BindingsTest() {
    const std::string path = "/dev/shm/dvs-bindings-" + std::to_string(::getpid());
    dvk::RegionSpec spec;
    spec.slots = 128;
    spec.local_node = node_;
    region_ = std::move(*dvk::Region::create(path, spec));
    ::unlink(path.c_str());
    slot_ = region_.slot_of(kEndpoint);
    cluster_.load([this](Result<bool> loaded) {
      ASSERT_TRUE(loaded.ok());
      cluster_.follow(*this);
    });
    settle();
  }

  // Whatever is to be done within so long is done.
  void settle(int64_t ns = 5 * kSecond) {
    bool over = false;
    events_.after(ns, kForever, [&over] { over = true; });
    while (!over) events_.step();
  }
  EndpointRecord record() const {
    EndpointRecord record;
    record.slot = slot_;
    record.node = node_;
    record.pid = record.tid = kTid;
    record.task = "t";
    record.name = "server";
    return record;
  }
  void bind() {
    bindings_.bind(record(), [](Result<int> bound) { ASSERT_TRUE(bound.ok()); });
    settle();
    ASSERT_TRUE(is_bound());
  }
  // As when the node was cut off for too long, and has joined again.
  void lose_lease() {
    server_.end_lease(lease_);
    lease_ = server_.grant(1000s);
  }
  bool is_bound() const {
    const bool said = server_.keys().count(cluster_.keys().endpoint("DC0", slot_)) != 0;
    const bool shown = dvk::load_kind(region_.at(slot_)) == dvk::Kind::kLocal;
    EXPECT_EQ(said, shown);
    return said;
  }
  std::string unbind() {
    std::string answer = "none";
    bindings_.unbind(slot_, [&answer](Result<bool> unbound) {
      answer = unbound.ok() ? "ok" : code_name(unbound.error().code());
    });
    settle();
    return answer;
  }

  // ---- BindingHost ----
  std::optional<std::string> task_of_thread(int tid) const override {
    return tid == kTid ? std::optional(task_) : std::nullopt;
  }
  bool has_task(const std::string& task) const override { return task == task_; }
  bool is_migrating(const std::string&) const override { return false; }
  bool may_have_left(const std::string&) const override { return may_have_left_; }
  void watch(const EndpointRecord&, uint64_t) override {}
  void unwatch(uint32_t) override {}
  bool is_retired(uint32_t) const override { return false; }
  void show_elsewhere(uint32_t, const dvk::Identity&) override {}
  void on_gone(uint32_t) override {}
  void on_place_changed(uint32_t) override {}
  std::vector<EndpointRecord> unbound() const override { return unbound_; }
  void keep_unbound(const std::vector<EndpointRecord>& records) override { unbound_ = records; }

  // ---- Cluster::Listener ----
  void on_node(const std::string&) override {}
  void on_dc(const std::string&) override {}
  void on_part(const std::string&, const std::string&) override {}
  void on_endpoint(const std::string&, uint32_t slot) override { bindings_.place(slot); }
  void on_migration(const std::string&, const MigrationRecord*) override {}

  EventQueue events_{1};
  SimScheduler scheduler_{events_, kForever};
  ModelStore server_{events_};
  std::unique_ptr<Store> store_ = server_.connect(0, kForever);
  Cluster cluster_{scheduler_, *store_, "test"};
  dvk::Region region_;
  const NodeId node_ = 0;
  int64_t lease_ = server_.grant(1000s);
  uint32_t slot_ = 0;
  std::string task_ = "t";  // whose the thread is
  bool may_have_left_ = false;
  std::vector<EndpointRecord> unbound_;
  Bindings bindings_{{scheduler_, *store_, cluster_, region_, node_, lease_}, *this, "DC0"};
};

TEST_F(BindingsTest, WhatWentWithTheLeaseIsBoundAgain) {
  bind();
  lose_lease();
  settle();
  EXPECT_TRUE(is_bound());
  EXPECT_TRUE(unbound_.empty());
}

TEST_F(BindingsTest, NotForAProcessThatMayHaveLeftUntilItIsKnownThatItHasNot) {
  bind();
  may_have_left_ = true;
  lose_lease();
  settle();
  EXPECT_FALSE(is_bound());
  may_have_left_ = false;
  settle();
  EXPECT_TRUE(is_bound());
}

TEST_F(BindingsTest, NotForAnotherProcessWhoseThreadHasTheSameNumberNow) {
  bind();
  may_have_left_ = true;
  lose_lease();
  settle();
  task_ = "another";
  may_have_left_ = false;
  settle();
  EXPECT_FALSE(is_bound());
  EXPECT_TRUE(unbound_.empty());
}

TEST_F(BindingsTest, ItCannotBeUnboundBeforeItIsBoundAgain) {
  bind();
  may_have_left_ = true;
  lose_lease();
  settle();
  EXPECT_EQ(unbind(), code_name(Code::kUnavailable));
  may_have_left_ = false;
  settle();
  EXPECT_EQ(unbind(), "ok");
  settle();
  EXPECT_FALSE(is_bound());
}

// It has unbound the endpoint where it was, and is back before this node has tried again.
TEST_F(BindingsTest, NotForAProcessThatHasLeftAndComesBackWithoutIt) {
  bind();
  may_have_left_ = true;
  lose_lease();
  settle(kSecond / 10);
  ASSERT_FALSE(is_bound());
  bindings_.leave("t", {slot_}, 1, 2);
  may_have_left_ = false;
  settle();
  EXPECT_FALSE(is_bound());
  EXPECT_TRUE(unbound_.empty());
}

// The directory did not answer, and had done it: that is found out by the news.
TEST_F(BindingsTest, AnAttemptThatWasNotAnsweredIsOverBeforeItCanBeUnbound) {
  bindings_.bind_until_done(record());
  server_.cut_off(0, true);  // (what is on its way arrives)
  settle(kSecond);
  server_.cut_off(0, false);
  settle();
  ASSERT_TRUE(is_bound());
  EXPECT_EQ(unbind(), "ok");
  settle();
  EXPECT_FALSE(is_bound());
}

TEST_F(BindingsTest, WhatItsProcessUnbindsIsNotTakenForLost) {
  bind();
  EXPECT_EQ(unbind(), "ok");
  EXPECT_FALSE(is_bound());
  EXPECT_TRUE(unbound_.empty());
  bind();
}

TEST_F(BindingsTest, AnEndpointIsOneProcesss) {
  bind();
  Code code = Code::kInternal;
  bindings_.bind(record(), [&code](Result<int> bound) {
    ASSERT_FALSE(bound.ok());
    code = bound.error().code();
  });
  settle();
  EXPECT_EQ(code, Code::kConflict);
}

}  // namespace
}  // namespace dvs::sim
