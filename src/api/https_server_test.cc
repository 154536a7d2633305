// The API inside TLS: who is heard, and what those can do who are not.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <future>
#include <map>
#include <thread>

#include "api/http_server.h"
#include "base/unique_fd.h"
#include "tls/authority.h"
#include "tls/digest.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;
using Reply = std::shared_ptr<Responder>;

constexpr auto kPatience = 10s;

class HttpsServerTest : public ::testing::Test {
 protected:
  HttpsServerTest() : work_(boost::asio::make_work_guard(executor_)) {
    char name[] = "/tmp/dvs-https-test-XXXXXX";
    dir_ = ::mkdtemp(name);
    EXPECT_TRUE(tls::make_authority(dir_ + "/authority", "test").ok());
    certify("n1", "node");
    auto identity =
        tls::Identity::load({dir_ + "/ca.pem", dir_ + "/n1.pem", dir_ + "/n1.key"}, "n1");
    EXPECT_TRUE(identity.ok());
    options_ = {"127.0.0.1", 0, *identity, nullptr};
  }
  ~HttpsServerTest() override {
    if (thread_.joinable()) {
      std::promise<void> closed;
      boost::asio::post(executor_, [&] {
        server_.reset();
        closed.set_value();
      });
      closed.get_future().wait();
    }
    work_.reset();
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(dir_);
  }

  void certify(const std::string& name, const std::string& unit) {
    EXPECT_TRUE(tls::certify(dir_ + "/authority", {{name, unit}}, dir_).ok());
  }
  // With a route for each role: it says who asks.
  void start() {
    auto opened = open_https_server(executor_, options_);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    server_ = std::move(*opened);
    for (const Role role : {Role::kAnybody, Role::kView, Role::kOperate, Role::kAdmin}) {
      server_->add(
          "GET", "/" + std::string(name_of(role)),
          [](const HttpRequest& request, const Reply& reply) {
            reply->reply({{"caller", request.caller.name}});
          },
          role);
    }
    server_->add("GET", "/unsaid",
                 [](const HttpRequest&, const Reply& reply) { reply->reply(Json::object()); });
    thread_ = std::thread([this] { executor_.run(); });
  }
  // The status; 0: it did not come to that.
  int ask(const std::string& path, const std::string& user = {}, const std::string& token = {}) {
    HttpsTarget to{"127.0.0.1", server_->port(), {}, token};
    to.trust = {dir_ + "/ca.pem", "", "node", "", ""};
    if (!user.empty()) {
      to.trust.certificate = dir_ + "/" + user + ".pem";
      to.trust.key = dir_ + "/" + user + ".key";
    }
    const auto answer = http_exchange({{}, "GET", path, nullptr, {}, kPatience, to});
    if (!answer.ok()) return 0;
    caller_ = answer->body.value("caller", "");
    return answer->status;
  }
  UniqueFd connect() {
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(server_->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const timeval limit{.tv_sec = kPatience.count(), .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
  }
  static bool is_closed(const UniqueFd& fd) {
    char bytes[4096];
    ssize_t count = 0;
    while ((count = ::recv(fd.get(), bytes, sizeof bytes, 0)) > 0) continue;
    return count == 0 || errno == ECONNRESET;
  }

  Executor executor_;
  boost::asio::executor_work_guard<Executor::executor_type> work_;
  std::thread thread_;
  std::string dir_;
  HttpsOptions options_;
  std::unique_ptr<HttpServer> server_;
  std::string caller_;
};

TEST_F(HttpsServerTest, ACallerIsWhoHisCertificateOrTokenSays) {
  auto tokens = std::make_shared<ApiTokens>();
  ASSERT_TRUE(tokens->parse(tls::sha256_hex("secret") + " operate ci\n").ok());
  options_.tokens = tokens;
  certify("alice", "view");
  certify("carol", "admin");
  start();
  EXPECT_EQ(ask("/view", "alice"), 200);
  EXPECT_EQ(caller_, "alice");
  EXPECT_EQ(ask("/operate", "alice"), 403);
  EXPECT_EQ(ask("/admin", "carol"), 200);
  EXPECT_EQ(ask("/operate", "", "secret"), 200);
  EXPECT_EQ(caller_, "ci");
  EXPECT_EQ(ask("/admin", "", "secret"), 403);
  EXPECT_EQ(ask("/admin", "alice", "secret"), 403) << "a certificate counts before a token";
}

TEST_F(HttpsServerTest, ARouteThatNamesNoRoleIsForAdministrators) {
  certify("bob", "operate");
  certify("carol", "admin");
  start();
  EXPECT_EQ(ask("/unsaid", "bob"), 403);
  EXPECT_EQ(ask("/unsaid", "carol"), 200);
}

TEST_F(HttpsServerTest, AStrangerLearnsNothing) {
  certify("eve", "emperor");
  start();
  for (const char* path : {"/view", "/nothing/there", "/unsaid", "/%zz"}) {
    EXPECT_EQ(ask(path), 401) << path;
    EXPECT_EQ(ask(path, "", "guess"), 401) << path;
    EXPECT_EQ(ask(path, "eve"), 401) << path;
    EXPECT_EQ(ask(path, "n1"), 401) << path;
  }
  EXPECT_EQ(ask("/anybody"), 200);
}

// The others are answered as before.
TEST_F(HttpsServerTest, WhoAsksTooOftenIsToldSo) {
  options_.limits.requests_per_second = 1;
  certify("alice", "view");
  certify("bob", "view");
  start();
  std::map<int, int> answers;
  for (int i = 0; i < 20; ++i) ++answers[ask("/view", "alice")];
  EXPECT_GE(answers[200], 1);
  EXPECT_GT(answers[429], 0);
  EXPECT_EQ(answers[200] + answers[429], 20);
  EXPECT_EQ(ask("/view", "bob"), 200);
}

TEST_F(HttpsServerTest, WhoStallsIsCutOff) {
  options_.limits.request = 200ms;
  start();
  const UniqueFd silent = connect();
  const UniqueFd halting = connect();
  ASSERT_EQ(::send(halting.get(), "\x16\x03\x01\x02\x00", 5, 0), 5);
  EXPECT_TRUE(is_closed(silent));
  EXPECT_TRUE(is_closed(halting));
  EXPECT_EQ(ask("/anybody"), 200);
}

// One byte of a request at a time, for ever.
TEST_F(HttpsServerTest, WhoDripsIsCutOff) {
  options_.limits.request = 300ms;
  start();
  const UniqueFd fd = connect();
  auto client = tls::Client::open(fd.get(), {dir_ + "/ca.pem", "", "node", "", ""});
  ASSERT_TRUE(client.ok()) << client.error().message();
  const timeval short_time{.tv_sec = 0, .tv_usec = 20'000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &short_time, sizeof short_time);
  const auto start_time = std::chrono::steady_clock::now();
  ASSERT_TRUE((*client)->write("GET /anybody HTTP/1.1\r\nX: ").ok());
  bool closed = false;
  while (!closed && std::chrono::steady_clock::now() - start_time < kPatience) {
    char byte = 0;
    const auto count = (*client)->read({&byte, 1});
    closed = (count.ok() && *count == 0) || !(*client)->write("x").ok();
  }
  EXPECT_TRUE(closed);
}

TEST_F(HttpsServerTest, ManyWhoStallKeepNobodyOut) {
  options_.limits.clients = 8;
  start();
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 30; ++i) silent.push_back(connect());
  EXPECT_EQ(ask("/anybody"), 200);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(is_closed(silent[static_cast<size_t>(i)])) << i;
}

TEST(HttpsTargets, AreReadOrRefused) {
  const auto good = parse_https_target("https://node-1.lab:7443/");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good->host, "node-1.lab");
  EXPECT_EQ(good->port, 7443);
  EXPECT_EQ(parse_https_target("[::1]:1").value().host, "::1");
  for (const char* bad : {"", "host", "host:", ":1", "http://host:1", "host:65536", "host:1x",
                          "::1:1", "https://a/b:1", "u@host:1"}) {
    EXPECT_FALSE(parse_https_target(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace dvs
