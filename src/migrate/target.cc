#include "migrate/target.h"

#include "base/log.h"

namespace dvs {

Target::Target(const Protocol& protocol, TargetHost& host, MigrationRecord record)
    : protocol_(protocol),
      host_(host),
      record_(std::move(record)),
      receiver_(host.image_directory(record_)) {}

void Target::step(Event event) {
  const Step& step = step_of(MigrationRole::kTarget, phase_, event);
  protocol_.faults.on_step(step);
  phase_ = step.to;
}

void Target::begin_phase(const char* name) {
  phase_began_ns_ = protocol_.scheduler.monotonic_ns();
  protocol_.reporter.phase(record_, name);
}

void Target::end_phase(const char* name) {
  record_.phases[name] +=
      static_cast<double>(protocol_.scheduler.monotonic_ns() - phase_began_ns_) / 1e6;
}

void Target::on_image(std::string_view body) {
  if (phase_ != Phase::kReceiving || failed_ || decided_) return;
  if (Status taken = receiver_.take(body); !taken.ok()) {
    return fail(taken.error().context("cannot take the images in"));
  }
  protocol_.faults.die_at(Fault::kTargetDiesReceiving);
  if (receiver_.complete()) restore();
}

void Target::restore() {
  step(Event::kReceived);
  record_.image_bytes = json_get_or<uint64_t>(receiver_.footer(), "image_bytes", 0).ok()
                            ? *json_get_or<uint64_t>(receiver_.footer(), "image_bytes", 0)
                            : 0;
  if (auto phases = json_get<Json>(receiver_.footer(), "phases");
      phases.ok() && phases->is_object()) {
    for (const auto& [phase, ms] : phases->items()) {
      if (ms.is_number()) record_.phases[phase] = ms.get<double>();
    }
  }
  record_.transfer_ms = record_.phases["transfer"];
  if (auto bytes = json_get_or<uint64_t>(receiver_.footer(), "memory_bytes", 0); bytes.ok()) {
    record_.memory_bytes = *bytes;
  }
  begin_phase("restore");
  protocol_.faults.die_at(Fault::kTargetDiesReceived);
  if (protocol_.faults.fires(Fault::kRestore)) {
    return fail(Error(Code::kInternal, "the restore failed (injected)"));
  }
  working_ = true;
  host_.restore(record_, [self = shared_from_this()](Result<std::unique_ptr<HeldTree>> held) {
    self->working_ = false;
    if (held.ok()) self->held_ = std::move(*held);
    if (self->decided_) return self->carry_out();
    if (!held.ok()) return self->fail(held.error().context("cannot restore the process"));
    self->end_phase("restore");
    self->vote();
  });
}

void Target::vote() {
  protocol_.faults.die_at(Fault::kTargetDiesRestored);
  step(Event::kRestored);
  begin_phase("decide");
  record_.owed_bytes = receiver_.owed_bytes();
  record_.memory = record_.owed_bytes > 0 ? OwedMemory::kOwed : OwedMemory::kNone;
  protocol_.proposer.commit(record_);
}

void Target::on_source_lost(const std::string& reason) {
  // Once the images are complete the source is not needed any more.
  if (phase_ == Phase::kReceiving) fail(Error(Code::kUnavailable, reason));
}

void Target::fail(const Error& error) {
  if (failed_ || decided_) return;
  failed_ = true;
  step(Event::kFailed);
  protocol_.faults.die_at(Fault::kTargetDiesFailed);
  protocol_.proposer.rollback(record_, error.message());
}

void Target::on_outcome(const MigrationRecord& record) {
  if (decided_ || is_open(record.state)) return;
  decided_ = true;
  if (phase_ == Phase::kDeciding) end_phase("decide");
  auto phases = std::move(record_.phases);
  record_ = record;
  record_.phases.merge(phases);
  if (!working_) carry_out();
}

void Target::carry_out() {
  const bool committed = record_.state == MigrationState::kCommitted;
  step(committed ? Event::kCommitted : Event::kRolledBack);
  protocol_.faults.die_at(committed ? Fault::kTargetDiesCommitted : Fault::kTargetDiesRolledBack);
  if (committed) {
    commit();
  } else {
    rollback();
  }
}

void Target::commit() {
  begin_phase("resume");
  host_.take_in(record_, [self = shared_from_this()](Result<bool> taken) {
    if (!taken.ok()) {
      log::error("migration {}: {}", self->record_.id, taken.error().message());
    }
    self->step(Event::kTakenIn);
    self->protocol_.faults.die_at(Fault::kTargetDiesTakenIn);
    self->resume();
  });
}

void Target::resume() {
  auto finish = [self = shared_from_this()](Result<bool> resumed) {
    if (!resumed.ok()) {
      log::error("migration {}: cannot resume: {}", self->record_.id, resumed.error().message());
    }
    self->end_phase("resume");
    self->step(Event::kResumed);
    self->protocol_.faults.die_at(Fault::kTargetDiesResumed);
    self->host_.settle_in(self->record_);
    self->await_memory();
  };
  if (held_ == nullptr) return finish(true);
  held_->resume(finish);
}

void Target::await_memory() {
  begin_phase("fill");
  protocol_.faults.die_at(Fault::kTargetDiesFilling);
  host_.await_memory(record_, [self = shared_from_this()](Result<Json> came) {
    if (!came.ok()) log::error("migration {}: {}", self->record_.id, came.error().message());
    const Json pager = came.ok() ? *came : Json::object();
    if (self->record_.memory != OwedMemory::kOwed) return self->finish(pager);
    Proposer& proposer = self->protocol_.proposer;
    proposer.await_settled(self->record_.id, [self, pager] { self->finish(pager); });
    proposer.settle_memory(self->record_.id, came.ok() ? OwedMemory::kNone : OwedMemory::kLost,
                           came.ok() ? "" : came.error().message());
  });
}

void Target::finish(const Json& pager) {
  Json report = {{"role", "target"}};
  const auto faults = json_get<uint64_t>(pager, "faults");
  const auto p99_ns = json_get<double>(pager, "fault_p99_ns");
  if (faults.ok() && p99_ns.ok()) {
    report["faults"] = *faults;
    report["fault_p99_ms"] = *p99_ns / 1e6;
  }
  end_phase("fill");
  report["phases"] = record_.phases;
  host_.clean_up(record_, [self = shared_from_this(), report](Result<bool>) {
    self->step(Event::kCarriedOut);
    self->protocol_.reporter.done(self->record_, report);
    self->host_.on_target_finished(self->record_);
  });
}

void Target::rollback() {
  auto finish = [self = shared_from_this()](Result<bool> killed) {
    if (!killed.ok()) {
      log::error("migration {}: cannot end the held copy: {}", self->record_.id,
                 killed.error().message());
    }
    self->host_.clean_up(self->record_, [self](Result<bool>) {
      self->step(Event::kCarriedOut);
      self->protocol_.reporter.done(self->record_, {{"role", "target"}});
      self->host_.on_target_finished(self->record_);
    });
  };
  if (held_ == nullptr) return finish(true);
  held_->kill(finish);
}

}  // namespace dvs
