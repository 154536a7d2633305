// The target's part in a migration: takes the images, restores the process and holds it before its
// first instruction, proposes COMMIT, and carries the outcome out; by the steps of
// migrate/protocol.h.
#pragma once

#include <memory>
#include <string>

#include "directory/records.h"
#include "migrate/engine/engine.h"
#include "migrate/source.h"
#include "migrate/transfer.h"

namespace dvs {

class TargetHost {
 public:
  virtual ~TargetHost() = default;
  // Where the pieces of this migration are put.
  virtual std::string image_directory(const MigrationRecord& record) = 0;
  // After the resume: all of its memory is in place, or it has ended; what the pager did, as JSON.
  // An Error: it was ended, since its memory could not be had.
  virtual void await_memory(const MigrationRecord& record, Done<Json> done) = 0;
  // The pieces are complete: makes the log file and the cgroup, then restores and holds.
  virtual void restore(const MigrationRecord& record, Done<std::unique_ptr<HeldTree>> done) = 0;
  // COMMIT: the endpoints are bound here; called before the process runs.
  virtual void take_in(const MigrationRecord& record, Done<bool> done) = 0;
  // The process runs (or, after a rollback, is gone): what is left to clean up or to start.
  virtual void settle_in(const MigrationRecord& record) = 0;
  virtual void clean_up(const MigrationRecord& record, Done<bool> done) = 0;
  // All is carried out: forget it.
  virtual void on_target_finished(const MigrationRecord& record) = 0;
};

class Target : public std::enable_shared_from_this<Target> {
 public:
  Target(const Protocol& protocol, TargetHost& host, MigrationRecord record);

  void on_image(std::string_view body);
  // Copying is over (if there was any): the record says kActive.
  void on_active(const MigrationRecord& record) { record_ = record; }
  void on_source_lost(const std::string& reason);
  void on_outcome(const MigrationRecord& record);
  const MigrationRecord& record() const { return record_; }
  // Not everything has come that it needs for the restore.
  bool is_receiving() const { return phase_ == Phase::kReceiving; }
  // After a restart of dvsd: goes on with a tree that an earlier dvsd held.
  void adopt(std::unique_ptr<HeldTree> held) { held_ = std::move(held); }

 private:
  void restore();
  void vote();
  void fail(const Error& error);
  void carry_out();
  void commit();
  void resume();
  void await_memory();
  void finish(const Json& pager);
  void rollback();
  void step(Event event);
  void begin_phase(const char* name);
  void end_phase(const char* name);

  const Protocol protocol_;
  TargetHost& host_;
  MigrationRecord record_;
  TransferReceiver receiver_;
  Phase phase_ = Phase::kReceiving;
  int64_t phase_began_ns_ = 0;
  bool working_ = false;
  bool failed_ = false;
  bool decided_ = false;
  std::unique_ptr<HeldTree> held_;
};

}  // namespace dvs
