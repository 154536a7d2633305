// A real etcd inside TLS that knows its clients by their certificates.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "directory/store.h"
#include "directory/test_await.h"
#include "support/etcd_fixture.h"
#include "tls/authority.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;

class EtcdTlsTest : public testing::Test {
 protected:
  EtcdTlsTest() {
    char name[] = "/tmp/dvs-etcd-tls-XXXXXX";
    dir_ = ::mkdtemp(name);
    make("ours");
  }
  ~EtcdTlsTest() override {
    etcd_.reset();
    std::filesystem::remove_all(dir_);
  }
  // An authority, with certificates of etcd, at that address, and of a node.
  void make(const std::string& name, const std::string& address = "127.0.0.1") {
    const std::string authority = dir_ + "/" + name;
    EXPECT_TRUE(tls::make_authority(authority, name).ok());
    EXPECT_TRUE(tls::certify(authority, {{"etcd", "node"}, 1, {address}}, authority).ok());
    EXPECT_TRUE(tls::certify(authority, "n1", authority).ok());
  }
  tls::Files files(const std::string& authority, const std::string& whose) {
    const std::string base = dir_ + "/" + authority + "/";
    return {base + "ca.pem", base + whose + ".pem", base + whose + ".key"};
  }
  void start(const std::string& authority) {
    const auto etcds = files(authority, "etcd");
    auto etcd = EtcdFixture::create({etcds.authority, etcds.certificate, etcds.key});
    ASSERT_TRUE(etcd.ok()) << etcd.error().message();
    etcd_ = std::move(*etcd);
  }
  std::unique_ptr<Store> open(const tls::Files& tls) {
    auto store = open_etcd(executor_, {{etcd_->url()}, 5s, tls});
    EXPECT_TRUE(store.ok()) << store.error().message();
    return std::move(*store);
  }
  Result<TxnResult> put(Store& store, const std::string& key) {
    return await<TxnResult>(
        executor_, [&](auto done) { store.txn({}, {Change::put(key, "v")}, std::move(done)); });
  }

  Executor executor_;
  std::string dir_;
  std::unique_ptr<EtcdFixture> etcd_;
};

TEST_F(EtcdTlsTest, RequestsAndWatchesGoThrough) {
  start("ours");
  const auto store = open(files("ours", "n1"));
  std::vector<std::string> seen;
  const auto watch = store->watch(
      "/k/", 0,
      [&](int64_t, const std::vector<WatchEvent>& events) {
        for (const auto& event : events) seen.push_back(event.kv.key);
      },
      [](const Error& error) { FAIL() << error.message(); });
  ASSERT_TRUE(put(*store, "/k/1").ok());
  ASSERT_TRUE(put(*store, "/k/2").ok());
  ASSERT_TRUE(run_until(executor_, [&] { return seen.size() == 2; }));
  EXPECT_EQ(seen, (std::vector<std::string>{"/k/1", "/k/2"}));

  // Both find etcd again after it was away.
  etcd_->kill();
  ASSERT_TRUE(etcd_->start().ok());
  ASSERT_TRUE(put(*store, "/k/3").ok());
  ASSERT_TRUE(run_until(executor_, [&] { return seen.size() == 3; }));
}

TEST_F(EtcdTlsTest, WithoutACertificateOfItsAuthorityEtcdDoesNotListen) {
  start("ours");
  make("other");
  for (tls::Files mine : {files("other", "n1"), tls::Files()}) {
    mine.authority = dir_ + "/ours/ca.pem";
    const auto store = open(mine);
    const auto result = put(*store, "k");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code(), Code::kUnavailable) << result.error().message();
  }
}

TEST_F(EtcdTlsTest, AnotherServerIsNotBelieved) {
  make("other");
  make("elsewhere", "10.0.0.9");
  start("other");
  tls::Files mine = files("ours", "n1");
  auto store = open(mine);
  auto result = put(*store, "k");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("certificate verify failed"), std::string::npos)
      << result.error().message();

  // A certificate of the right authority, for another address.
  start("elsewhere");
  store = open(files("elsewhere", "n1"));
  result = put(*store, "k");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("certificate verify failed"), std::string::npos)
      << result.error().message();
}

TEST_F(EtcdTlsTest, FilesThatAreNoneAreNamed) {
  tls::Files wrong = files("ours", "n1");
  wrong.key = dir_ + "/nothing";
  EXPECT_EQ(open_etcd(executor_, {{"https://127.0.0.1:1"}, 5s, wrong}).error().code(),
            Code::kInvalid);
  EXPECT_EQ(open_etcd(executor_, {{"http://127.0.0.1:1"}, 5s, files("ours", "n1")}).error().code(),
            Code::kInvalid)
      << "certificates, and then in the clear";
}

}  // namespace
}  // namespace dvs
