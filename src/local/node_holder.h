// The first process of a node: it holds the node's namespaces, starts dvsd in them again and again,
// and reaps what dvsd leaves behind. Its end is the end of the node.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "local/channel.h"

namespace dvs::local {

// What the supervisor sends a new holder; the answer is {} or {"error"}, once dvsd was started.
struct NodeSpec {
  std::string name;
  std::string ip_program;
  std::string address;  // "10.88.0.1/16", for the interface eth0 which is there already
  uint64_t run_bytes = 0;
  int64_t clock_offset_s = 0;
  bool restart_dvsd = true;
  std::vector<std::string> dvsd_command;
  std::string dvsd_log;
};
Json node_spec_to_json(const NodeSpec& spec);
Result<NodeSpec> node_spec_from_json(const Json& json);

// Runs until killed; returns an exit status when the node cannot be set up. In new network, mount
// and pid namespaces, as their first process.
int run_node_holder(Channel supervisor);

}  // namespace dvs::local
