// The process everything of a local cluster lives below: the first process of its own pid
// namespace, with the hub of the network, etcd and the nodes as its children.
#pragma once

#include <string>

#include "local/channel.h"

namespace dvs::local {

// Creates the namespaces and a supervisor in them, writes pid_file(dir), and returns; the
// supervisor then goes on by itself, with its log in `dir`.
Status launch_supervisor(const std::string& dir, int caller_channel);

// The supervisor. Tells `caller` {"progress"} lines and then {"ready"} or {"error"}. From then on
// it serves control_socket(dir). When `caller` goes away without having said {"detach"}, it takes
// the whole cluster down, with its files.
int run_supervisor(const std::string& dir, Channel caller);

}  // namespace dvs::local
