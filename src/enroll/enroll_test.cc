// New nodes get certificates by one-time tokens, and nobody else does.
#include "enroll/enroll.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <thread>

#include "base/file.h"
#include "tls/authority.h"

namespace dvs::enroll {
namespace {

using namespace std::chrono_literals;

std::string why(const Status& status) {
  return status.ok()
             ? ""
             : std::string(code_name(status.error().code())) + ": " + status.error().message();
}

// An authority and its server, as `dvs cluster serve`.
class Server {
 public:
  explicit Server(const std::string& directory) : work_(boost::asio::make_work_guard(executor_)) {
    auto identity = tls::Identity::of_authority(directory);
    EXPECT_TRUE(identity.ok());
    HttpsOptions options{"127.0.0.1", 0, *identity, nullptr};
    auto opened = open_https_server(executor_, options);
    EXPECT_TRUE(opened.ok()) << opened.error().message();
    server_ = std::move(*opened);
    add_routes(*server_, directory, [this](const std::string&) { ++requests_; });
    thread_ = std::thread([this] { executor_.run(); });
  }
  ~Server() {
    std::promise<void> closed;
    boost::asio::post(executor_, [&] {
      server_.reset();
      closed.set_value();
    });
    closed.get_future().wait();
    work_.reset();
    thread_.join();
  }
  HttpsTarget target() const {
    HttpsTarget target;
    target.host = "127.0.0.1";
    target.port = server_->port();
    return target;
  }

  int requests() const { return requests_; }  // that asked for a certificate

 private:
  std::atomic<int> requests_ = 0;
  Executor executor_;
  boost::asio::executor_work_guard<Executor::executor_type> work_;
  std::unique_ptr<HttpServer> server_;
  std::thread thread_;
};

class EnrollTest : public ::testing::Test {
 protected:
  EnrollTest() {
    char name[] = "/tmp/dvs-enroll-test-XXXXXX";
    dir_ = ::mkdtemp(name);
    make("ours");
    make("other");
    server_ = std::make_unique<Server>(dir_ + "/ours");
  }
  ~EnrollTest() override {
    server_.reset();
    std::filesystem::remove_all(dir_);
  }
  void make(const std::string& name) {
    EXPECT_EQ(why(tls::make_authority(dir_ + "/" + name, name)), "");
  }
  Token token(const std::string& node, std::chrono::seconds valid = 1h,
              const std::string& authority = "ours") {
    auto made = make_token(dir_ + "/" + authority, node, valid);
    EXPECT_TRUE(made.ok());
    return *made;
  }
  std::string join(const Token& token, const std::string& to = "node") {
    return why(enroll::join(server_->target(), token, dir_ + "/" + to));
  }
  std::string renew(const std::string& node = "n1") {
    return why(enroll::renew(server_->target(), node, dir_ + "/node"));
  }
  // Of what join() left.
  std::string load(const std::string& node, const std::string& from = "node") {
    const std::string base = dir_ + "/" + from + "/";
    auto loaded = tls::Identity::load(
        {base + "ca.pem", base + node + ".pem", base + node + ".key", base + "crl.pem"}, node);
    return loaded.ok() ? "" : loaded.error().message();
  }
  std::string text(const std::string& path) {
    const auto content = read_file(dir_ + "/" + path);
    return content.ok() ? *content : "";
  }
  bool exists(const std::string& path) { return std::filesystem::exists(dir_ + "/" + path); }

  std::string dir_;
  std::unique_ptr<Server> server_;
};

TEST_F(EnrollTest, ATokenBuysOneCertificateWhoseKeyTheAuthorityNeverSaw) {
  const Token ours = token("n1");
  EXPECT_EQ(join(ours), "");
  EXPECT_EQ(load("n1"), "");
  EXPECT_EQ(std::filesystem::status(dir_ + "/node/n1.key").permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  const std::string key = text("node/n1.key");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(dir_ + "/ours")) {
    if (!entry.is_regular_file()) continue;
    const std::string kept = *read_file(entry.path().string());
    EXPECT_EQ(kept.find(key), std::string::npos) << entry.path();
    EXPECT_EQ(kept.find(ours.secret), std::string::npos) << entry.path() << " has the secret";
  }
  EXPECT_NE(join(ours, "again").find("denied: the token is not known"), std::string::npos);
  EXPECT_FALSE(exists("again/n1.key")) << "in the way of the next attempt";
}

TEST_F(EnrollTest, ATokenIsForItsNodeAndItsTimeOnly) {
  Token stolen = token("n1");
  stolen.node = "n2";
  EXPECT_NE(join(stolen).find("for another node"), std::string::npos);
  EXPECT_NE(join(token("n1", 0s)).find("has expired"), std::string::npos);
  Token guess = token("n1");
  guess.secret = std::string(64, '0');
  EXPECT_NE(join(guess).find("not known"), std::string::npos);
  guess.secret = "../../ca.key";
  EXPECT_NE(join(guess).find("not known"), std::string::npos);
  EXPECT_FALSE(exists("node/n1.pem"));
}

TEST_F(EnrollTest, OfTwoAtATimeOneGetsIt) {
  const Token ours = token("n1");
  auto other = std::async(std::launch::async, [&] { return join(ours, "a"); });
  const std::string mine = join(ours, "b");
  EXPECT_NE(mine.empty(), other.get().empty());
}

TEST_F(EnrollTest, ATokenIsShownToItsAuthorityOnly) {
  // As one who stands in between: a server of another authority, and a node of ours.
  const Server false_authority(dir_ + "/other");
  const Token ours = token("n1");
  const Status tricked = enroll::join(false_authority.target(), ours, dir_ + "/node");
  EXPECT_EQ(tricked.error().code(), Code::kDenied) << why(tricked);
  EXPECT_EQ(false_authority.requests(), 0);
  EXPECT_EQ(join(ours), "") << "nobody has seen it: it is good still";

  const std::string base = dir_ + "/node/";
  auto node = tls::Identity::load({base + "ca.pem", base + "n1.pem", base + "n1.key", ""}, "n1");
  ASSERT_TRUE(node.ok());
  Executor executor;
  auto posing = open_https_server(executor, {"127.0.0.1", 0, *node, nullptr});
  ASSERT_TRUE(posing.ok());
  bool asked = false;
  (*posing)->add(
      "GET", "/v1/revoked",
      [&](const HttpRequest&, const std::shared_ptr<Responder>& reply) {
        asked = true;
        reply->reply({{"revoked", text("ours/crl.pem")}});
      },
      Role::kAnybody);
  std::thread loop([&] { executor.run_for(10s); });
  HttpsTarget target;
  target.host = "127.0.0.1";
  target.port = (*posing)->port();
  target.trust.authority = base + "ca.pem";
  const Status fetched = fetch_revoked(target, dir_ + "/node");
  EXPECT_EQ(fetched.error().code(), Code::kDenied) << why(fetched);
  executor.stop();
  loop.join();
  EXPECT_FALSE(asked);
}

TEST_F(EnrollTest, ACertificateIsRenewedByItsKey) {
  ASSERT_EQ(join(token("n1")), "");
  const std::string before = text("node/n1.pem"), key = text("node/n1.key");
  EXPECT_EQ(renew(), "");
  EXPECT_NE(text("node/n1.pem"), before);
  EXPECT_EQ(text("node/n1.key"), key);
  EXPECT_EQ(load("n1"), "");

  // With the certificate, which is no secret, and another key.
  ASSERT_EQ(join(token("n2")), "");
  std::filesystem::copy_file(dir_ + "/node/n2.key", dir_ + "/node/n1.key",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(renew().find("not for the certificate's key"), std::string::npos);
}

TEST_F(EnrollTest, WhatIsRevokedOrExpiredOrAUsersIsNotRenewed) {
  ASSERT_EQ(join(token("n1")), "");
  ASSERT_EQ(renew(), "");
  const Token unused = token("n1");
  EXPECT_EQ(tls::revoke(dir_ + "/ours", "n1").value(), 2) << "the first one and the renewed";
  EXPECT_EQ(why(forget_tokens(dir_ + "/ours", "n1")), "");
  EXPECT_NE(renew().find("was revoked"), std::string::npos);
  EXPECT_NE(join(unused, "again").find("not known"), std::string::npos);
  EXPECT_EQ(join(token("n1"), "again"), "") << "a new token is another matter";
  EXPECT_EQ(tls::revoke(dir_ + "/ours", "n7").error().code(), Code::kNotFound);

  ASSERT_TRUE(tls::certify(dir_ + "/ours", "n3", dir_ + "/node", -1).ok());
  EXPECT_NE(renew("n3").find("has expired"), std::string::npos);
  ASSERT_TRUE(tls::certify(dir_ + "/ours", {{"alice", "operate"}}, dir_ + "/node").ok());
  EXPECT_NE(renew("alice").find("not renewed"), std::string::npos);
  ASSERT_TRUE(tls::certify(dir_ + "/other", "n4", dir_ + "/strange").ok());
  for (const char* file : {"n4.key", "n4.pem"}) {
    std::filesystem::rename(dir_ + "/strange/" + file, dir_ + "/node/" + file);
  }
  EXPECT_NE(renew("n4").find("not of this authority"), std::string::npos);
}

TEST_F(EnrollTest, AListOfAnotherAuthorityIsNotTaken) {
  ASSERT_EQ(join(token("n1")), "");
  std::filesystem::copy_file(dir_ + "/other/crl.pem", dir_ + "/node/crl.pem",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_NE(load("n1").find("is not signed by the authority"), std::string::npos) << load("n1");
  std::filesystem::copy_file(dir_ + "/other/crl.pem", dir_ + "/ours/crl.pem",
                             std::filesystem::copy_options::overwrite_existing);
  const Status fetched = fetch_revoked(server_->target(), dir_ + "/node");
  EXPECT_EQ(fetched.error().code(), Code::kDenied) << why(fetched);
}

TEST_F(EnrollTest, NonsenseIsRefused) {
  for (const Json& body :
       {Json::object(), Json{{"node", 1}, {"secret", "x"}, {"request", "y"}},
        Json{{"node", "n1"}, {"secret", token("n1").secret}, {"request", "no PEM"}},
        Json{{"certificate", "x"}, {"request", "y"}}}) {
    for (const char* path : {"/v1/enroll", "/v1/renew"}) {
      HttpsTarget to = server_->target();
      to.trust.fingerprint = *tls::authority_fingerprint(dir_ + "/ours");
      to.trust.unit = tls::kAuthorityUnit;
      auto answer = http_exchange({{}, "POST", path, body, {}, 10s, to});
      ASSERT_TRUE(answer.ok()) << answer.error().message();
      EXPECT_GE(answer->status, 400) << body;
      EXPECT_LT(answer->status, 500) << body;
    }
  }
}

TEST(Tokens, ReadWhatTheyPrint) {
  const Token token{"n-1", std::string(64, 'a'), std::string(64, '0')};
  const auto read = parse_token(to_text(token));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(to_text(*read), to_text(token));
  for (std::string text : {"", "dvs1", "dvs1.", "dvs1...", "dvs1.n1.a.b"}) {
    EXPECT_EQ(parse_token(text).error().code(), Code::kInvalid) << text;
  }
  EXPECT_FALSE(parse_token(to_text({"../x", token.fingerprint, token.secret})).ok());
  EXPECT_FALSE(parse_token(to_text(token) + "0").ok());
}

}  // namespace
}  // namespace dvs::enroll
