#include "api/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <cstring>
#include <filesystem>
#include <future>
#include <random>
#include <thread>

#include "base/unique_fd.h"

namespace dvs {
namespace {

using namespace std::chrono_literals;
using Reply = std::shared_ptr<Responder>;

constexpr auto kPatience = 10s;

// A server on its own event loop thread, and a directory for its socket.
class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() : work_(boost::asio::make_work_guard(executor_)) {
    char name[] = "/tmp/dvs-api-test-XXXXXX";
    dir_ = ::mkdtemp(name);
    socket_ = dir_ + "/sock";
    thread_ = std::thread([this] { executor_.run(); });
    on_loop([this] {
      auto server = open_http_server(executor_, socket_);
      ASSERT_TRUE(server.ok()) << server.error().message();
      server_ = std::move(*server);
    });
  }
  ~HttpServerTest() override {
    on_loop([this] { server_.reset(); });
    work_.reset();
    thread_.join();
    std::filesystem::remove_all(dir_);
  }

  // Runs it on the event loop and waits for it.
  void on_loop(std::function<void()> what) {
    std::promise<void> done;
    boost::asio::post(executor_, [&] {
      what();
      done.set_value();
    });
    ASSERT_EQ(done.get_future().wait_for(kPatience), std::future_status::ready)
        << "the event loop is stuck";
  }
  void add(const std::string& method, const std::string& path, HttpHandler handler) {
    on_loop([&] { server_->add(method, path, std::move(handler)); });
  }
  Result<HttpAnswer> exchange(const std::string& method, const std::string& target,
                              const Json& body = nullptr) {
    HttpCall call{socket_, method, target, body, {}, kPatience};
    return http_exchange(call);
  }

  UniqueFd connect_raw() {
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, socket_.c_str());
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fd;
  }
  // Everything the server says to these bytes, until it closes.
  std::string raw(const std::string& bytes, bool half_close = true) {
    const UniqueFd fd = connect_raw();
    ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (half_close) ::shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    ssize_t n = 0;
    while ((n = ::recv(fd.get(), buffer, sizeof(buffer), 0)) > 0) {
      answer.append(buffer, static_cast<size_t>(n));
    }
    EXPECT_TRUE(n == 0 || errno == ECONNRESET) << std::strerror(errno);
    return answer;
  }

  Executor executor_;
  boost::asio::executor_work_guard<Executor::executor_type> work_;
  std::thread thread_;
  std::string dir_, socket_;
  std::unique_ptr<HttpServer> server_;
};

// A handler may keep a Responder for longer than the client stays: that takes no room of others.
TEST_F(HttpServerTest, WhoHasItsAnswerDoesNotCount) {
  std::vector<std::shared_ptr<Responder>> kept;
  add("GET", "/v1/kept", [&kept](const HttpRequest&, const std::shared_ptr<Responder>& reply) {
    reply->reply(Json::object(), 200);
    kept.push_back(reply);
  });
  for (int i = 0; i < 300; ++i) {
    const auto answer = exchange("GET", "/v1/kept");
    ASSERT_TRUE(answer.ok()) << i << ": " << answer.error().message();
  }
  on_loop([&kept] { kept.clear(); });
}

TEST_F(HttpServerTest, PassesParamsQueryAndBody) {
  add("POST", "/v1/dcs/{}/endpoints/{}/kill", [](HttpRequest request, Reply reply) {
    reply->reply({{"method", request.method},
                  {"path", request.path},
                  {"params", request.params},
                  {"query", request.query},
                  {"body", request.body}});
  });
  const auto answer = exchange("POST", "/v1/dcs/D%20C/endpoints/11/kill?force=1", {{"signal", 9}});
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->status, 200);
  EXPECT_EQ(answer->body, (Json{{"method", "POST"},
                                {"path", "/v1/dcs/D%20C/endpoints/11/kill"},
                                {"params", {"D C", "11"}},
                                {"query", {{"force", "1"}}},
                                {"body", {{"signal", 9}}}}));
}

TEST_F(HttpServerTest, ARequestWithoutBodyHasAnEmptyObject) {
  add("GET", "/x", [](HttpRequest request, Reply reply) { reply->reply(request.body, 201); });
  const auto answer = exchange("GET", "/x");
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->status, 201);
  EXPECT_EQ(answer->body, Json::object());
}

TEST_F(HttpServerTest, AnswersLaterFromTheEventLoop) {
  Reply kept;
  std::promise<void> asked;
  add("GET", "/slow", [&](HttpRequest, Reply reply) {
    kept = std::move(reply);
    asked.set_value();
  });
  auto answer = std::async(std::launch::async, [&] { return exchange("GET", "/slow"); });
  ASSERT_EQ(asked.get_future().wait_for(kPatience), std::future_status::ready);
  on_loop([&] {
    EXPECT_FALSE(kept->client_gone());
    kept->reply({{"late", true}});
    kept.reset();
  });
  EXPECT_EQ(answer.get()->body, (Json{{"late", true}}));
}

TEST_F(HttpServerTest, EveryErrorCodeGoesThereAndBack) {
  add("GET", "/fail/{}", [](HttpRequest request, Reply reply) {
    reply->fail(Error(code_from_name(request.params[0]), "because " + request.params[0]));
  });
  const std::map<std::string, int> statuses = {
      {"invalid", 400},  {"denied", 403},      {"not_found", 404}, {"conflict", 409},
      {"internal", 500}, {"unsupported", 501}, {"corrupt", 500},   {"unavailable", 503},
      {"timeout", 504},  {"no_space", 507}};
  for (const auto& [name, status] : statuses) {
    const auto answer = exchange("GET", "/fail/" + name);
    ASSERT_TRUE(answer.ok()) << answer.error().message();
    EXPECT_EQ(answer->status, status) << name;
    const auto call = http_call(socket_, "GET", "/fail/" + name, nullptr);
    ASSERT_FALSE(call.ok());
    EXPECT_EQ(code_name(call.error().code()), name);
    EXPECT_EQ(call.error().message(), "because " + name);
  }
}

TEST_F(HttpServerTest, UnknownRoutesAndMethodsAreAnsweredByTheServer) {
  add("GET", "/v1/dcs", [](HttpRequest, Reply reply) { reply->reply({}); });
  auto answer = exchange("GET", "/v1/nothing");
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->status, 404);
  EXPECT_EQ(answer->error()->code(), Code::kNotFound);
  answer = exchange("PATCH", "/v1/dcs");
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->status, 405);
  EXPECT_EQ(answer->error()->code(), Code::kInvalid);
  EXPECT_NE(raw("PATCH /v1/dcs HTTP/1.1\r\n\r\n", false).find("Allow: GET\r\n"), std::string::npos);
}

TEST_F(HttpServerTest, BadJsonIsRefusedBeforeTheHandler) {
  add("POST", "/x", [](HttpRequest, Reply) { FAIL() << "called"; });
  for (const std::string& body :
       {std::string("{\"a\":"), std::string("[1]"), std::string("12"), std::string("\xff\xfe"),
        std::string("{\"a\":\"\xff\"}"), std::string(500000, '[')}) {
    const auto answer = raw(
        "POST /x HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body,
        false);
    EXPECT_EQ(answer.substr(0, 12), "HTTP/1.1 400") << body.substr(0, 20);
  }
}

TEST_F(HttpServerTest, OversizeBodiesAreRefused) {
  add("POST", "/x", [](HttpRequest request, Reply reply) {
    reply->reply({{"size", request.body.at("a").get<std::string>().size()}});
  });
  auto answer = exchange("POST", "/x", {{"a", std::string(1000000, 'x')}});
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->body, (Json{{"size", 1000000}}));
  answer = exchange("POST", "/x", {{"a", std::string(3 << 20, 'x')}});
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->status, 413);
  EXPECT_EQ(answer->error()->code(), Code::kInvalid);
}

TEST_F(HttpServerTest, AnEndlessChunkedBodyIsCutOff) {
  add("POST", "/x", [](HttpRequest, Reply) { FAIL() << "called"; });
  std::string bytes = "POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 300; ++i) bytes += "1000\r\n" + std::string(4096, ' ') + "\r\n";
  EXPECT_EQ(raw(bytes, false).substr(0, 12), "HTTP/1.1 413");
}

TEST_F(HttpServerTest, AHandlerThatForgetsToAnswerGives500) {
  add("GET", "/x", [](HttpRequest, Reply) {});
  const auto answer = exchange("GET", "/x");
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->status, 500);
  EXPECT_EQ(answer->error()->code(), Code::kInternal);
}

TEST_F(HttpServerTest, BytesThatAreNotUtf8AreReplacedNotFatal) {
  add("GET", "/logs", [](HttpRequest, Reply reply) { reply->reply({{"data", "a\xff z"}}); });
  EXPECT_EQ(exchange("GET", "/logs")->body, (Json{{"data", "a\xef\xbf\xbd z"}}));
}

TEST_F(HttpServerTest, EventsArriveOneByOne) {
  Reply stream;
  add("POST", "/m", [&](HttpRequest, Reply reply) {
    stream = std::move(reply);
    stream->event({{"n", 1}});
  });
  std::vector<Json> events;
  const auto answer = http_call(socket_, "POST", "/m", Json::object(), [&](const Json& event) {
    events.push_back(event);
    // The next one is sent only once this one has been seen.
    const int n = event.at("n").get<int>();
    boost::asio::post(executor_, [&stream, n] {
      if (n < 3) return stream->event({{"n", n + 1}});
      const Reply last = std::move(stream);  // the test's end does not wait for this lambda's
      last->end_events();
    });
  });
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(Json(events), Json::parse(R"([{"n":1},{"n":2},{"n":3}])"));
  EXPECT_EQ(answer->body, (Json{{"n", 3}}));
}

TEST_F(HttpServerTest, AFailureInAStreamIsItsLastLine) {
  add("POST", "/m", [](HttpRequest, Reply reply) {
    reply->event({{"n", 1}});
    reply->fail(Error(Code::kConflict, "too late"));
  });
  int events = 0;
  const auto answer = http_call(socket_, "POST", "/m", nullptr, [&](const Json&) { ++events; });
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code(), Code::kConflict);
  EXPECT_EQ(events, 1);
}

TEST_F(HttpServerTest, AStreamBrokenInTheMiddleHasAnUnknownOutcome) {
  add("POST", "/m", [](HttpRequest, Reply reply) { reply->event({{"n", 1}}); });
  const auto answer = exchange("POST", "/m");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code(), Code::kTimeout);
}

TEST_F(HttpServerTest, ASilentServerIsGivenUp) {
  Reply kept;
  add("GET", "/x", [&](HttpRequest, Reply reply) { kept = std::move(reply); });
  const auto answer = http_exchange({socket_, "GET", "/x", nullptr, {}, 50ms});
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code(), Code::kTimeout);
  on_loop([&] { kept.reset(); });
}

// Streams for as long as the client is there; `gone` tells when it was noticed.
void stream_until_gone(Executor& executor, Reply stream, std::string payload,
                       std::promise<void>* gone) {
  if (stream->client_gone()) return gone->set_value();
  stream->event({{"payload", payload}});
  boost::asio::post(executor, [&executor, stream, payload, gone] {
    stream_until_gone(executor, stream, payload, gone);
  });
}

TEST_F(HttpServerTest, AClientThatGoesInTheMiddleOfAStreamIsNoticed) {
  std::promise<void> gone;
  add("GET", "/m", [&](HttpRequest, Reply reply) {
    stream_until_gone(executor_, std::move(reply), "x", &gone);
  });
  {
    const UniqueFd fd = connect_raw();
    const std::string request = "GET /m HTTP/1.1\r\n\r\n";
    ASSERT_EQ(::send(fd.get(), request.data(), request.size(), 0), ssize_t(request.size()));
    char byte;
    ASSERT_EQ(::recv(fd.get(), &byte, 1, 0), 1);
  }
  EXPECT_EQ(gone.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(HttpServerTest, AClientThatReadsNothingIsCutOff) {
  std::promise<void> gone;
  add("GET", "/m", [&](HttpRequest, Reply reply) {
    stream_until_gone(executor_, std::move(reply), std::string(100000, 'x'), &gone);
  });
  const UniqueFd fd = connect_raw();
  const std::string request = "GET /m HTTP/1.1\r\n\r\n";
  ASSERT_EQ(::send(fd.get(), request.data(), request.size(), 0), ssize_t(request.size()));
  EXPECT_EQ(gone.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_F(HttpServerTest, AClientThatGoesBeforeTheAnswerIsNoticed) {
  Reply kept;
  std::promise<void> asked;
  add("GET", "/x", [&](HttpRequest, Reply reply) {
    kept = std::move(reply);
    asked.set_value();
  });
  {
    const UniqueFd fd = connect_raw();
    const std::string request = "GET /x HTTP/1.1\r\n\r\n";
    ASSERT_EQ(::send(fd.get(), request.data(), request.size(), 0), ssize_t(request.size()));
    ASSERT_EQ(asked.get_future().wait_for(kPatience), std::future_status::ready);
  }
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  bool gone = false;
  while (!gone && std::chrono::steady_clock::now() < deadline) {
    on_loop([&] { gone = kept->client_gone(); });
  }
  EXPECT_TRUE(gone);
  on_loop([&] {
    kept->reply({});  // does nothing, harms nothing
    kept.reset();
  });
}

TEST_F(HttpServerTest, TwoServersOnOnePathConflict) {
  on_loop([this] {
    const auto second = open_http_server(executor_, socket_);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code(), Code::kConflict);
  });
  add("GET", "/x", [](HttpRequest, Reply reply) { reply->reply({}); });
  EXPECT_TRUE(exchange("GET", "/x").ok()) << "the first one lost its socket";
}

TEST_F(HttpServerTest, ACrashedServersSocketIsReplaced) {
  const std::string path = dir_ + "/crashed";
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Executor executor;
    auto server = open_http_server(executor, path);
    ::_exit(server.ok() ? 0 : 1);  // as a crash would: nothing is cleaned up
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  ASSERT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(http_call(path, "GET", "/", nullptr).error().code(), Code::kUnavailable);
  on_loop([&] {
    const auto server = open_http_server(executor_, path);
    EXPECT_TRUE(server.ok()) << server.error().message();
  });
  EXPECT_FALSE(std::filesystem::exists(path)) << "a server that ends takes its socket along";
}

TEST_F(HttpServerTest, FilesThatAreNoSocketsAreLeftAlone) {
  const std::string path = dir_ + "/precious";
  std::filesystem::create_directory(path);
  on_loop([&] {
    EXPECT_EQ(open_http_server(executor_, path).error().code(), Code::kConflict);
    EXPECT_EQ(open_http_server(executor_, dir_ + "/" + std::string(200, 'x')).error().code(),
              Code::kInvalid);
    EXPECT_EQ(open_http_server(executor_, dir_ + "/no/dir").error().code(), Code::kNotFound);
  });
  EXPECT_TRUE(std::filesystem::is_directory(path));
}

TEST_F(HttpServerTest, TheSocketIsForItsOwnerOnly) {
  struct stat info {};
  ASSERT_EQ(::stat(socket_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(HttpServerTest, ClosingTheServerEndsItsClients) {
  Reply kept;
  std::promise<void> asked;
  add("GET", "/x", [&](HttpRequest, Reply reply) {
    kept = std::move(reply);
    asked.set_value();
  });
  auto answer = std::async(std::launch::async, [&] { return exchange("GET", "/x"); });
  ASSERT_EQ(asked.get_future().wait_for(kPatience), std::future_status::ready);
  on_loop([&] { server_.reset(); });
  EXPECT_EQ(answer.get().error().code(), Code::kTimeout);
  on_loop([&] { kept.reset(); });
  EXPECT_EQ(exchange("GET", "/x").error().code(), Code::kUnavailable);
}

TEST_F(HttpServerTest, GarbageNeverHarms) {
  add("POST", "/x", [](HttpRequest, Reply reply) { reply->reply({}); });
  const std::string good = "POST /x HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"a\":1}";
  std::mt19937 random(4711);
  for (int round = 0; round < 1500; ++round) {
    std::string bytes = good;
    for (int change = 0; change < 1 + round % 8; ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    if (round % 3 == 0) bytes.resize(random() % bytes.size());
    if (round % 5 == 0)
      bytes.insert(random() % (bytes.size() + 1), std::string(random() % 40000, 'h'));
    raw(bytes);
  }
  const auto answer = exchange("POST", "/x", {{"a", 1}});
  ASSERT_TRUE(answer.ok()) << answer.error().message();
  EXPECT_EQ(answer->status, 200);
}

}  // namespace
}  // namespace dvs
