// Runs the built `dvs` against a dvsd of the test's own making.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>
#include <thread>

#include "api/http_server.h"
#include "base/child.h"

namespace dvs::cli {

struct Outcome {
  int status = -1;
  std::string out, err;
};

class CliTest : public ::testing::Test {
 protected:
  using Reply = std::shared_ptr<Responder>;

  CliTest() : work_(boost::asio::make_work_guard(executor_)) {
    char name[] = "/tmp/dvs-cli-test-XXXXXX";
    dir_ = ::mkdtemp(name);
    socket_ = dir_ + "/dvsd.sock";
    const char* build = ::getenv("DVS_BUILD_DIR");
    bin_dir_ = std::string(build != nullptr ? build : ".") + "/bin";
    server_ = std::move(*open_http_server(executor_, socket_));
    thread_ = std::thread([this] { executor_.run(); });
  }
  ~CliTest() override {
    on_loop([this] { server_.reset(); });
    work_.reset();
    thread_.join();
    std::filesystem::remove_all(dir_);
  }

  void on_loop(std::function<void()> what) {
    std::promise<void> done;
    boost::asio::post(executor_, [&] {
      what();
      done.set_value();
    });
    done.get_future().wait();
  }

  // A second handler of the same route replaces the first.
  void handle(const std::string& method, const std::string& path, HttpHandler handler) {
    on_loop([&] {
      HttpHandler& current = handlers_[method + path];
      if (!current) {
        server_->add(method, path, [this, &current](HttpRequest request, Reply reply) {
          request_ = request;
          current(std::move(request), std::move(reply));
        });
      }
      current = std::move(handler);
    });
  }
  // After a handler has reset server_: the daemon is back, and knows no routes.
  void restart() {
    on_loop([this] {
      server_ = std::move(*open_http_server(executor_, socket_));
      handlers_.clear();
    });
  }
  void answer(const std::string& method, const std::string& path, const std::string& json) {
    handle(method, path, [json](HttpRequest, Reply reply) { reply->reply(Json::parse(json)); });
  }
  void refuse(const std::string& method, const std::string& path, const Error& error) {
    handle(method, path, [error](HttpRequest, Reply reply) { reply->fail(error); });
  }

  // Runs `dvs ARGS...`; $DVS_SOCKET is the fake dvsd's unless `env` says otherwise.
  Outcome dvs(std::vector<std::string> args, std::vector<std::string> env = {}) {
    const std::string out = dir_ + "/out", err = dir_ + "/err";
    const UniqueFd out_fd(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    const UniqueFd err_fd(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    ChildOptions options;
    options.argv = {bin_dir_ + "/dvs"};
    options.argv.insert(options.argv.end(), args.begin(), args.end());
    options.env = std::move(env);  // of two values for one name the first counts
    for (const auto& other :
         {"DVS_SOCKET=" + socket_, "DVS_CLUSTER=" + dir_ + "/cluster", std::string("TZ=UTC")}) {
      options.env.push_back(other);
    }
    options.stdout_fd = out_fd.get();
    options.stderr_fd = err_fd.get();
    options.timeout = std::chrono::seconds(30);
    on_loop([] {});  // what this thread has read of the last request is read
    const auto result = run_child_blocking(options);
    on_loop([] {});  // what the handlers left in this object is complete now
    if (!result.ok()) return {-1, "", result.error().message()};
    return {result->exit_code, read(out), read(err)};
  }

  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }

  Executor executor_;
  boost::asio::executor_work_guard<Executor::executor_type> work_;
  std::thread thread_;
  std::string dir_, socket_;
  std::string bin_dir_;  // of the dvs to run
  std::unique_ptr<HttpServer> server_;
  std::map<std::string, HttpHandler> handlers_;
  HttpRequest request_;  // the last one that a handler got
};

}  // namespace dvs::cli
