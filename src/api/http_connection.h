// One client's connection: reads one request, dispatches it, sends the answer, closes.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <memory>

#include "api/rate_limit.h"
#include "api/router.h"

namespace dvs {

// What a connection needs of its server; `closed` is set when the server goes, after which no
// handler is called any more.
struct ServerState {
  Router router;
  bool closed = false;
  HttpLimits limits;
  std::shared_ptr<const tls::Identity> identity;  // of a server inside TLS
  std::shared_ptr<const ApiTokens> tokens;        // null: none
  std::shared_ptr<RateLimit> rate;                // null: none
};

// Owns itself by its pending operations; a Responder keeps it too.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void close() = 0;  // drops the client, answered or not
  // Closed by either side. (A Responder may keep what is left of it for as long as it likes.)
  virtual bool gone() const = 0;
  // Nobody knows yet what the client wants.
  virtual bool waits_for_request() const = 0;
};

// Takes a connected socket and serves it.
std::shared_ptr<HttpConnection> serve_connection(boost::asio::local::stream_protocol::socket socket,
                                                 std::shared_ptr<const ServerState> state);
// The same inside TLS. REQUIRES: state->identity.
std::shared_ptr<HttpConnection> serve_connection(boost::asio::ip::tcp::socket socket,
                                                 std::shared_ptr<const ServerState> state);

}  // namespace dvs
