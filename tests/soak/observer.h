// Whether the cluster is as it has to be while nothing moves, looked at from outside: in etcd, in
// the regions of the nodes, in /proc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "dvk/region.h"
#include "soak/cluster.h"

namespace dvs::soak {

struct ServerProcess {
  int endpoint = 0;
  Cluster::Started process;
};

class Observer {
 public:
  Observer(const Cluster& cluster, std::vector<ServerProcess> servers)
      : cluster_(cluster), servers_(std::move(servers)) {}

  // A node that is off, and not looked at.
  void leave_out(std::string node) { left_out_ = std::move(node); }
  // Every migration has an outcome and no memory is owed, each server has one copy, where the
  // directory and all regions say, and no gate is closed. Empty, or what is not so.
  std::string what_is_open();

 private:
  std::string what_is_open_in_etcd() const;
  std::string what_is_open_on(const local::NodeInfo& node);
  std::string what_is_wrong_in(const dvk::Region& region, const std::string& node) const;
  std::string copies() const;

  const Cluster& cluster_;
  const std::vector<ServerProcess> servers_;
  std::string left_out_;
  struct Mapped {
    pid_t holder = 0;
    dvk::Region region;
  };
  std::map<std::string, Mapped> regions_;
};

}  // namespace dvs::soak
