// Watches against a real etcd.
#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "directory/etcd_test_base.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;

struct Batch {
  int64_t revision;
  std::vector<WatchEvent> events;
};

class EtcdWatchTest : public EtcdTest {
 protected:
  void watch(const std::string& prefix, int64_t revision) {
    watch_ = store_->watch(
        prefix, revision,
        [this](int64_t at, std::vector<WatchEvent> events) {
          batches_.push_back({at, std::move(events)});
        },
        [this](Error error) { lost_ = std::move(error); });
  }
  bool wait_for_batches(size_t count) {
    return run_until(executor_, [&] { return batches_.size() >= count || lost_; }) && !lost_;
  }
  // The keys of a batch, deleted ones with a '-' before them.
  std::vector<std::string> names(size_t batch) {
    std::vector<std::string> result;
    for (const WatchEvent& event : batches_.at(batch).events) {
      result.push_back((event.what == WatchEvent::What::kDelete ? "-" : "") + event.kv.key);
    }
    return result;
  }

  std::unique_ptr<Store::Watch> watch_;
  std::vector<Batch> batches_;
  std::optional<Error> lost_;
};

using Names = std::vector<std::string>;

TEST_F(EtcdWatchTest, BatchHoldsAllEventsOfOneRevisionAndNoOthers) {
  const int64_t before = put("a/0", "old");
  const auto both =
      txn({}, {Change::put("a/1", "x"), Change::put("b", "y"), Change::put("a/2", "z")});
  watch("a/", before);  // past and future changes come alike
  ASSERT_TRUE(both.ok());
  put("b", "not watched");
  ASSERT_TRUE(wait_for_batches(1));
  const auto mixed =
      txn({}, {Change::remove("a/1"), Change::put("a/2", "zz"), Change::remove("b")});
  ASSERT_TRUE(mixed.ok());
  ASSERT_TRUE(txn({}, {Change::remove_prefix("a/")}).ok());
  ASSERT_TRUE(wait_for_batches(3));

  EXPECT_EQ(names(0), (Names{"a/1", "a/2"}));
  EXPECT_EQ(batches_[0].revision, both->revision);
  EXPECT_EQ(batches_[0].events[1].kv.value, "z");
  EXPECT_EQ(batches_[0].events[1].kv.create_revision, both->revision);
  EXPECT_EQ(names(1), (Names{"-a/1", "a/2"}));
  EXPECT_EQ(batches_[1].revision, mixed->revision);
  EXPECT_EQ(batches_[1].events[1].kv.create_revision, both->revision);
  EXPECT_EQ(names(2), (Names{"-a/0", "-a/2"}));
}

// Far more history than etcd puts into one answer.
TEST_F(EtcdWatchTest, LongHistoryComesCompleteAndInOrder) {
  constexpr int kChanges = 2500;
  int answered = 0;
  for (int i = 0; i < kChanges; ++i) {
    store_->txn({}, {Change::put("k/a", "x"), Change::put("k/b", "x")},
                [&](const auto& result) { answered += result.ok(); });
    if (i % 50 < 49) continue;
    ASSERT_TRUE(run_until(executor_, [&] { return answered == i + 1; }));
  }
  watch("k/", 0);
  ASSERT_TRUE(wait_for_batches(kChanges));
  for (int i = 0; i < kChanges; ++i) {
    ASSERT_EQ(batches_[i].revision, batches_[0].revision + i);
    ASSERT_EQ(names(i), (Names{"k/a", "k/b"}));
  }
}

TEST_F(EtcdWatchTest, SurvivesRestartsWithoutGapOrDuplicate) {
  std::vector<int64_t> expected;
  watch("k", 0);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 5; ++i) expected.push_back(put("k" + std::to_string(i), "v"));
    // Sometimes before, sometimes after the watch has heard of it.
    if (round == 1) {
      ASSERT_TRUE(wait_for_batches(expected.size()));
    }
    etcd_->kill();
    restart();
    expected.push_back(put("k", "after the restart"));
  }
  ASSERT_TRUE(wait_for_batches(expected.size()));
  std::vector<int64_t> seen;
  for (const Batch& batch : batches_) seen.push_back(batch.revision);
  EXPECT_EQ(seen, expected);
}

TEST_F(EtcdWatchTest, BegunWhileEtcdIsDownItStartsLater) {
  const int64_t revision = put("k", "v");
  etcd_->kill();
  watch("k", revision - 1);
  EXPECT_FALSE(run_until(
      executor_, [&] { return !batches_.empty() || lost_; }, 250ms));
  restart();
  ASSERT_TRUE(wait_for_batches(1));
  EXPECT_EQ(batches_[0].revision, revision);
}

TEST_F(EtcdWatchTest, SeesKeysVanishWithTheirLease) {
  const int64_t lease = grant(1s);
  const auto put_both = txn({}, {Change::put("n/1", "x", lease), Change::put("n/2", "x", lease)});
  ASSERT_TRUE(put_both.ok());
  watch("n/", put_both->revision);
  ASSERT_TRUE(wait_for_batches(1));
  EXPECT_EQ(names(0), (Names{"-n/1", "-n/2"}));
  EXPECT_TRUE(keys("n/").empty());
  EXPECT_EQ(keep_alive(lease).error().code(), Code::kNotFound);
}

TEST_F(EtcdWatchTest, IsLostWhenItsRevisionsAreCompacted) {
  const int64_t first = put("k", "1");
  put("k", "2");
  const int64_t last = put("k", "3");
  etcd_->compact(last);
  watch("k", first);
  ASSERT_TRUE(run_until(executor_, [&] { return lost_.has_value(); }));
  EXPECT_EQ(lost_->code(), Code::kNotFound);
  EXPECT_TRUE(batches_.empty());

  lost_.reset();
  watch("k", last);  // reading everything again and watching anew helps
  put("k", "4");
  EXPECT_TRUE(wait_for_batches(1));
}

TEST_F(EtcdWatchTest, IsSilentAfterItWasDestroyed) {
  watch("k", 0);
  put("k", "1");
  ASSERT_TRUE(wait_for_batches(1));
  watch_.reset();
  put("k", "2");
  EXPECT_FALSE(run_until(
      executor_, [&] { return batches_.size() > 1; }, 100ms));
}

}  // namespace
}  // namespace dvs
