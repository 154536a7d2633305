#include <sys/socket.h>
#include <sys/un.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <cstring>

#include "api/http_server.h"
#include "base/unique_fd.h"

namespace dvs {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

constexpr uint64_t kAnswerLimit = 256 << 20;

Result<UniqueFd> connect_to(const HttpCall& call) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (call.socket_path.empty() || call.socket_path.size() >= sizeof(address.sun_path)) {
    return Error(Code::kInvalid, "not a socket's path: '" + call.socket_path + "'");
  }
  std::memcpy(address.sun_path, call.socket_path.c_str(), call.socket_path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return errno_error("cannot open a socket");
  const auto ms = call.silence.count();
  const timeval limit{.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    return fd;
  }
  const Error error = errno_error("cannot reach " + call.socket_path);
  return error.code() == Code::kDenied ? error : Error(Code::kUnavailable, error.message());
}

// An error in the middle is left for the reading side to report: the server may have answered
// before it read everything.
void send_request(int fd, const HttpCall& call) {
  const std::string body = call.body.is_null() ? "" : to_text(call.body);
  const std::string text = call.method + " " + call.target +
                           " HTTP/1.1\r\nHost: dvsd\r\nContent-Type: application/json\r\n"
                           "Content-Length: " +
                           std::to_string(body.size()) + "\r\n\r\n" + body;
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n = ::send(fd, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    sent += static_cast<size_t>(n);
  }
}

// Reads an answer piece by piece and hands out its lines as they come.
class AnswerReader {
 public:
  explicit AnswerReader(const HttpCall& call) : call_(call) {
    parser_.body_limit(kAnswerLimit);
    parser_.eager(true);
  }

  Result<HttpAnswer> read(int fd) {
    while (!parser_.is_done()) {
      DVS_ASSIGN(const bool more, receive(fd));
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
  Result<bool> receive(int fd) {
    const size_t old = raw_.size();
    raw_.resize(old + 65536);
    ssize_t n = 0;
    do {
      n = ::recv(fd, raw_.data() + old, raw_.size() - old, 0);
    } while (n < 0 && errno == EINTR);
    raw_.resize(old + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n >= 0) return n > 0;
    if (errno == EAGAIN) {
      return cut_off("silence for " + std::to_string(call_.silence.count()) + " ms");
    }
    return cut_off(std::strerror(errno));
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
  DVS_ASSIGN(const UniqueFd fd, connect_to(call));
  send_request(fd.get(), call);
  return AnswerReader(call).read(fd.get());
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
