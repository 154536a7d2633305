// The HTTP/JSON server behind the CLI: routes, typed answers, streams of events. Speaks over a unix
// socket, whose file says who may do everything, or inside TLS, where each caller has a role; what
// each route means is in docs/api.md and in src/node/routes.cc.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/access.h"
#include "base/executor.h"
#include "base/json.h"
#include "tls/client.h"
#include "tls/session.h"

namespace dvs {

struct HttpRequest {
  std::string method;
  std::string path;
  std::map<std::string, std::string> query;  // decoded
  std::vector<std::string> params;           // what the route's {} matched, decoded
  Json body;                                 // an object; {} when the request had none
  Caller caller;
};

// Answers one request: either with reply()/fail() once, or with a stream of JSON lines. May be
// kept and used later, on the Executor's thread; when the client has gone, calls do nothing.
// Destroyed without an answer: 500.
class Responder {
 public:
  virtual ~Responder() = default;
  virtual void reply(const Json& body, int status = 200) = 0;
  // {"error": {"code", "message"}} with the HTTP status that fits the code (400 invalid, 404
  // not_found, 409 conflict, 503 unavailable, 504 timeout, 501 unsupported, 403 denied,
  // 507 no_space, 500 the rest). After an event() it becomes the last line of the stream.
  virtual void fail(const Error& error) = 0;
  // application/x-ndjson, chunked: each event() is one line, sent at once. A client that lets
  // more than a few MiB pile up is cut off (it is "gone" then).
  virtual void event(const Json& line) = 0;
  virtual void end_events() = 0;
  virtual bool client_gone() const = 0;
};

using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<Responder>)>;

class HttpServer {
 public:
  virtual ~HttpServer() = default;
  // Path segments; "{}" matches one: add("GET", "/v1/dcs/{}", ...). Callers of a lesser role are
  // answered 403, those of none 401, whatever they ask for.
  virtual void add(const std::string& method, const std::string& path, HttpHandler handler,
                   Role role = Role::kAdmin) = 0;
  virtual uint16_t port() const = 0;  // 0: of a unix socket
};

// Where a node's dvsd listens, unless it is told otherwise.
constexpr const char* kNodeSocket = "/run/dvs/dvsd.sock";

// Listens on a unix socket (an old socket file of a dead server is replaced). It can be opened by
// its owner, and by those of `group` if one is named (kNotFound: there is no such group); who can,
// may do everything. Bodies over 1 MiB, bad JSON, unknown routes and wrong methods are answered by
// the server itself. kConflict: somebody listens there already. The lock that decides it is the
// file SOCKET_PATH.lock, which stays behind and means nothing when nobody holds it.
// Closing the server closes its connections: their clients see an answer cut off.
Result<std::unique_ptr<HttpServer>> open_http_server(Executor& executor,
                                                     const std::string& socket_path,
                                                     const std::string& group = {});

// How much of a server those can take who have not yet said what they want, and those who have.
struct HttpLimits {
  std::chrono::milliseconds request{10'000};  // for a whole request, handshake included, to arrive
  size_t clients = 256;  // at a time; then the oldest of those without a request has to go
  // Of each caller inside TLS, who has a name; more is answered 429. 0: as many as he likes.
  double requests_per_second = 200;
};

// Listens on TCP, for TLS 1.3. A caller is who his certificate says, by a role as its unit, or else
// who his bearer token says; one whose certificate is not of the cluster's authority is not heard.
// kInvalid, kConflict: the address.
struct HttpsOptions {
  std::string address;
  uint16_t port = 0;  // 0: any; see HttpServer::port()
  std::shared_ptr<const tls::Identity> identity;
  std::shared_ptr<const ApiTokens> tokens;  // null: none
  HttpLimits limits = {};
};
Result<std::unique_ptr<HttpServer>> open_https_server(Executor& executor, HttpsOptions options);

// ---- client side, blocking; what the CLI and tests use -----------------------------------------

struct HttpAnswer {
  int status = 0;
  Json body;  // the last line of a stream
  // The {"error"} of the answer, whatever its status; also that of a stream's last line.
  std::optional<Error> error() const;
};

// A server on TCP, and how it and the client prove to each other who they are.
struct HttpsTarget {
  std::string host;  // a name or a numeric address
  uint16_t port = 0;
  tls::Trust trust;
  std::string token;  // empty: none
};
// "https://host:port", or "host:port"; IPv6 addresses in brackets. kInvalid: neither.
Result<HttpsTarget> parse_https_target(std::string_view text);

struct HttpCall {
  std::string socket_path;
  std::string method;
  std::string target;                         // path and query, encoded
  Json body;                                  // null: none
  std::function<void(const Json&)> on_event;  // called for each line of a stream as it comes
  // How long the server may stay silent; 0: for ever.
  std::chrono::milliseconds silence{0};
  std::optional<HttpsTarget> https = std::nullopt;  // instead of socket_path
};

// One request, and whatever the server answered to it. Errors are about the way there and back:
// kUnavailable (kDenied, kInvalid): the request was not sent; kTimeout: it was, but the answer was
// cut off or did not come in time, so its effect is unknown; kCorrupt: the answer makes no sense.
Result<HttpAnswer> http_exchange(const HttpCall& call);

// The same for callers to whom an {"error"} in the answer is an error like any other.
// kUnavailable: nobody listens there.
Result<HttpAnswer> http_call(const std::string& socket_path, const std::string& method,
                             const std::string& target, const Json& body,
                             const std::function<void(const Json&)>& on_event = {});

// Encodes a name for use in a target's path or query ("a b/c" -> "a%20b%2Fc").
std::string url_encode(std::string_view text);
// kInvalid for a broken %XX.
Result<std::string> url_decode(std::string_view text);

}  // namespace dvs
