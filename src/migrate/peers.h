// Requests to the dvsd of a node, which may be this one (node/rpc.h carries them).
#pragma once

#include <chrono>
#include <string>

#include "base/executor.h"
#include "base/json.h"

namespace dvs {

class Peers {
 public:
  virtual ~Peers() = default;
  // kNotFound: the node left the cluster. kUnavailable: no link, or it broke: whether the request
  // was carried out is not known. kTimeout: likewise.
  virtual void call(const std::string& node, const std::string& call, Json args,
                    std::chrono::milliseconds timeout, Done<Json> done) = 0;
};

}  // namespace dvs
