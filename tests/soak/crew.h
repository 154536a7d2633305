// The servers and clients of the soak and their histories, which a thread reads all the time.
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "soak/checker.h"
#include "soak/cluster.h"
#include "soak/observer.h"
#include "soak/plan.h"

namespace dvs::soak {

class Crew {
 public:
  // `programs`: where the programs are; `scratch`: for the histories.
  Crew(const Cluster& cluster, const Options& options, std::string programs, std::string scratch);
  ~Crew();

  // The servers, on the nodes in turn, and a client on each node.
  Status start();
  Status start_client(const std::string& node);
  // Has it end by itself, and looks at the last of what it did.
  Status end_client(const std::string& node);
  Status end_clients();

  const std::vector<ServerProcess>& servers() const { return servers_; }
  Checker& checker() { return checker_; }

 private:
  struct Client {
    uint32_t id = 0;
    int endpoint = 0;
    History* history = nullptr;
    std::string path;
  };
  Status start_server(int index);
  Result<History*> make_history(const std::string& path) const;

  const Cluster& cluster_;
  const Options& options_;
  const std::string programs_;
  const std::string scratch_;
  Checker checker_;
  std::vector<ServerProcess> servers_;
  std::map<std::string, Client> clients_;  // by node
  uint32_t last_id_ = 0;
  std::atomic<bool> over_ = false;
  std::thread reader_;
};

}  // namespace dvs::soak
