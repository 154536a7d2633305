#include "api/http_connection.h"

#include <array>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <deque>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"

namespace dvs {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using LocalSocket = asio::local::stream_protocol::socket;
using Tcp = asio::ip::tcp;
using Parser = http::request_parser<http::string_body>;

constexpr uint64_t kBodyLimit = 1 << 20;
constexpr uint32_t kHeaderLimit = 16 << 10;
constexpr size_t kQueueLimit = 4 << 20;                  // unsent bytes of events
constexpr auto kAnswerLimit = std::chrono::seconds(30);  // for a plain answer to be taken
constexpr auto kLinger = std::chrono::seconds(2);  // for the client to take the answer and close

int status_of(Code code) {
  switch (code) {
    case Code::kInvalid:
      return 400;
    case Code::kDenied:
      return 403;
    case Code::kNotFound:
      return 404;
    case Code::kConflict:
      return 409;
    case Code::kUnsupported:
      return 501;
    case Code::kUnavailable:
      return 503;
    case Code::kTimeout:
      return 504;
    case Code::kNoSpace:
      return 507;
    case Code::kCorrupt:
    case Code::kInternal:
      break;
  }
  return 500;
}

// JSON text of one line. What an application wrote may not be UTF-8: such bytes are replaced.
std::string to_line(const Json& json) { return to_text(json) + "\n"; }

std::string header(int status, const std::string& more) {
  const auto reason = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
  return "HTTP/1.1 " + std::to_string(status) + " " + std::string(reason) +
         "\r\nConnection: close\r\n" + more + "\r\n";
}

// The life of a connection: reading -> answering -> lingering -> closed. One read is always
// pending until it is closed: first the request, then whatever else comes (thrown away), because
// the end of that is how a client that went away is noticed. What the bytes go over is known to
// ConnectionOn alone.
class Connection : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(const asio::any_io_executor& executor, std::shared_ptr<const ServerState> state)
      : state_(std::move(state)), timer_(executor) {
    parser_.body_limit(kBodyLimit);
    parser_.header_limit(kHeaderLimit);
  }

  bool waits_for_request() const override { return waiting_; }

  bool streaming() const { return streaming_; }

  void send_answer(int status, const Json& body, const std::string& more_headers = {}) {
    if (gone()) return;
    const std::string text = to_line(body);
    last_ = true;
    arm_timer(kAnswerLimit);
    send(header(status, "Content-Type: application/json\r\nContent-Length: " +
                            std::to_string(text.size()) + "\r\n" + more_headers) +
         text);
  }

  void send_error(int status, const Error& error, const std::string& more_headers = {}) {
    send_answer(status, {{"error", error_to_json(error)}}, more_headers);
  }

  void send_event(const Json& line) {
    std::string out;
    if (!streaming_) {
      out = header(200, "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n");
      streaming_ = true;
    }
    const std::string text = to_line(line);
    send(out + fmt::format("{:x}\r\n{}\r\n", text.size(), text));
  }

  void end_events() {
    last_ = true;
    send("0\r\n\r\n");
  }

 protected:
  // Each answers by the function named, later, unless the connection has been closed.
  virtual void read_request(Parser& parser) = 0;             // on_read()
  virtual void write_some_of(const std::string& bytes) = 0;  // on_written()
  virtual void read_waste() = 0;                             // on_waste()
  virtual void end_writing() = 0;
  virtual Caller caller(std::string_view authorization) const = 0;
  virtual void note(const HttpRequest&) const {}

  // (From the handshake on, if there is one: its timer goes on.)
  void begin_request() { read_request(parser_); }
  void on_read(error_code error);
  void on_waste(error_code error) { error ? close() : read_waste(); }

  void on_written(error_code error) {
    if (error) return close();
    queued_ -= queue_.front().size();
    queue_.pop_front();
    if (!queue_.empty()) return write_some_of(queue_.front());
    if (!last_) return;
    end_writing();
    arm_timer(kLinger);
  }

  void arm_timer(std::chrono::milliseconds limit) {
    timer_.expires_after(limit);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->close();
    });
  }
  void disarm_timer() { timer_.cancel(); }

  const std::shared_ptr<const ServerState> state_;

 private:
  void dispatch();
  bool may(const Caller& caller, Role needed, const std::string& path);

  void send(std::string bytes) {
    if (gone()) return;
    queued_ += bytes.size();
    if (queued_ > kQueueLimit && streaming_) return close();
    queue_.push_back(std::move(bytes));
    if (queue_.size() == 1) write_some_of(queue_.front());
  }

  asio::steady_timer timer_;
  Parser parser_;
  bool waiting_ = true;  // for the request
  // What is being sent: the front is in the hands of the pending write.
  std::deque<std::string> queue_;
  size_t queued_ = 0;
  bool streaming_ = false;
  bool last_ = false;  // the answer's last byte is in the queue, or sent
};

class ConnectionResponder : public Responder {
 public:
  explicit ConnectionResponder(std::shared_ptr<Connection> connection)
      : connection_(std::move(connection)) {}
  ~ConnectionResponder() override {
    if (done_) return;
    if (connection_->streaming()) {
      connection_->close();
    } else {
      connection_->send_error(500, Error(Code::kInternal, "the request was dropped unanswered"));
    }
  }

  void reply(const Json& body, int status) override {
    finish();
    DVS_CHECK(!connection_->streaming(), "reply() in a stream of events");
    connection_->send_answer(status, body);
  }

  void fail(const Error& error) override {
    finish();
    if (!connection_->streaming()) return connection_->send_error(status_of(error.code()), error);
    connection_->send_event({{"error", error_to_json(error)}});
    connection_->end_events();
  }

  void event(const Json& line) override {
    DVS_CHECK(!done_, "event() after the end of the answer");
    connection_->send_event(line);
  }

  void end_events() override {
    finish();
    DVS_CHECK(connection_->streaming() || connection_->gone(), "end_events() without an event()");
    connection_->end_events();
  }

  bool client_gone() const override { return connection_->gone(); }

 private:
  void finish() {
    DVS_CHECK(!done_, "a request was answered twice");
    done_ = true;
  }

  std::shared_ptr<Connection> connection_;
  bool done_ = false;
};

void Connection::on_read(error_code error) {
  disarm_timer();
  waiting_ = false;
  if (!error) {
    read_waste();
    return dispatch();
  }
  if (error == http::error::end_of_stream || error == asio::error::eof ||
      error.category() == boost::system::system_category()) {
    return close();
  }
  read_waste();
  if (error == http::error::body_limit) {
    return send_error(413, Error(Code::kInvalid, "the request is larger than 1 MiB"));
  }
  send_error(400, Error(Code::kInvalid, "not an HTTP request: " + error.message()));
}

// The request's body as an object.
Result<Json> body_of(const std::string& text) {
  if (text.empty()) return Json::object();
  auto body = parse_json(text);
  if (!body.ok() || !body->is_object()) {
    return Error(Code::kInvalid, "the request's body is not a JSON object");
  }
  return body;
}

// Whether the caller's role is enough, and he has not asked too often; if not, he is told so.
bool Connection::may(const Caller& caller, Role needed, const std::string& path) {
  const bool named = state_->rate != nullptr && !caller.name.empty();
  if (named && !state_->rate->take(caller.name, monotonic_ns())) {
    send_error(429,
               Error(Code::kUnavailable,
                     fmt::format("too many requests of {}: {} a second are allowed; try again",
                                 caller.name, state_->rate->per_second())),
               "Retry-After: 1\r\n");
    return false;
  }
  if (caller.role >= needed) return true;
  if (caller.role == Role::kAnybody) {
    send_error(401, Error(Code::kDenied, "who are you? No certificate or token with a role came"),
               "WWW-Authenticate: Bearer\r\n");
  } else {
    send_error(403, Error(Code::kDenied,
                          fmt::format("{} may not: {} needs the role {}, not {}", caller.name, path,
                                      name_of(needed), name_of(caller.role))));
  }
  return false;
}

void Connection::dispatch() {
  if (state_->closed) return close();
  auto& message = parser_.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const auto target = message.target();
  const auto match = state_->router.route({target.data(), target.size()}, request);
  const auto authorization = message[http::field::authorization];
  request.caller = caller({authorization.data(), authorization.size()});
  if (!may(request.caller, match.ok() ? match->role : Role::kView, request.path)) return;
  if (!match.ok()) return send_error(400, match.error());
  if (match->handler == nullptr && match->allowed.empty()) {
    return send_error(404, Error(Code::kNotFound, "no such resource: " + request.path));
  }
  if (match->handler == nullptr) {
    return send_error(405, Error(Code::kInvalid, request.path + " allows " + match->allowed),
                      "Allow: " + match->allowed + "\r\n");
  }
  auto body = body_of(message.body());
  if (!body.ok()) return send_error(400, body.error());
  request.body = std::move(*body);
  note(request);
  (*match->handler)(std::move(request), std::make_shared<ConnectionResponder>(shared_from_this()));
}

// A connection over a stream of asio's.
template <typename Stream>
class ConnectionOn : public Connection {
 public:
  ConnectionOn(Stream stream, std::shared_ptr<const ServerState> state)
      : Connection(stream.get_executor(), std::move(state)), stream_(std::move(stream)) {}

  void close() override {
    error_code ignored;
    stream_.lowest_layer().close(ignored);
    disarm_timer();
  }
  bool gone() const override { return !stream_.lowest_layer().is_open(); }

 protected:
  void read_request(Parser& parser) override {
    http::async_read(stream_, buffer_, parser, then(&ConnectionOn::on_read));
  }
  void write_some_of(const std::string& bytes) override {
    asio::async_write(stream_, asio::buffer(bytes), then(&ConnectionOn::on_written));
  }
  void read_waste() override {
    stream_.async_read_some(asio::buffer(waste_), then(&ConnectionOn::on_waste));
  }
  // (Without a good-bye of TLS: HTTP says where an answer ends.)
  void end_writing() override {
    error_code ignored;
    stream_.lowest_layer().shutdown(asio::socket_base::shutdown_send, ignored);
  }

  // A completion handler that calls `next` unless the connection is gone.
  template <typename Self>
  auto then(void (Self::*next)(error_code)) {
    return [self = this->shared_from_this(), next](error_code error, auto...) {
      if (!self->gone()) (static_cast<Self&>(*self).*next)(error);
    };
  }

  Stream stream_;

 private:
  boost::beast::flat_buffer buffer_{kHeaderLimit + (64 << 10)};
  std::array<char, 4096> waste_{};
};

// Whoever may open the socket may do everything.
class LocalConnection : public ConnectionOn<LocalSocket> {
 public:
  using ConnectionOn::ConnectionOn;
  void start() {
    arm_timer(state_->limits.request);
    begin_request();
  }

 private:
  Caller caller(std::string_view) const override { return {"local", Role::kAdmin}; }
};

using TlsStream = asio::ssl::stream<Tcp::socket>;

class TlsConnection : public ConnectionOn<TlsStream> {
 public:
  // The identity's context is the one of now: another may be used after a reload().
  TlsConnection(Tcp::socket socket, const std::shared_ptr<const ServerState>& state)
      : TlsConnection(std::move(socket), asio::ssl::context(state->identity->server_context()),
                      state) {}

  void start() {
    arm_timer(state_->limits.request);
    stream_.async_handshake(TlsStream::server, then(&TlsConnection::on_handshake));
  }

 private:
  // Who changed what.
  void note(const HttpRequest& request) const override {
    if (request.method == "GET") return;
    log::info("API: {} ({}): {} {}", to_text(Json(request.caller.name)),
              name_of(request.caller.role), request.method, to_text(Json(request.path)));
  }

  TlsConnection(Tcp::socket socket, asio::ssl::context context,
                const std::shared_ptr<const ServerState>& state)
      : ConnectionOn(TlsStream(std::move(socket), context), state) {}

  void on_handshake(error_code error) {
    if (error) return close();
    begin_request();
  }

  Caller caller(std::string_view authorization) const override {
    const tls::Subject subject =
        tls::peer_of(const_cast<TlsStream&>(stream_).native_handle());  // which only looks
    if (const auto role = role_named(subject.unit)) return {subject.name, *role};
    constexpr std::string_view kBearer = "Bearer ";
    if (state_->tokens == nullptr || !authorization.starts_with(kBearer)) return {};
    return state_->tokens->find(authorization.substr(kBearer.size())).value_or(Caller{});
  }
};

}  // namespace

std::shared_ptr<HttpConnection> serve_connection(LocalSocket socket,
                                                 std::shared_ptr<const ServerState> state) {
  auto connection = std::make_shared<LocalConnection>(std::move(socket), std::move(state));
  connection->start();
  return connection;
}

std::shared_ptr<HttpConnection> serve_connection(Tcp::socket socket,
                                                 std::shared_ptr<const ServerState> state) {
  auto connection = std::make_shared<TlsConnection>(std::move(socket), state);
  connection->start();
  return connection;
}

}  // namespace dvs
