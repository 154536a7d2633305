// The HTTP/JSON server behind the CLI: routes, typed answers, streams of events. Speaks over a
// unix socket; what each route means is in docs/api.md and in src/node/routes.cc.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/executor.h"
#include "base/json.h"

namespace dvs {

struct HttpRequest {
  std::string method;
  std::string path;
  std::map<std::string, std::string> query;  // decoded
  std::vector<std::string> params;           // what the route's {} matched, decoded
  Json body;                                 // an object; {} when the request had none
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
  // Path segments; "{}" matches one: add("GET", "/v1/dcs/{}", ...).
  virtual void add(const std::string& method, const std::string& path, HttpHandler handler) = 0;
};

// Where a node's dvsd listens, unless it is told otherwise.
constexpr const char* kNodeSocket = "/run/dvs/dvsd.sock";

// Listens on a unix socket (an old socket file of a dead server is replaced; mode 0660). Bodies
// over 1 MiB, bad JSON, unknown routes and wrong methods are answered by the server itself.
// kConflict: somebody listens there already. The lock that decides it is the file
// SOCKET_PATH.lock, which stays behind and means nothing when nobody holds it.
// Closing the server closes its connections: their clients see an answer cut off.
Result<std::unique_ptr<HttpServer>> open_http_server(Executor& executor,
                                                     const std::string& socket_path);

// ---- client side, blocking; what the CLI and tests use -----------------------------------------

struct HttpAnswer {
  int status = 0;
  Json body;  // the last line of a stream
  // The {"error"} of the answer, whatever its status; also that of a stream's last line.
  std::optional<Error> error() const;
};

struct HttpCall {
  std::string socket_path;
  std::string method;
  std::string target;                         // path and query, encoded
  Json body;                                  // null: none
  std::function<void(const Json&)> on_event;  // called for each line of a stream as it comes
  // How long the server may stay silent; 0: for ever.
  std::chrono::milliseconds silence{0};
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
