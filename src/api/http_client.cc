#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>

#include "api/http_server.h"
#include "base/unique_fd.h"

namespace dvs {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr uint64_t kAnswerLimit = 256 << 20;

void limit_silence(int fd, std::chrono::milliseconds silence) {
  const auto ms = silence.count();
  const timeval limit{.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

// What makes a request impossible is one of these; the rest: the server is not there now.
Error unreachable(const Error& error) {
  const bool as_it_is = error.code() == Code::kDenied || error.code() == Code::kInvalid;
  return as_it_is ? error : Error(Code::kUnavailable, error.message());
}

Result<UniqueFd> connect_local(const HttpCall& call) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (call.socket_path.empty() || call.socket_path.size() >= sizeof(address.sun_path)) {
    return Error(Code::kInvalid, "not a socket's path: '" + call.socket_path + "'");
  }
  std::memcpy(address.sun_path, call.socket_path.c_str(), call.socket_path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("cannot open a socket");
  limit_silence(fd.get(), call.silence);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return fd;
  }
  return unreachable(errno_error("cannot reach " + call.socket_path));
}

// The first of the host's addresses that takes the connection.
Result<UniqueFd> connect_tcp(const HttpsTarget& to, std::chrono::milliseconds silence) {
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const std::string port = std::to_string(to.port);
  const std::string where = to.host + ":" + port;
  if (const int failed = ::getaddrinfo(to.host.c_str(), port.c_str(), &wanted, &list);
      failed != 0) {
    return Error(Code::kUnavailable, "cannot find " + to.host + ": " + ::gai_strerror(failed));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> found(list, &::freeaddrinfo);
  Error error(Code::kUnavailable, "cannot reach " + where);
  for (const addrinfo* each = list; each != nullptr; each = each->ai_next) {
    UniqueFd fd(::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd.valid()) continue;
    limit_silence(fd.get(), silence);
    if (::connect(fd.get(), each->ai_addr, each->ai_addrlen) == 0) return fd;
    error = Error(Code::kUnavailable, errno_error("cannot reach " + where).message());
  }
  return error;
}

// A connection to the server, plain or inside TLS.
class Connection {
 public:
  static Result<Connection> open(const HttpCall& call) {
    Connection connection;
    if (!call.https) {
      DVS_ASSIGN(connection.fd_, connect_local(call));
      return connection;
    }
    DVS_ASSIGN(connection.fd_, connect_tcp(*call.https, call.silence));
    auto tls = tls::Client::open(connection.fd_.get(), call.https->trust);
    if (!tls.ok()) return unreachable(tls.error().context(call.https->host));
    connection.tls_ = std::move(*tls);
    return connection;
  }

  // An error in the middle is left for the reading side to report: the server may have answered
  // before it read everything.
  void write(std::string_view text) {
    if (tls_ != nullptr) return (void)tls_->write(text);
    while (!text.empty()) {
      const ssize_t n = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      text.remove_prefix(static_cast<size_t>(n));
    }
  }

  // 0: the end. kTimeout: silence; kDenied: the server refuses our certificate.
  Result<size_t> read(std::span<char> to) {
    if (tls_ != nullptr) return tls_->read(to);
    ssize_t n = 0;
    do {
      n = ::recv(fd_.get(), to.data(), to.size(), 0);
    } while (n < 0 && errno == EINTR);
    if (n >= 0) return static_cast<size_t>(n);
    return errno == EAGAIN ? Error(Code::kTimeout, "silence") : errno_error("it broke");
  }

 private:
  UniqueFd fd_;
  std::unique_ptr<tls::Client> tls_;
};

void send_request(Connection& connection, const HttpCall& call) {
  const std::string body = call.body.is_null() ? "" : to_text(call.body);
  const std::string token = call.https ? call.https->token : "";
  connection.write(call.method + " " + call.target +
                   " HTTP/1.1\r\nHost: " + (call.https ? call.https->host : "dvsd") +
                   (token.empty() ? "" : "\r\nAuthorization: Bearer " + token) +
                   "\r\nContent-Type: application/json\r\nContent-Length: " +
                   std::to_string(body.size()) + "\r\n\r\n" + body);
}

// Reads an answer piece by piece and hands out its lines as they come.
class AnswerReader {
 public:
  explicit AnswerReader(const HttpCall& call) : call_(call) {
    parser_.body_limit(kAnswerLimit);
    parser_.eager(true);
  }

  Result<HttpAnswer> read(Connection& connection) {
    while (!parser_.is_done()) {
      DVS_ASSIGN(const bool more, receive(connection));
      DVS_TRY(parse(more));
      DVS_TRY(take_lines(parser_.is_done()));
      if (!more && !parser_.is_done()) return cut_off("the server closed the connection");
    }
    answer_.status = parser_.get().result_int();
    return answer_;
  }

 private:
  Error cut_off(const std::string& why) const {
    return Error(Code::kTimeout, "no complete answer: " + why);
  }

  // False at the end of the stream.
  Result<bool> receive(Connection& connection) {
    const size_t old = raw_.size();
    raw_.resize(old + 65536);
    const auto count = connection.read(std::span(raw_).subspan(old));
    raw_.resize(old + (count.ok() ? *count : 0));
    if (count.ok()) return *count > 0;
    if (count.error().code() == Code::kDenied) return count.error();
    if (count.error().code() != Code::kTimeout) return cut_off(count.error().message());
    return cut_off("silence for " + std::to_string(call_.silence.count()) + " ms");
  }

  Status parse(bool more) {
    error_code error;
    while (!raw_.empty() && !parser_.is_done()) {
      const size_t used = parser_.put(boost::asio::buffer(raw_), error);
      raw_.erase(0, used);
      if (error == http::error::need_more) break;
      if (error) return Error(Code::kCorrupt, "not an HTTP answer: " + error.message());
    }
    if (!more && parser_.is_header_done() && !parser_.is_done()) parser_.put_eof(error);
    return {};
  }

  // Consumes the complete lines of the body; at the end what is left is a line too.
  Status take_lines(bool at_end) {
    std::string& body = parser_.get().body();
    size_t begin = 0;
    for (size_t end; (end = body.find('\n', begin)) != std::string::npos; begin = end + 1) {
      DVS_TRY(take_line({body.data() + begin, end - begin}));
    }
    body.erase(0, begin);
    return at_end && !body.empty() ? take_line(body) : Status();
  }

  Status take_line(std::string_view line) {
    auto json = parse_json(line);
    if (!json.ok()) return json.error().context("the server's answer");
    answer_.body = std::move(*json);
    const bool stream = parser_.get()[http::field::content_type] == "application/x-ndjson";
    if (stream && call_.on_event && !answer_.error()) call_.on_event(answer_.body);
    return {};
  }

  const HttpCall& call_;
  http::response_parser<http::string_body> parser_;
  std::string raw_;  // received, not yet parsed
  HttpAnswer answer_;
};

}  // namespace

std::optional<Error> HttpAnswer::error() const {
  if (body.is_object() && body.contains("error")) return error_from_json(body.at("error"));
  if (status < 400) return std::nullopt;
  return Error(Code::kInternal, "HTTP status " + std::to_string(status));
}

Result<HttpAnswer> http_exchange(const HttpCall& call) {
  DVS_ASSIGN(Connection connection, Connection::open(call));
  send_request(connection, call);
  return AnswerReader(call).read(connection);
}

Result<HttpAnswer> http_call(const std::string& socket_path, const std::string& method,
                             const std::string& target, const Json& body,
                             const std::function<void(const Json&)>& on_event) {
  HttpCall call;
  call.socket_path = socket_path;
  call.method = method;
  call.target = target;
  call.body = body;
  call.on_event = on_event;
  DVS_ASSIGN(HttpAnswer answer, http_exchange(call));
  if (const auto error = answer.error()) return *error;
  return answer;
}

}  // namespace dvs
