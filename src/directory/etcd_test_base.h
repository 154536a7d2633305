// A test with a fresh etcd, a Store on it and blocking forms of its calls.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "directory/store.h"
#include "directory/test_await.h"
#include "support/etcd_fixture.h"

namespace dvs {

class EtcdTest : public testing::Test {
 protected:
  void SetUp() override {
    auto etcd = EtcdFixture::create();
    ASSERT_TRUE(etcd.ok()) << etcd.error().message();
    etcd_ = std::move(*etcd);
    auto store = open_etcd(executor_, {{etcd_->url()}, std::chrono::seconds(5)});
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = std::move(*store);
  }

  void restart() {
    const Status started = etcd_->start();
    ASSERT_TRUE(started.ok()) << started.error().message();
  }

  Result<TxnResult> txn(std::vector<Compare> compares, std::vector<Change> changes) {
    return await<TxnResult>(executor_, [&](Done<TxnResult> done) {
      store_->txn(std::move(compares), std::move(changes), std::move(done));
    });
  }
  // The revision of the change; 0 when it failed.
  int64_t put(const std::string& key, const std::string& value, int64_t lease = 0) {
    const auto result = txn({}, {Change::put(key, value, lease)});
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() ? result->revision : 0;
  }
  Result<RangeResult> range(const std::string& prefix) {
    return await<RangeResult>(
        executor_, [&](Done<RangeResult> done) { store_->range(prefix, std::move(done)); });
  }
  std::vector<std::string> keys(const std::string& prefix) {
    const auto result = range(prefix);
    EXPECT_TRUE(result.ok()) << result.error().message();
    std::vector<std::string> names;
    if (result.ok()) {
      for (const KeyValue& kv : result->items) names.push_back(kv.key);
    }
    return names;
  }
  std::string value(const std::string& key) {
    const auto result = range(key);
    EXPECT_TRUE(result.ok()) << result.error().message();
    return result.ok() && !result->items.empty() ? result->items[0].value : "(none)";
  }
  int64_t grant(std::chrono::seconds ttl) {
    const auto lease = await<int64_t>(
        executor_, [&](Done<int64_t> done) { store_->grant_lease(ttl, std::move(done)); });
    EXPECT_TRUE(lease.ok()) << lease.error().message();
    return lease.ok() ? *lease : 0;
  }
  Result<std::chrono::seconds> keep_alive(int64_t lease) {
    return await<std::chrono::seconds>(executor_, [&](Done<std::chrono::seconds> done) {
      store_->keep_alive(lease, std::move(done));
    });
  }
  bool revoke(int64_t lease) {
    const auto revoked = await<bool>(
        executor_, [&](Done<bool> done) { store_->revoke_lease(lease, std::move(done)); });
    EXPECT_TRUE(revoked.ok()) << revoked.error().message();
    return revoked.ok() && *revoked;
  }

  Executor executor_;
  std::unique_ptr<EtcdFixture> etcd_;
  std::unique_ptr<Store> store_;
};

}  // namespace dvs
