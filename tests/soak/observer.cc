#include "soak/observer.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "container/paths.h"
#include "dvk/rendezvous.h"

namespace dvs::soak {
namespace {

// As dvsd has it without --run-dir.
std::string region_on(const local::NodeInfo& node) {
  const std::string dir = paths::dc_dir("/run/dvs", kDc);
  return fmt::format("/proc/{}/root{}", node.holder_pid, paths::region(dir));
}

}  // namespace

std::string Observer::what_is_open_in_etcd() const {
  if (cluster_.directory().locks() != 0) return "a task is locked by a migration";
  for (const auto& [id, record] : cluster_.directory().migrations()) {
    if (is_open(record.state)) return fmt::format("{} is {}", id, state_name(record.state));
    if (record.memory == OwedMemory::kOwed) return id + " owes memory";
  }
  return "";
}

std::string Observer::what_is_wrong_in(const dvk::Region& region, const std::string& node) const {
  for (const ServerProcess& server : servers_) {
    const dvk::Descriptor& d = region.at(region.slot_of(server.endpoint));
    const std::string place = cluster_.place(server.endpoint);
    if (place.empty()) return fmt::format("endpoint {} is not bound", server.endpoint);
    if (dvk::is_migrating(d)) return fmt::format("{} has {}'s gate closed", node, server.endpoint);
    const auto kind = static_cast<dvk::Kind>(d.kind.load());
    const auto expected = node == place ? dvk::Kind::kLocal : dvk::Kind::kRemote;
    if (kind != expected ||
        cluster_.directory().node(static_cast<NodeId>(d.node.load())) != place) {
      return fmt::format("{} sees {} as kind {} on node {}, it is on {}", node, server.endpoint,
                         d.kind.load(), d.node.load(), place);
    }
  }
  return "";
}

std::string Observer::what_is_open_on(const local::NodeInfo& node) {
  if (node.holder_pid == 0) return node.name + " is off";
  Mapped& mapped = regions_[node.name];
  if (mapped.holder != node.holder_pid) {
    auto region = dvk::Region::open(region_on(node));
    if (!region.ok()) return node.name + ": " + region.error().message();
    mapped = {node.holder_pid, std::move(*region)};
  }
  return what_is_wrong_in(mapped.region, node.name);
}

std::string Observer::copies() const {
  for (const ServerProcess& server : servers_) {
    const int found = cluster_.copies(server.process);
    if (found != 1) return fmt::format("endpoint {} has {} copies", server.endpoint, found);
  }
  return "";
}

std::string Observer::what_is_open() {
  std::string open = what_is_open_in_etcd();
  if (!open.empty()) return open;
  const auto info = cluster_.info();
  if (!info.ok()) return info.error().message();
  for (const local::NodeInfo& node : info->nodes) {
    if (node.name == left_out_) continue;
    if (open = what_is_open_on(node); !open.empty()) return open;
  }
  return copies();
}

}  // namespace dvs::soak
