#include "api/http_connection.h"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <deque>

#include "base/check.h"

namespace dvs {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Socket = asio::local::stream_protocol::socket;

constexpr uint64_t kBodyLimit = 1 << 20;
constexpr uint32_t kHeaderLimit = 16 << 10;
constexpr size_t kQueueLimit = 4 << 20;                   // unsent bytes of events
constexpr auto kRequestLimit = std::chrono::seconds(30);  // for a whole request to arrive
constexpr auto kAnswerLimit = std::chrono::seconds(30);   // for a plain answer to be taken
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
// the end of that is how a client that went away is noticed.
class Connection : public HttpConnection, public std::enable_shared_from_this<Connection> {
 public:
  Connection(Socket socket, std::shared_ptr<const ServerState> state)
      : socket_(std::move(socket)), timer_(socket_.get_executor()), state_(std::move(state)) {
    parser_.body_limit(kBodyLimit);
    parser_.header_limit(kHeaderLimit);
  }

  void start() {
    arm_timer(kRequestLimit);
    http::async_read(
        socket_, buffer_, parser_,
        [self = shared_from_this()](error_code error, size_t) { self->on_read(error); });
  }

  void close() override {
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
  }

  bool gone() const { return !socket_.is_open(); }
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

 private:
  void on_read(error_code error);
  void dispatch();

  void send(std::string bytes) {
    if (gone()) return;
    queued_ += bytes.size();
    if (queued_ > kQueueLimit && streaming_) return close();
    queue_.push_back(std::move(bytes));
    if (queue_.size() == 1) write_next();
  }

  void write_next() {
    asio::async_write(
        socket_, asio::buffer(queue_.front()),
        [self = shared_from_this()](error_code error, size_t) { self->on_written(error); });
  }

  void on_written(error_code error) {
    if (gone()) return;
    if (error) return close();
    queued_ -= queue_.front().size();
    queue_.pop_front();
    if (!queue_.empty()) return write_next();
    if (!last_) return;
    error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
    arm_timer(kLinger);
  }

  // Reads on only to see the client go (or, after the answer, to let it finish writing).
  void watch() {
    socket_.async_read_some(asio::buffer(waste_),
                            [self = shared_from_this()](error_code error, size_t) {
                              if (self->gone()) return;
                              if (error) return self->close();
                              self->watch();
                            });
  }

  void arm_timer(std::chrono::seconds limit) {
    timer_.expires_after(limit);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error) self->close();
    });
  }

  Socket socket_;
  asio::steady_timer timer_;
  std::shared_ptr<const ServerState> state_;
  boost::beast::flat_buffer buffer_{kHeaderLimit + (64 << 10)};
  http::request_parser<http::string_body> parser_;
  std::array<char, 4096> waste_{};
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
  if (gone()) return;
  timer_.cancel();
  if (!error) {
    watch();
    return dispatch();
  }
  if (error == http::error::end_of_stream || error == asio::error::eof ||
      error.category() == boost::system::system_category()) {
    return close();
  }
  watch();
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

void Connection::dispatch() {
  if (state_->closed) return close();
  auto& message = parser_.get();
  HttpRequest request;
  request.method = std::string(message.method_string());
  const auto target = message.target();
  const auto match = state_->router.route({target.data(), target.size()}, request);
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
  (*match->handler)(std::move(request), std::make_shared<ConnectionResponder>(shared_from_this()));
}

}  // namespace

std::shared_ptr<HttpConnection> serve_connection(Socket socket,
                                                 std::shared_ptr<const ServerState> state) {
  auto connection = std::make_shared<Connection>(std::move(socket), std::move(state));
  connection->start();
  return connection;
}

}  // namespace dvs
