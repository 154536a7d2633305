#include "soak/trouble.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"

namespace dvs::soak {
namespace {

Outcome done_now() { return {true, realtime_ns(), ""}; }

Status send_signal(pid_t pid, int number) {
  if (pid <= 0 || ::kill(pid, number) != 0) return errno_error("cannot send a signal");
  return {};
}

}  // namespace

std::string Troublemaker::any_node() const {
  return cluster_.nodes()[plan_.dice % cluster_.nodes().size()];
}

// "" if no node has the role.
std::string Troublemaker::node_for_point() const {
  const MigrationRole role = plan_.point->role;
  if (role == MigrationRole::kSource) return leg_.source;
  if (role == MigrationRole::kTarget) return leg_.target;
  if (role == MigrationRole::kCoordinator) return leg_.asked;
  if (role == MigrationRole::kKeeper) return leg_.file_server;
  for (const std::string& node : cluster_.nodes()) {
    if (node != leg_.source && node != leg_.target && node != leg_.file_server) return node;
  }
  return "";
}

Status Troublemaker::arm() {
  if (plan_.kind != Trouble::kPoint) return {};
  if (wants_failure(*plan_.point)) DVS_TRY(cluster_.arm(leg_.target, "restore"));
  const std::string node = node_for_point();
  return node.empty() ? Status() : cluster_.arm(node, std::string(plan_.point->name));
}

// The moments are part of the plan: nothing is waited for.
void Troublemaker::wait_for_the_moment() const {
  std::this_thread::sleep_for(std::chrono::microseconds(plan_.after_us));
}
void Troublemaker::last() const {
  std::this_thread::sleep_for(std::chrono::milliseconds(plan_.lasts_ms));
}

Result<Outcome> Troublemaker::make(const std::function<bool()>& is_over) {
  switch (plan_.kind) {
    case Trouble::kNone:
      return Outcome();
    case Trouble::kPoint:
      return await_point(is_over);
    case Trouble::kCanceled:
      return cancel(is_over);
    default:
      break;
  }
  wait_for_the_moment();
  switch (plan_.kind) {
    case Trouble::kDvsdKilled:
      return kill_dvsd(any_node());
    case Trouble::kNetworkCut:
      return cut_network();
    case Trouble::kEtcdStopped:
      return stop_etcd();
    case Trouble::kEtcdKilled:
      return kill_etcd();
    case Trouble::kNodeOff: {
      DVS_TRY(local::kill_node(cluster_.dir(), leg_.source));
      return Outcome{true, realtime_ns(), leg_.source};
    }
    default:
      return Outcome();
  }
}

Outcome Troublemaker::await_point(const std::function<bool()>& is_over) {
  Outcome outcome;
  const auto look = [&] {
    for (const Cluster::Fired& fired : cluster_.take_fired()) {
      if (!outcome.done) outcome = {true, fired.at_ns, ""};
    }
    return outcome.done;
  };
  while (!is_over()) {
    if (look()) return outcome;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  look();
  return outcome;
}

Status Troublemaker::disarm() {
  const std::string node = node_for_point();
  if (node.empty()) return {};
  DVS_TRY(kill_dvsd(node));
  if (wants_failure(*plan_.point) && node != leg_.target) DVS_TRY(kill_dvsd(leg_.target));
  return {};
}

Result<Outcome> Troublemaker::kill_dvsd(const std::string& name) const {
  DVS_ASSIGN(const local::NodeInfo node, cluster_.node(name));
  DVS_TRY(send_signal(node.dvsd_pid, SIGKILL));
  return done_now();
}

Result<Outcome> Troublemaker::cut_network() const {
  DVS_TRY(cluster_.run_in_network(any_node(), {"ip", "link", "set", "eth0", "down"}));
  last();
  DVS_TRY(cluster_.run_in_network(any_node(), {"ip", "link", "set", "eth0", "up"}));
  return done_now();
}

Result<Outcome> Troublemaker::stop_etcd() const {
  DVS_ASSIGN(const local::Info info, cluster_.info());
  DVS_TRY(send_signal(info.etcd_pid, SIGSTOP));
  last();
  DVS_TRY(send_signal(info.etcd_pid, SIGCONT));
  return done_now();
}

Result<Outcome> Troublemaker::kill_etcd() const {
  DVS_TRY(local::stop_etcd(cluster_.dir()));
  last();
  DVS_TRY(local::start_etcd(cluster_.dir()));
  return done_now();
}

Result<Outcome> Troublemaker::cancel(const std::function<bool()>& is_over) const {
  while (!is_over()) {
    for (const auto& [id, record] : cluster_.directory().migrations()) {
      if (!is_open(record.state)) continue;
      std::this_thread::sleep_for(std::chrono::microseconds(plan_.after_us / 8));
      const auto answer = cluster_.call(any_node(), "POST", "/v1/migrations/" + id + "/cancel");
      return answer.ok() ? done_now() : Outcome();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return Outcome();
}

}  // namespace dvs::soak
