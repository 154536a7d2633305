// Where an etcd server listens.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <vector>

#include "base/executor.h"

namespace dvs {

struct Endpoint {
  boost::asio::ip::tcp::endpoint address;
  std::string authority;  // "host:port", as the Host header and messages want it
};

// The addresses of "http://host:port"; host is a name, an IPv4 address or an IPv6 address in
// brackets. Blocks only to look up a name. kInvalid: another form; kUnavailable: unknown name.
Result<std::vector<Endpoint>> resolve_endpoint(Executor& executor, const std::string& url);

}  // namespace dvs
