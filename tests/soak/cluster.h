// The soak's cluster, the calls that it makes, and what can be seen of the nodes from outside.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "local/local_cluster.h"
#include "soak/directory.h"

namespace dvs::soak {

constexpr const char* kDc = "soak";

// Asks again every few milliseconds. False when the time is over.
bool await(const std::function<bool()>& condition, std::chrono::milliseconds limit);

class Cluster {
 public:
  // Starts the nodes and the DC across them, and enters the cluster's network. The cluster goes
  // away with the calling process, however that ends.
  static Result<std::unique_ptr<Cluster>> start(const std::string& dir, int nodes,
                                                const std::string& writable);

  const std::vector<std::string>& nodes() const { return nodes_; }
  const Directory& directory() const { return *directory_; }
  Directory& directory() { return *directory_; }
  const std::string& dir() const { return dir_; }

  Result<Json> call(const std::string& node, const std::string& method, const std::string& target,
                    const Json& body = nullptr,
                    const std::function<void(const Json&)>& on_event = {}) const;
  Status arm(const std::string& node, const std::string& point) const;
  struct Started {
    int pid = 0;  // DC-wide
    std::string task;
  };
  Result<Started> run(const std::string& node, int endpoint,
                      const std::vector<std::string>& argv) const;
  Status signal(int endpoint, int number) const;
  // Where the directory says that the endpoint is; "" if nowhere.
  std::string place(int endpoint) const;

  // As of now: they change when a dvsd or node starts again.
  Result<local::Info> info() const { return local::info(dir_); }
  Result<local::NodeInfo> node(const std::string& name) const;
  // A path on the node, as seen from here.
  Result<std::string> path_on(const std::string& node, const std::string& path) const;
  // Runs a program in the node's network.
  Status run_in_network(const std::string& node, std::vector<std::string> argv) const;

  // Waits until every node answers, sees all others and has a link to each, and its part of the DC.
  Status await_whole() const;
  // How many live processes there are, on all nodes, of a task with this DC-wide pid. (The pid
  // alone may be another one's: a node that has lost its power gives its ids anew.)
  int copies(const Started& process) const;

  // Which fault points were come by since the last call, of each node's dvsd, and when.
  struct Fired {
    std::string node;
    int point;
    int64_t at_ns;  // CLOCK_REALTIME
  };
  std::vector<Fired> take_fired();
  // How often since the start, by number.
  const std::map<int, uint64_t>& fired_in_all() const { return fired_in_all_; }

 private:
  explicit Cluster(std::string dir) : dir_(std::move(dir)) {}
  Status enter_network() const;
  bool is_whole() const;

  const std::string dir_;
  std::string cluster_;
  std::vector<std::string> nodes_;
  std::unique_ptr<Directory> directory_;
  std::map<std::string, size_t> logs_read_;
  std::map<int, uint64_t> fired_in_all_;
};

}  // namespace dvs::soak
