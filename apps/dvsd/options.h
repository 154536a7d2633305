// The command line of dvsd.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "node/context.h"

namespace dvs::daemon {

struct Address {
  std::string address;
  uint16_t port = 0;
};

struct Options {
  NodeConfig node;
  std::string listen;
  EtcdOptions etcd;
  std::string socket = kNodeSocket;
  std::string group;  // of the socket
  std::string api_listen;
  Address api;  // empty: not wanted
  std::string api_tokens;
  std::string criu;
  tls::Files tls;
  bool plain = false;
};

// Exits with the status, if there is one: what was wrong, or asked for, has been printed.
std::optional<int> parse(int argc, char** argv, Options& options);

// What the options say together; completes them. kInvalid says what to do.
Status check(Options& options);

}  // namespace dvs::daemon
