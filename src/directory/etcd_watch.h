// A watch on etcd: one connection whose answer never ends.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/executor.h"
#include "directory/endpoint.h"
#include "directory/store.h"

namespace dvs {

struct WatchOptions {
  std::vector<Endpoint> endpoints;  // not empty; tried in turn
  std::string prefix;
  int64_t revision = 0;  // the last one that is known already
  std::chrono::milliseconds connect_timeout{2000};
  std::function<void(int64_t revision, std::vector<WatchEvent>)> on_events;
  std::function<void(Error)> on_lost;
};

// Held by a shared_ptr, which unfinished operations share; the owner calls stop() to end them.
class EtcdWatch {
 public:
  static std::shared_ptr<EtcdWatch> start(Executor& executor, WatchOptions options);
  virtual ~EtcdWatch() = default;
  // No function of the options is called from now on. May be called from inside one, and again.
  virtual void stop() = 0;
};

}  // namespace dvs
