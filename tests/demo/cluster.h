// The demo's cluster of three nodes, and the API calls the demo makes. All calls block.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"

namespace dvs::demo {

constexpr const char* kDc = "DC0";

struct Process {
  int pid = 0;
  std::string node;
};

class Cluster {
 public:
  // Starts the nodes n1 to n3 and creates the DC across them. The cluster goes away with the
  // calling process, however that ends.
  static Result<Cluster> start(const std::string& dir, const std::string& scratch, bool tls);

  // The `point` of src/migrate/faults.h fires on `node` once.
  Status arm(const std::string& node, const std::string& point) const;
  Result<Process> run(const std::string& node, int endpoint,
                      const std::vector<std::string>& argv) const;
  // The record of a migration that was started and has an outcome; an Error when it was refused.
  Result<Json> migrate(const std::string& asked, int endpoint, const std::string& target,
                       const std::function<void(const Json&)>& on_event) const;
  // kNotFound: no process has this endpoint.
  Result<Process> find(int endpoint) const;
  // SIGKILL to what runs at these endpoints; waits until the DC is empty.
  Status clear(const std::vector<int>& endpoints) const;
  // Waits until every node answers, sees all others and has a link to each.
  Status await_whole() const;
  std::string log(int endpoint) const;
  int node_id(const std::string& node) const { return ids_.at(node); }

 private:
  Result<Json> call(const std::string& node, const std::string& method, const std::string& target,
                    const Json& body = nullptr,
                    const std::function<void(const Json&)>& on_event = {}) const;
  bool is_whole() const;
  bool nothing_bound() const;

  std::map<std::string, std::string> sockets_;  // by the node's name
  std::map<std::string, int> ids_;
};

// Asks again every few milliseconds. False when the time is over.
bool await(const std::function<bool()>& condition, std::chrono::milliseconds limit);

}  // namespace dvs::demo
