// Does what is planned to go wrong in a round.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "soak/cluster.h"
#include "soak/plan.h"

namespace dvs::soak {

// The first migration of a server in a round.
struct Leg {
  std::string algorithm;
  std::string source, target, file_server, asked;
  bool slow = false;
};

// How it went.
struct Outcome {
  bool done = false;     // false: it came to nothing
  int64_t at_ns = 0;     // CLOCK_REALTIME: when it happened, or when it was over if it lasts
  std::string node_off;  // the node that has to be started again
};

class Troublemaker {
 public:
  Troublemaker(Cluster& cluster, const FaultPlan& plan, const Leg& leg)
      : cluster_(cluster), plan_(plan), leg_(leg) {}

  // Before anything moves. Returns the error of what could not be prepared.
  Status arm();
  // While it moves; returns when it is over, or when `is_over` says that nothing moves any more.
  Result<Outcome> make(const std::function<bool()>& is_over);
  // A point that was not come by is not left armed: its dvsd is killed.
  Status disarm();

 private:
  std::string node_for_point() const;
  std::string any_node() const;
  Outcome await_point(const std::function<bool()>& is_over);
  Result<Outcome> kill_dvsd(const std::string& node) const;
  Result<Outcome> cut_network() const;
  Result<Outcome> cancel(const std::function<bool()>& is_over) const;
  Result<Outcome> stop_etcd() const;
  Result<Outcome> kill_etcd() const;
  void wait_for_the_moment() const;
  void last() const;

  Cluster& cluster_;
  const FaultPlan& plan_;
  const Leg& leg_;
};

}  // namespace dvs::soak
