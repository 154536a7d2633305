// An etcd of three members, of which one may be lost at any time.
#include <gtest/gtest.h>

#include "base/clock.h"
#include "directory/store.h"
#include "directory/test_await.h"
#include "support/etcd_fixture.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;

constexpr int64_t kPatienceNs = 30'000'000'000;

class EtcdMembersTest : public testing::Test {
 protected:
  void SetUp() override {
    auto members = EtcdFixture::create_members(3);
    ASSERT_TRUE(members.ok()) << members.error().message();
    members_ = std::move(*members);
    EtcdOptions options;
    for (const auto& member : members_) options.endpoints.push_back(member->url());
    auto store = open_etcd(executor_, options);
    ASSERT_TRUE(store.ok()) << store.error().message();
    store_ = std::move(*store);
  }

  Result<TxnResult> txn(std::vector<Compare> compares, std::vector<Change> changes) {
    return await<TxnResult>(executor_, [&](Done<TxnResult> done) {
      store_->txn(std::move(compares), std::move(changes), std::move(done));
    });
  }
  // None: it could not be read.
  std::optional<std::string> value(const std::string& key) {
    const auto result = await<RangeResult>(
        executor_, [&](Done<RangeResult> done) { store_->range(key, std::move(done)); });
    if (!result.ok()) return std::nullopt;
    return result->items.empty() ? "" : result->items[0].value;
  }
  // As everything in DVS is decided: by a comparison, and when it is not known whether that was
  // carried out, by reading it.
  void change(const std::string& from, const std::string& to) {
    const int64_t deadline = monotonic_ns() + kPatienceNs;
    while (monotonic_ns() < deadline) {
      const auto result = txn({Compare::value_is("k", from)}, {Change::put("k", to)});
      if (result.ok() && result->applied) return;
      const auto now = value("k");
      if (now == to) return;
      ASSERT_TRUE(!now.has_value() || now == from) << *now;
    }
    FAIL() << "nothing was decided in time";
  }

  Executor executor_;
  std::vector<std::unique_ptr<EtcdFixture>> members_;
  std::unique_ptr<Store> store_;
};

TEST_F(EtcdMembersTest, TheLossOfOneChangesNothing) {
  ASSERT_TRUE(txn({}, {Change::put("k", "0")}).ok());
  const auto lease =
      await<int64_t>(executor_, [&](Done<int64_t> done) { store_->grant_lease(60s, done); });
  ASSERT_TRUE(lease.ok());
  std::vector<std::string> seen;
  const auto watch = store_->watch(
      "k", 0,
      [&](int64_t, const std::vector<WatchEvent>& events) {
        for (const WatchEvent& event : events) seen.push_back(event.kv.value);
      },
      [](const Error& error) { ADD_FAILURE() << error.message(); });
  int number = 0;
  for (const auto& member : members_) {  // one of them leads the others
    for (int i = 0; i < 10; ++i, ++number) {
      if (i == 5) member->kill();
      change(std::to_string(number), std::to_string(number + 1));
    }
    ASSERT_TRUE(member->start().ok());
  }
  EXPECT_EQ(value("k"), std::to_string(number));
  const auto alive = await<std::chrono::seconds>(
      executor_, [&](Done<std::chrono::seconds> done) { store_->keep_alive(*lease, done); });
  EXPECT_TRUE(alive.ok()) << alive.error().message();
  const int64_t deadline = monotonic_ns() + kPatienceNs;
  while (seen.size() <= static_cast<size_t>(number) && monotonic_ns() < deadline) {
    executor_.restart();
    executor_.run_one_for(10ms);
  }
  ASSERT_EQ(seen.size(), static_cast<size_t>(number) + 1);
  for (int i = 0; i <= number; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], std::to_string(i));
}

TEST_F(EtcdMembersTest, OneAloneDecidesNothingUntilThereAreTwoAgain) {
  ASSERT_TRUE(txn({}, {Change::put("k", "0")}).ok());
  members_[0]->kill();
  members_[1]->kill();
  const auto result = txn({Compare::value_is("k", "0")}, {Change::put("k", "1")});
  ASSERT_FALSE(result.ok());
  EXPECT_TRUE(result.error().code() == Code::kUnavailable ||
              result.error().code() == Code::kTimeout)
      << result.error().message();
  ASSERT_TRUE(members_[1]->start().ok());
  change("0", "1");
  EXPECT_EQ(value("k"), "1");
}

}  // namespace
}  // namespace dvs
