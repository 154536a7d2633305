// The first frame on a link in each direction: who speaks, from which cluster, to whom.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace dvs {

constexpr size_t kMaxHello = 4096;  // bytes of a hello's body

struct Hello {
  std::string cluster;
  NodeId node = 0;
  std::string name;
  uint64_t incarnation = 0;
  NodeId to = 0;  // the node meant, so that a wrong address is noticed before the link is up
};

std::string encode_hello(const Hello& hello);

// What a hello to node `self` of `cluster` says, or why it is refused (kCorrupt: no hello at all,
// kDenied: not for us). Messages are safe to log: nothing of the peer's is in them unescaped.
Result<Hello> check_hello(std::string_view body, const std::string& cluster, NodeId self);

}  // namespace dvs
