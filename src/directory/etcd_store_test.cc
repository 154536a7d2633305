// Requests against a real etcd.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "base/clock.h"
#include "directory/etcd_test_base.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;
using EtcdStoreTest = EtcdTest;

TEST_F(EtcdStoreTest, TransactionIsAppliedOnlyIfAllComparesHold) {
  const int64_t first = put("k", "one");
  const auto applied = [&](std::vector<Compare> compares, const char* value) {
    const auto result = txn(std::move(compares), {Change::put("k", value)});
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() && result->applied;
  };
  EXPECT_FALSE(applied({Compare::absent("k")}, "wrong"));
  EXPECT_FALSE(applied({Compare::exists_at("k", first + 1)}, "wrong"));
  EXPECT_FALSE(applied({Compare::value_is("k", "on")}, "wrong"));
  EXPECT_FALSE(applied({Compare::value_is("other", "one")}, "wrong"));
  EXPECT_FALSE(applied({Compare::absent("other"), Compare::absent("k")}, "wrong"));
  EXPECT_EQ(value("k"), "one");

  EXPECT_TRUE(applied({Compare::absent("other"), Compare::exists_at("k", first)}, "two"));
  EXPECT_EQ(value("k"), "two");
  EXPECT_FALSE(applied({Compare::exists_at("k", first)}, "wrong"));
  EXPECT_TRUE(applied({Compare::value_is("k", "two")}, "three"));
  EXPECT_TRUE(applied({Compare{"k", Compare::What::kCreateRevision, first, {}}}, "four"));
  EXPECT_TRUE(applied({}, "five"));
  EXPECT_EQ(value("k"), "five");
}

TEST_F(EtcdStoreTest, TransactionIsRefusedWhenAKeyBelowAPrefixCameOrChanged) {
  const auto applied = [&](const char* prefix, int64_t revision) {
    const auto result = txn({Compare::unchanged_below(prefix, revision)}, {});
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() && result->applied;
  };
  const int64_t first = put("e/1", "v");
  EXPECT_TRUE(applied("e/", first));
  EXPECT_FALSE(applied("e/", first - 1));
  put("e0", "a neighbour");
  EXPECT_TRUE(applied("e/", first));
  const int64_t second = put("e/2", "v");
  EXPECT_FALSE(applied("e/", first)) << "a key came";
  EXPECT_TRUE(applied("e/", second));
  put("e/1", "w");
  EXPECT_FALSE(applied("e/", second)) << "a key changed";
  EXPECT_TRUE(applied("f/", 1)) << "nothing is there";
}

TEST_F(EtcdStoreTest, RefusedTransactionChangesNothingAndTellsTheRevision) {
  const int64_t revision = put("k", "v");
  const auto refused = txn({Compare::absent("k")}, {Change::put("a", "x"), Change::remove("k")});
  ASSERT_TRUE(refused.ok()) << refused.error().message();
  EXPECT_FALSE(refused->applied);
  EXPECT_EQ(refused->revision, revision);
  EXPECT_EQ(keys(""), std::vector<std::string>{"k"});
}

TEST_F(EtcdStoreTest, DeletePrefixLeavesTheNeighbours) {
  for (const char* key : {"a", "a.", "a/", "a/1", "a/2/x", "a0", "b"}) put(key, "v");
  ASSERT_TRUE(txn({}, {Change::remove_prefix("a/"), Change::put("new", "v")}).ok());
  EXPECT_EQ(keys(""), (std::vector<std::string>{"a", "a.", "a0", "b", "new"}));
  ASSERT_TRUE(txn({}, {Change::remove("a")}).ok());
  EXPECT_EQ(keys("a"), (std::vector<std::string>{"a.", "a0"}));
  ASSERT_TRUE(txn({}, {Change::remove_prefix("")}).ok());
  EXPECT_TRUE(keys("").empty());
}

TEST_F(EtcdStoreTest, RangeIsInKeyOrderAndBinarySafe) {
  std::string every_byte;
  for (int i = 255; i >= 0; --i) every_byte += static_cast<char>(i);
  const std::vector<std::string> names = {std::string("p/\0", 3), "p/1", "p/10", "p/2",
                                          "p/\xff\xff"};
  for (auto name = names.rbegin(); name != names.rend(); ++name) put(*name, every_byte + *name);
  const int64_t last = put("q", "");

  const auto range = this->range("p/");
  ASSERT_TRUE(range.ok()) << range.error().message();
  EXPECT_EQ(range->revision, last);
  ASSERT_EQ(range->items.size(), names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(range->items[i].key, names[i]);
    EXPECT_EQ(range->items[i].value, every_byte + names[i]);
    EXPECT_EQ(range->items[i].mod_revision, last - 1 - static_cast<int64_t>(i));
    EXPECT_EQ(range->items[i].create_revision, range->items[i].mod_revision);
  }
  EXPECT_EQ(value("q"), "");
}

TEST_F(EtcdStoreTest, RangeOfManyMegabytesPasses) {
  const std::string big(1 << 20, 'x');
  for (int i = 0; i < 7; ++i) put("big/" + std::to_string(i), big);
  const auto range = this->range("big/");
  ASSERT_TRUE(range.ok()) << range.error().message();
  ASSERT_EQ(range->items.size(), 7u);
  EXPECT_EQ(range->items[6].value, big);
}

TEST_F(EtcdStoreTest, ImpossibleTransactionIsInvalid) {
  EXPECT_EQ(txn({}, {Change::put("k", "a"), Change::put("k", "b")}).error().code(), Code::kInvalid);
  EXPECT_TRUE(keys("").empty());
}

TEST_F(EtcdStoreTest, LeaseKeepsItsKeysAsLongAsItIsRefreshed) {
  const int64_t lease = grant(60s);
  ASSERT_TRUE(txn({}, {Change::put("k", "v", lease)}).ok());
  const auto items = range("k");
  ASSERT_TRUE(items.ok());
  EXPECT_EQ(items->items.at(0).lease, lease);
  const auto kept = keep_alive(lease);
  ASSERT_TRUE(kept.ok()) << kept.error().message();
  EXPECT_EQ(*kept, 60s);

  EXPECT_EQ(revoke(lease), true);
  EXPECT_TRUE(keys("").empty());
  EXPECT_EQ(revoke(lease), false);
  EXPECT_EQ(keep_alive(lease).error().code(), Code::kNotFound);
  EXPECT_EQ(txn({}, {Change::put("k", "v", lease)}).error().code(), Code::kNotFound);
}

TEST_F(EtcdStoreTest, RequestsFailInTimeWhileEtcdIsDownAndWorkAfterwards) {
  put("k", "v");
  etcd_->kill();
  const int64_t begin = monotonic_ns();
  EXPECT_EQ(txn({}, {Change::put("k", "w")}).error().code(), Code::kUnavailable);
  EXPECT_EQ(range("k").error().code(), Code::kUnavailable);
  EXPECT_EQ(keep_alive(7).error().code(), Code::kUnavailable);
  EXPECT_LT(monotonic_ns() - begin, 3'000'000'000);
  restart();
  EXPECT_EQ(value("k"), "v");
  put("k", "w");
  EXPECT_EQ(value("k"), "w");
}

// The connections of before the restart are dead, and no transaction finds that out the hard way.
TEST_F(EtcdStoreTest, RestartBetweenTransactionsFailsNone) {
  put("k", "v");
  etcd_->kill();
  restart();
  EXPECT_TRUE(txn({}, {Change::put("k", "w")}).ok());
}

TEST_F(EtcdStoreTest, HangingEtcdTimesOutAndWorksAfterwards) {
  put("k", "v");
  auto impatient = open_etcd(executor_, {{etcd_->url()}, 1s});
  ASSERT_TRUE(impatient.ok());
  store_ = std::move(*impatient);
  put("k", "w");
  etcd_->freeze();
  const auto changed = txn({}, {Change::put("k", "x")});
  const auto read = range("k");
  etcd_->thaw();
  ASSERT_FALSE(changed.ok());
  EXPECT_EQ(changed.error().code(), Code::kTimeout);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code(), Code::kTimeout);
  const auto result = range("k");
  ASSERT_TRUE(result.ok()) << result.error().message();
}

TEST_F(EtcdStoreTest, ManyRequestsAtOnceAllGetTheirOwnAnswer) {
  int answered = 0;
  for (int i = 0; i < 200; ++i) {
    const std::string key = "k" + std::to_string(i);
    store_->txn({Compare::absent(key)}, {Change::put(key, key)}, [&](Result<TxnResult> result) {
      EXPECT_TRUE(result.ok() && result->applied);
      ++answered;
    });
  }
  ASSERT_TRUE(run_until(executor_, [&] { return answered == 200; }));
  EXPECT_EQ(keys("k").size(), 200u);
}

// One transaction decides a migration. 20 ms is far above what it takes and below what a delayed
// acknowledgement or a new connection with a look-up would add.
TEST_F(EtcdStoreTest, TransactionIsQuick) {
  std::vector<int64_t> times;
  for (int i = 0; i < 300; ++i) {
    const int64_t begin = monotonic_ns();
    ASSERT_TRUE(txn({Compare::absent("other")}, {Change::put("k", "v")}).ok());
    times.push_back(monotonic_ns() - begin);
  }
  std::sort(times.begin(), times.end());
  const int64_t median_us = times[times.size() / 2] / 1000;
  std::printf("transaction: median %ld us, 90%% below %ld us\n", median_us,
              times[times.size() * 9 / 10] / 1000);
  EXPECT_LT(median_us, 20'000);
}

}  // namespace
}  // namespace dvs
