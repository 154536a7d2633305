// One node of a DC without a cluster: a region file, and a thread that binds and unbinds endpoints
// as dvsd does, but without a directory. Programs find it by $DVK_REGION, which is set here.
// Processes of the test are started by it; they find it, too.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "dvk/node_view.h"

namespace dvs::testing {

class OneNode {
 public:
  // The one of this program: a process maps a region once, for good.
  static OneNode& instance();

  const dvk::Region& region() const { return region_; }
  void bind(int endpoint, pid_t pid, pid_t tid);
  void bind(int endpoint, pid_t pid) { bind(endpoint, pid, pid); }
  void bind_me(int endpoint);
  void unbind(int endpoint);
  bool is_bound(int endpoint) const;
  // Waits until the endpoint's process waits for a message. False: it did not within ten seconds.
  bool await_waiting(int endpoint) const;

  // A forked process that runs `body` and exits with what it returns. It dies with this one.
  pid_t start(const std::function<int()>& body);
  // A program, with its arguments.
  pid_t start_program(const std::vector<std::string>& argv);
  // Its exit status, or -1 when a signal ended it: that of `limit` is SIGKILL. Its endpoints are
  // unbound, as dvsd does when a process has ended.
  int finish(pid_t pid, std::chrono::seconds limit = std::chrono::seconds(30));

 private:
  OneNode();
  ~OneNode();
  void serve();
  void serve_request(dvk::ControlSlot& slot);
  int serve_bind(int kind, int pid, int endpoint);
  void clean_up_after(pid_t pid);

  std::string path_;
  dvk::Region region_;
  std::mutex mutex_;  // of who writes identities
  uint64_t incarnation_ = 0;
  std::atomic<bool> stop_ = false;
  std::thread binder_;
};

}  // namespace dvs::testing
