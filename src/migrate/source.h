// The source's part in a migration: from START to the moment when the outcome, whatever it is, has
// been carried out here. A state machine driven by the completions of its host's work, by the steps
// of migrate/protocol.h; it decides nothing: when something fails it proposes a rollback and waits
// for the outcome.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/scheduler.h"
#include "directory/records.h"
#include "migrate/engine/engine.h"
#include "migrate/faults.h"
#include "migrate/proposer.h"
#include "migrate/protocol.h"
#include "migrate/reporter.h"
#include "migrate/schedule.h"
#include "migrate/transfer.h"

namespace dvs {

// What the source needs of its node. Done functions are called later, never from inside.
class SourceHost {
 public:
  virtual ~SourceHost() = default;
  // One round of copying the task's memory to where it goes (mover/copier.h).
  virtual void copy_memory(const MigrationRecord& record, Done<mover::Round> done) = 0;
  // A round under way ends soon, with an Error unless it is complete: nobody waits for the rest.
  virtual void give_up_copying(const MigrationRecord& record) = 0;
  // It is frozen: the last round, with `budget` as of mover::Copier::last(). Where it goes has all
  // now, and the target knows what it is owed.
  virtual void copy_rest(const MigrationRecord& record, uint64_t budget,
                         Done<mover::Round> done) = 0;
  // The endpoints that the task has now.
  // None: the process is just binding or unbinding one. It begins no more of that, since
  // Participant::is_stopping().
  virtual std::optional<Proposer::Endpoints> endpoints_of(const MigrationRecord& record) = 0;
  // The gate of the task's endpoints is closed; whether everybody is outside now. An Error: the
  // task has changed since the migration was asked for.
  virtual Result<bool> settle(const MigrationRecord& record) = 0;
  virtual void freeze(const MigrationRecord& record, Done<bool> done) = 0;
  // Frozen now: an Error when one of them was frozen in the middle of a request to dvsd.
  virtual Status check_frozen(const MigrationRecord& record) = 0;
  virtual void dump(const MigrationRecord& record, Done<DumpResult> done) = 0;
  // After the dump: the images' files, the capsule, the task's record and log.
  virtual Result<std::vector<Piece>> collect(const MigrationRecord& record) = 0;
  // Waits until the target, and the file server if there is one, are ready to receive.
  virtual void await_target(const MigrationRecord& record, Done<bool> done) = 0;
  virtual bool send(const MigrationRecord& record, std::string_view body) = 0;
  virtual bool congested(const MigrationRecord& record) = 0;
  virtual void break_link(const MigrationRecord& record) = 0;  // fault injection
  // Carries ROLLBACK out: thawed, with its gates open, the process goes on exactly where it was.
  virtual void go_on(const MigrationRecord& record, Done<bool> done) = 0;
  // Carries COMMIT out: the endpoints are another node's now. The copy stays frozen until
  // end_departed(), which leaves nothing of it here.
  virtual void let_go(const MigrationRecord& record) = 0;
  virtual void end_departed(const MigrationRecord& record, Done<bool> done) = 0;
  // A round is over; for who wants to know how fast memory was sent.
  virtual void on_round(const MigrationRecord& record, const CopyingSchedule& schedule) = 0;
  // All is carried out: forget it.
  virtual void on_source_finished(const MigrationRecord& record) = 0;
};

// What participants share.
struct Protocol {
  Scheduler& scheduler;
  Proposer& proposer;
  Reporter& reporter;
  Faults& faults;
};

class Source : public std::enable_shared_from_this<Source> {
 public:
  Source(const Protocol& protocol, SourceHost& host, MigrationRecord record);

  // The record is open: begins, with copying or with the freeze.
  void start();
  // Copying is over: the record says kActive now.
  void on_active(const MigrationRecord& record);
  // Freezes after this round, whatever is left. Only while copying.
  void hurry(const std::string& why);
  void on_writable();
  void on_target_lost(const std::string& reason);
  void on_outcome(const MigrationRecord& record);
  const MigrationRecord& record() const { return record_; }
  // No START yet, and none is being written: the process may bind and unbind endpoints.
  bool is_copying() const { return phase_ == Phase::kCopying && !copied_; }
  // Frozen, or about to be: it may be another node's already, whatever is known here.
  bool may_have_left() const { return phase_ >= Phase::kFreezing; }
  // The node's part of the DC is being removed: nothing is done any more.
  void abandon() { phase_ = Phase::kFinished; }

 private:
  void await_target();
  void copy_round();
  void on_copied(const mover::Round& round);
  void end_copying(const std::string& why);
  Algorithm algorithm() const;
  void stop();
  void sync();
  void settle();
  void freeze();
  void dump();
  void send();
  void pump();
  void fail(const Error& error);
  void carry_out();
  void step(Event event);
  void begin_phase(const char* name);
  void end_phase(const char* name);
  Json footer();

  const Protocol protocol_;
  SourceHost& host_;
  MigrationRecord record_;
  Phase phase_ = Phase::kBegun;
  int64_t settle_until_ns_ = 0;
  int64_t phase_began_ns_ = 0;
  bool target_ready_ = false;
  // The host is doing something that must end before an outcome is carried out.
  bool working_ = false;
  bool copied_ = false;  // START is being written
  bool failed_ = false;
  bool decided_ = false;
  uint64_t image_bytes_ = 0;
  std::map<std::string, double> phases_;
  std::unique_ptr<TransferSender> sender_;
  CopyingSchedule schedule_;
  std::string hurry_;  // why
};

// Carries a COMMIT out at the source; also after a restart of its dvsd. The frozen copy is ended
// once nobody is owed its memory. `host` must outlive it.
void let_go(SourceHost& host, const Protocol& protocol, const MigrationRecord& record,
            Done<bool> done);

}  // namespace dvs
