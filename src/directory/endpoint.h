// Where an etcd server listens.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"

namespace dvs {

struct Endpoint {
  boost::asio::ip::tcp::endpoint address;
  std::string authority;  // "host:port", as the Host header and messages want it
  std::string host;       // without the brackets of IPv6
  std::shared_ptr<boost::asio::ssl::context> tls = nullptr;  // null: plain
};

// Whether it begins with https://.
bool wants_tls(const std::string& url);

// The addresses of "http://host:port" or "https://host:port"; host is a name, an IPv4 address or an
// IPv6 address in brackets. Blocks only to look up a name. kInvalid: another form; kUnavailable:
// unknown name.
Result<std::vector<Endpoint>> resolve_endpoint(Executor& executor, const std::string& url);

}  // namespace dvs
