// That a node lives, as the directory shows it: a lease that is kept, and the records that hang on
// it (the node's, its parts'). A lease that was lost is got anew, and they are written again. Pure
// protocol; one thread, nothing blocks.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/scheduler.h"
#include "directory/store.h"

namespace dvs {

class Presence {
 public:
  // `lease`: where the current one is to be found by others. All outlives this.
  Presence(Scheduler& scheduler, Store& store, int64_t& lease);

  // Takes up the `earlier` lease (of a dvsd before this one; 0: none) if it lives, or gets one.
  // `on_lease`: each time it is another one, also the first time, before anything is written on it.
  // Answers when the records put until then are written. An Error: nothing goes on; start again.
  void start(int64_t earlier, std::function<Status()> on_lease, Done<bool> done);
  // From now on, until it is removed, the directory says so: as soon as it can be reached, and
  // again with each new lease.
  void put(const std::string& key, std::string value);
  // `done`: the directory says so no more.
  void remove(const std::string& key, std::function<void()> done);

 private:
  using Errand = std::optional<std::string>;  // what is to be written; none: it is to be removed

  void grant(const Done<bool>& done);
  void taken(int64_t lease, const Done<bool>& done);
  void keep();
  void regain();
  void flush(const Done<bool>& done);
  void flush_again();
  void written(const std::map<std::string, Errand>& errands);

  Scheduler& scheduler_;
  Store& store_;
  int64_t& lease_;
  std::function<Status()> on_lease_;
  std::map<std::string, std::string> records_;  // by key
  std::map<std::string, Errand> errands_;       // not known to be done
  std::multimap<std::string, std::function<void()>> when_removed_;
  bool kept_ = false;
  bool writing_ = false;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace dvs
