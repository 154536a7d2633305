// What a participant tells the coordinator of a migration, for whoever watches and waits for its
// end. Nothing depends on it: a coordinator that has died is not missed.
#pragma once

#include <memory>

#include "base/scheduler.h"
#include "directory/records.h"
#include "migrate/peers.h"
#include "migrate/schedule.h"

namespace dvs {

class Reporter : public std::enable_shared_from_this<Reporter> {
 public:
  Reporter(Scheduler& scheduler, Peers& peers) : scheduler_(scheduler), peers_(peers) {}

  void phase(const MigrationRecord& record, const char* phase);
  void progress(const MigrationRecord& record, uint64_t sent, uint64_t total);
  void round(const MigrationRecord& record, const CopyingSchedule& schedule);
  // All is carried out here; told again, for some seconds, until it is heard: the link to the
  // coordinator may just be coming back. `report` names the "role".
  void done(const MigrationRecord& record, Json report, int attempt = 0);

 private:
  void tell(const MigrationRecord& record, const char* call, Json args);

  Scheduler& scheduler_;
  Peers& peers_;
};

}  // namespace dvs
