// The cluster's etcd, as a child of the supervisor, which reaps it.
#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "local/layout.h"

namespace dvs::local {

class Etcd {
 public:
  explicit Etcd(const Config& config) : config_(config) {}

  pid_t pid() const { return pid_; }  // 0: not running

  // Returns when it answers, 10 s at most. Fine when it runs.
  Status start();
  // SIGKILL; returns when it is gone. Fine when it does not run.
  void stop();
  // To be called with each child that was reaped.
  void ended(pid_t pid);

 private:
  Status await_health();

  const Config& config_;
  pid_t pid_ = 0;
};

}  // namespace dvs::local
