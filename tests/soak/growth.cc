#include "soak/growth.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "container/paths.h"

namespace dvs::soak {
namespace {

namespace fs = std::filesystem;

struct Bound {
  const char* what;
  int64_t constant;
  double per_migration;
};
// By how much each may grow. Each dvsd keeps the records of all migrations in memory; the first
// process of a DC part writes a line for each process that ends, which is every helper of a
// migration.
constexpr Bound kBounds[] = {
    {"descriptors of a dvsd", 6, 0},
    {"memory of a dvsd, KiB", 8192, 6},
    {"processes", 0, 0},
    {"mounts", 0, 0},
    {"network namespaces", 0, 0},
    {"cgroups", 0, 0},
    {"files below /run/dvs", 4, 0},
    {"KiB below /run/dvs", 512, 0.5},
    {"migrations with images", 0, 0},
    {"keys in etcd", 0, 0},
    {"KiB of etcd's data", 1 << 18, 16},
};

int64_t entries_of(const std::string& directory) {
  const auto list = list_dir(directory);
  return list.ok() ? static_cast<int64_t>(list->size()) : 0;
}

int64_t resident_kib(pid_t pid) {
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
  const size_t at = status.ok() ? status->find("VmRSS:") : std::string::npos;
  return at == std::string::npos ? 0 : std::strtoll(status->c_str() + at + 6, nullptr, 10);
}

int64_t lines_of(const std::string& path) {
  const auto text = read_file(path);
  return text.ok() ? std::count(text->begin(), text->end(), '\n') : 0;
}

void add_tree(const std::string& path, int64_t& files, int64_t& bytes) {
  std::error_code ec;
  for (fs::recursive_directory_iterator it(path, ec), end; !ec && it != end; it.increment(ec)) {
    ++files;
    std::error_code gone;
    const auto size = it->is_regular_file(gone) ? it->file_size(gone) : 0;
    if (!gone) bytes += static_cast<int64_t>(size);
  }
}

void add_node(const local::NodeInfo& node, Footprint& sum, std::set<std::string>& networks) {
  const std::string root = "/proc/" + std::to_string(node.holder_pid) + "/root";
  const std::string dvsd = "/proc/" + std::to_string(node.dvsd_pid);
  const auto most = [&](const char* what, int64_t value) {
    sum[what] = std::max(sum[what], value);
  };
  most("descriptors of a dvsd", entries_of(dvsd + "/fd"));
  most("memory of a dvsd, KiB", resident_kib(node.dvsd_pid));
  sum["mounts"] += lines_of(dvsd + "/mounts");
  const auto pids = list_dir(root + "/proc");
  for (const std::string& pid : pids.ok() ? *pids : std::vector<std::string>{}) {
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    const auto network = fs::read_symlink(root + "/proc/" + pid + "/ns/net", gone);
    if (gone) continue;  // a zombie too
    ++sum["processes"];
    networks.insert(network.string());
  }
  sum["migrations with images"] +=
      entries_of(root + paths::engine_dir(paths::dc_dir("/run/dvs", kDc)));
  int64_t bytes = 0;
  add_tree(root + "/run/dvs", sum["files below /run/dvs"], bytes);
  sum["KiB below /run/dvs"] += bytes >> 10;
}

}  // namespace

Footprint take_footprint(const Cluster& cluster) {
  Footprint sum;
  const auto info = cluster.info();
  if (!info.ok()) return sum;
  std::set<std::string> networks;
  for (const local::NodeInfo& node : info->nodes) add_node(node, sum, networks);
  sum["network namespaces"] = static_cast<int64_t>(networks.size());
  for (const char* mount : {"/sys/fs/cgroup/freezer", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    std::error_code ec;
    fs::recursive_directory_iterator it(std::string(mount) + "/dvs/" + info->cluster, ec);
    for (fs::recursive_directory_iterator end; !ec && it != end; it.increment(ec)) {
      std::error_code gone;
      sum["cgroups"] += it->is_directory(gone) ? 1 : 0;
    }
  }
  sum["keys in etcd"] = static_cast<int64_t>(cluster.directory().keys());
  int64_t files = 0;
  int64_t bytes = 0;
  add_tree(cluster.dir() + "/etcd", files, bytes);
  sum["KiB of etcd's data"] = bytes >> 10;
  return sum;
}

std::vector<Growth> compare(const Footprint& before, const Footprint& after, uint64_t migrations) {
  std::vector<Growth> all;
  const auto value = [](const Footprint& footprint, const char* what) {
    const auto found = footprint.find(what);
    return found == footprint.end() ? 0 : found->second;
  };
  for (const Bound& bound : kBounds) {
    const int64_t was = value(before, bound.what);
    const auto more = static_cast<int64_t>(bound.per_migration * static_cast<double>(migrations));
    all.push_back({bound.what, was, value(after, bound.what), was + bound.constant + more});
  }
  return all;
}

}  // namespace dvs::soak
