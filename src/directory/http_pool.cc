#include "directory/http_pool.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <optional>

#include "base/check.h"
#include "directory/etcd_stream.h"

namespace dvs {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;

struct HttpPool::Connection {
  Connection(Executor& executor, size_t endpoint_index)
      : stream(executor), endpoint(endpoint_index) {}

  // Whether the server has closed it, or said something nobody asked for, while it was idle. Spares
  // a request the doubt whether it was carried out, in the common case of a restarted server.
  bool is_stale() {
    char byte = 0;
    const ssize_t got = ::recv(stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return buffer.size() > 0 || got >= 0 || errno != EAGAIN;
  }

  EtcdStream stream;
  beast::flat_buffer buffer;
  size_t endpoint;
};

struct HttpPool::Call {
  http::request<http::string_body> request;
  std::optional<http::response_parser<http::string_body>> parser;
  bool may_repeat = false;
  size_t dials_left = 0;
  Clock::time_point deadline;
  std::shared_ptr<Connection> connection;
  Done<HttpAnswer> done;
};

namespace {

bool is_garbage(const boost::system::error_code& failed) {
  return failed.category() == make_error_code(http::error::end_of_stream).category() &&
         failed != http::error::end_of_stream && failed != http::error::partial_message;
}

}  // namespace

HttpPool::HttpPool(Executor& executor, std::vector<Endpoint> endpoints,
                   std::chrono::milliseconds timeout)
    : executor_(executor),
      endpoints_(std::move(endpoints)),
      timeout_(timeout),
      queue_timer_(executor) {
  DVS_CHECK(!endpoints_.empty());
}

HttpPool::~HttpPool() = default;

void HttpPool::post(const std::string& path, std::string body, Repeat repeat,
                    Done<HttpAnswer> done) {
  DVS_CHECK(!closed_);
  auto call = std::make_shared<Call>();
  call->request = {http::verb::post, path, 11, std::move(body)};
  call->request.set(http::field::content_type, "application/json");
  call->request.prepare_payload();
  call->may_repeat = repeat == Repeat::kOnce;
  call->deadline = Clock::now() + timeout_;
  call->done = std::move(done);
  queue_.push_back(std::move(call));
  pump();
}

void HttpPool::close() {
  closed_ = true;
  queue_timer_.cancel();
  // Destroying a Done may run code of its owner: only when nothing here is in use any more.
  const auto queue = std::exchange(queue_, {});
  const auto active = std::exchange(active_, {});
  idle_.clear();
  for (const CallPtr& call : active) {
    call->connection->stream.tcp().close();
    const auto done = std::exchange(call->done, nullptr);
  }
}

// A request whose time is over is left to expire_queue(): it must not be sent any more.
void HttpPool::pump() {
  while (!queue_.empty() && active_.size() < kMaxConnections &&
         queue_.front()->deadline > Clock::now()) {
    const CallPtr call = queue_.front();
    queue_.pop_front();
    active_.insert(call);
    start(call);
  }
  if (!queue_.empty()) watch_queue();
}

void HttpPool::watch_queue() {
  queue_timer_.expires_at(queue_.front()->deadline);
  queue_timer_.async_wait([self = shared_from_this()](Failure failed) {
    if (!failed && !self->closed_) self->expire_queue();
  });
}

void HttpPool::expire_queue() {
  std::vector<CallPtr> expired;
  while (!queue_.empty() && queue_.front()->deadline <= Clock::now()) {
    expired.push_back(queue_.front());
    queue_.pop_front();
  }
  if (!queue_.empty()) watch_queue();
  for (const CallPtr& call : expired) {
    if (closed_) return;
    finish(call, Error(Code::kUnavailable, "etcd is too slow: the request was never sent"));
  }
}

void HttpPool::start(const CallPtr& call) {
  call->connection = take_idle();
  if (call->connection) {
    send(call);
  } else {
    dial_all(call);
  }
}

std::shared_ptr<HttpPool::Connection> HttpPool::take_idle() {
  while (!idle_.empty()) {
    const auto connection = idle_.back();
    idle_.pop_back();
    if (!connection->is_stale()) return connection;
  }
  return nullptr;
}

void HttpPool::dial_all(const CallPtr& call) {
  call->dials_left = endpoints_.size();
  dial(call, preferred_);
}

// An endpoint that does not even refuse gets its share of the time only.
void HttpPool::dial(const CallPtr& call, size_t endpoint) {
  --call->dials_left;
  call->connection = std::make_shared<Connection>(executor_, endpoint);
  const Clock::time_point share = Clock::now() + timeout_ / static_cast<int>(endpoints_.size());
  call->connection->stream.tcp().expires_at(std::min(call->deadline, share));
  call->connection->stream.async_connect(
      endpoints_[endpoint],
      [self = shared_from_this(), call](Failure failed) { self->on_dialed(call, failed); });
}

void HttpPool::on_dialed(const CallPtr& call, Failure failed) {
  if (closed_) return;
  const size_t endpoint = call->connection->endpoint;
  if (!failed) {
    Failure ignored;  // without it the connection still works
    call->connection->stream.socket().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
    return send(call);
  }
  leave_endpoint(endpoint);
  if (call->dials_left > 0 && Clock::now() < call->deadline) {
    return dial(call, (endpoint + 1) % endpoints_.size());
  }
  finish(call,
         Error(Code::kUnavailable, "cannot connect to etcd at " + endpoints_[endpoint].authority +
                                       ": " + failed.message()));
}

void HttpPool::send(const CallPtr& call) {
  auto& connection = *call->connection;
  call->request.set(http::field::host, endpoints_[connection.endpoint].authority);
  connection.stream.tcp().expires_at(call->deadline);
  http::async_write(connection.stream, call->request,
                    [self = shared_from_this(), call](Failure failed, size_t) {
                      if (self->closed_) return;
                      if (failed) return self->on_broken(call, failed);
                      self->receive(call);
                    });
}

void HttpPool::receive(const CallPtr& call) {
  auto& connection = *call->connection;
  call->parser.emplace();
  call->parser->body_limit(kMaxAnswerSize);
  connection.stream.tcp().expires_at(call->deadline);
  http::async_read(connection.stream, connection.buffer, *call->parser,
                   [self = shared_from_this(), call](Failure failed, size_t) {
                     if (self->closed_) return;
                     if (failed) return self->on_broken(call, failed);
                     self->on_received(call);
                   });
}

void HttpPool::on_received(const CallPtr& call) {
  auto response = call->parser->release();
  const size_t endpoint = call->connection->endpoint;
  if (response.result() == http::status::service_unavailable) {
    leave_endpoint(endpoint);  // for example cut off from its leader: another may know better
  } else if (response.keep_alive() && endpoint == preferred_) {
    call->connection->stream.tcp().expires_never();
    idle_.push_back(call->connection);
  }
  finish(call, HttpAnswer{response.result_int(), std::move(response.body())});
}

void HttpPool::on_broken(const CallPtr& call, Failure failed) {
  const size_t endpoint = call->connection->endpoint;
  leave_endpoint(endpoint);
  const std::string who = "etcd at " + endpoints_[endpoint].authority;
  if (failed == beast::error::timeout) {
    return finish(call, Error(Code::kTimeout, who + " did not answer within " +
                                                  std::to_string(timeout_.count()) + " ms"));
  }
  if (is_garbage(failed)) {
    return finish(call,
                  Error(Code::kCorrupt, who + " did not answer as it should: " + failed.message()));
  }
  if (std::exchange(call->may_repeat, false)) return dial_all(call);
  finish(call, Error(Code::kUnavailable,
                     who + " closed the connection before it answered: " + failed.message()));
}

// Last thing a caller does: `done` may well close() this pool.
void HttpPool::finish(const CallPtr& call, Result<HttpAnswer> result) {
  active_.erase(call);
  call->connection.reset();
  pump();
  const auto done = std::exchange(call->done, nullptr);
  done(std::move(result));
}

// Later requests go elsewhere. All idle connections lead to the preferred endpoint: they go too.
void HttpPool::leave_endpoint(size_t endpoint) {
  if (endpoint != preferred_) return;
  preferred_ = (endpoint + 1) % endpoints_.size();
  idle_.clear();
}

}  // namespace dvs
