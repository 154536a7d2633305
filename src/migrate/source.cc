#include "migrate/source.h"

#include "base/check.h"
#include "base/log.h"

namespace dvs {
namespace {

constexpr int64_t kSettleLimitNs = 3'000'000'000;
constexpr auto kSettlePoll = std::chrono::microseconds(100);

}  // namespace

Source::Source(const Protocol& protocol, SourceHost& host, MigrationRecord record)
    : protocol_(protocol),
      host_(host),
      record_(std::move(record)),
      schedule_({.max_downtime = std::chrono::milliseconds(record_.max_downtime_ms)}) {}

void Source::step(Event event) {
  const Step& step = step_of(MigrationRole::kSource, phase_, event);
  protocol_.faults.on_step(step);
  phase_ = step.to;
}

void Source::begin_phase(const char* name) {
  phase_began_ns_ = protocol_.scheduler.monotonic_ns();
  protocol_.reporter.phase(record_, name);
}

void Source::end_phase(const char* name) {
  phases_[name] += static_cast<double>(protocol_.scheduler.monotonic_ns() - phase_began_ns_) / 1e6;
}

void Source::start() {
  await_target();
  if (record_.state == MigrationState::kActive) return stop();
  step(Event::kCopyingOpened);
  begin_phase("copy");
  if (target_ready_) copy_round();
}

void Source::await_target() {
  host_.await_target(record_, [self = shared_from_this()](Result<bool> ready) {
    if (!ready.ok()) return self->fail(ready.error().context("the target is not ready"));
    self->target_ready_ = true;
    if (self->phase_ == Phase::kCopying) self->copy_round();
    if (self->phase_ == Phase::kSyncing) self->sync();
    if (self->phase_ == Phase::kSending) self->send();
  });
}

// ---- while the process runs ----

void Source::copy_round() {
  if (failed_ || decided_) return;
  working_ = true;
  host_.copy_memory(record_, [self = shared_from_this()](Result<mover::Round> round) {
    self->working_ = false;
    if (self->decided_) return self->carry_out();
    if (self->failed_) return;
    if (!round.ok()) return self->fail(round.error().context("cannot copy the memory"));
    self->on_copied(*round);
  });
}

void Source::on_copied(const mover::Round& round) {
  protocol_.faults.die_at(Fault::kSourceDiesCopying);
  schedule_.add(round);
  record_.rounds = static_cast<int>(schedule_.rounds());
  record_.memory_bytes += round.sent_bytes;
  host_.on_round(record_, schedule_);
  protocol_.reporter.round(record_, schedule_);
  step(Event::kRoundCopied);
  const std::string enough = hurry_.empty() ? schedule_.enough(algorithm()) : hurry_;
  if (enough.empty()) return copy_round();
  end_copying(enough);
}

// REQUIRES: the mover carries the memory.
Algorithm Source::algorithm() const {
  const auto named = algorithm_named(record_.algorithm);
  DVS_CHECK(named.ok());
  return *named;
}

void Source::end_copying(const std::string& why) {
  const bool late = !schedule_.is_within_limit();
  if (record_.adaptive && late) record_.algorithm = algorithm_name(Algorithm::kOnDemand);
  record_.why += "; frozen after " + std::to_string(record_.rounds) + " rounds: " + why;
  end_phase("copy");
  copied_ = true;
  protocol_.proposer.freeze(
      record_, [self = shared_from_this()] { return self->host_.endpoints_of(self->record_); });
}

void Source::hurry(const std::string& why) {
  if (phase_ == Phase::kCopying) hurry_ = why;
}

void Source::on_active(const MigrationRecord& record) {
  if (failed_ || decided_ || phase_ != Phase::kCopying) return;
  record_ = record;
  stop();
}

// ---- START: it is stopped ----

void Source::stop() {
  step(Event::kStarted);
  settle_until_ns_ = protocol_.scheduler.monotonic_ns() + kSettleLimitNs;
  begin_phase("freeze");
  protocol_.faults.die_at(Fault::kSourceDiesStarted);
  settle();
}

void Source::settle() {
  if (failed_ || decided_) return;
  auto settled = host_.settle(record_);
  if (!settled.ok()) return fail(settled.error());
  if (*settled) return freeze();
  if (protocol_.scheduler.monotonic_ns() > settle_until_ns_) {
    return fail(Error(Code::kTimeout, "a thread of the process does not come to rest"));
  }
  protocol_.scheduler.after(kSettlePoll, [self = shared_from_this()] {
    if (self->phase_ == Phase::kSettling) self->settle();
  });
}

void Source::freeze() {
  step(Event::kSettled);
  working_ = true;
  host_.freeze(record_, [self = shared_from_this()](Result<bool> frozen) {
    self->working_ = false;
    if (self->decided_) return self->carry_out();
    if (self->failed_) return;
    if (!frozen.ok()) return self->fail(frozen.error());
    self->end_phase("freeze");
    self->protocol_.faults.die_at(Fault::kSourceDiesFrozen);
    if (Status still = self->host_.check_frozen(self->record_); !still.ok()) {
      return self->fail(still.error());
    }
    if (self->record_.algorithm.empty()) {
      self->step(Event::kFrozenWhole);
      return self->dump();
    }
    self->step(Event::kFrozen);
    self->begin_phase("sync");
    self->sync();
  });
}

// What has changed since the last round, or all.
void Source::sync() {
  if (!target_ready_ || working_ || failed_ || decided_) return;
  working_ = true;
  host_.copy_rest(record_, schedule_.budget(algorithm()),
                  [self = shared_from_this()](Result<mover::Round> round) {
                    self->working_ = false;
                    if (self->decided_) return self->carry_out();
                    if (self->failed_) return;
                    if (!round.ok())
                      return self->fail(round.error().context("cannot copy the memory"));
                    self->record_.memory_bytes += round->sent_bytes;
                    self->record_.owed_bytes = round->owed_bytes;
                    self->end_phase("sync");
                    self->protocol_.faults.die_at(Fault::kSourceDiesSynced);
                    self->step(Event::kSynced);
                    self->dump();
                  });
}

void Source::dump() {
  begin_phase("dump");
  if (protocol_.faults.fires(Fault::kDump))
    return fail(Error(Code::kInternal, "the dump failed (injected)"));
  working_ = true;
  host_.dump(record_, [self = shared_from_this()](Result<DumpResult> dumped) {
    self->working_ = false;
    if (self->decided_) return self->carry_out();
    if (self->failed_) return;
    if (!dumped.ok()) return self->fail(dumped.error().context("cannot dump the process"));
    self->image_bytes_ = dumped->image_bytes;
    self->end_phase("dump");
    self->protocol_.faults.die_at(Fault::kSourceDiesDumped);
    self->step(Event::kDumped);
    self->begin_phase("transfer");
    self->send();
  });
}

void Source::send() {
  if (!target_ready_ || sender_ != nullptr || failed_ || decided_) return;
  auto pieces = host_.collect(record_);
  if (!pieces.ok()) return fail(pieces.error());
  sender_ = std::make_unique<TransferSender>(record_.id, std::move(*pieces), Json::object());
  pump();
}

Json Source::footer() {
  end_phase("transfer");
  return {
      {"phases", phases_}, {"image_bytes", image_bytes_}, {"memory_bytes", record_.memory_bytes}};
}

void Source::pump() {
  const Status sent = sender_->pump(
      [this](std::string_view body) {
        if (sender_->sent() * 2 >= sender_->total()) {
          protocol_.faults.die_at(Fault::kSourceDiesSending);
          if (protocol_.faults.fires(Fault::kTransfer)) host_.break_link(record_);
        }
        return host_.send(record_, body);
      },
      [this] { return host_.congested(record_); }, [this] { return footer(); });
  protocol_.reporter.progress(record_, sender_->sent(), sender_->total());
  if (!sent.ok()) return fail(sent.error());
  if (!sender_->finished()) return;
  step(Event::kSent);
  protocol_.faults.die_at(Fault::kSourceDiesSent);
}

void Source::on_writable() {
  if (phase_ == Phase::kSending && sender_ != nullptr && !failed_ && !decided_) pump();
}

void Source::on_target_lost(const std::string& reason) {
  if (phase_ != Phase::kFinished && !decided_) fail(Error(Code::kUnavailable, reason));
}

void Source::fail(const Error& error) {
  if (failed_ || decided_) return;
  failed_ = true;
  step(Event::kFailed);
  if (working_) host_.give_up_copying(record_);
  protocol_.proposer.rollback(record_, error.message());
}

void Source::on_outcome(const MigrationRecord& record) {
  if (decided_ || is_open(record.state)) return;
  decided_ = true;
  record_ = record;
  if (working_) host_.give_up_copying(record_);
  if (!working_) carry_out();
}

void Source::carry_out() {
  const bool committed = record_.state == MigrationState::kCommitted;
  step(committed ? Event::kCommitted : Event::kRolledBack);
  protocol_.faults.die_at(committed ? Fault::kSourceDiesCommitted : Fault::kSourceDiesRolledBack);
  Done<bool> done = [self = shared_from_this()](Result<bool> result) {
    if (!result.ok()) log::error("migration {}: {}", self->record_.id, result.error().message());
    if (self->phase_ == Phase::kFinished) return;  // abandoned
    self->step(Event::kCarriedOut);
    self->protocol_.reporter.done(self->record_, {{"role", "source"}});
    self->host_.on_source_finished(self->record_);
  };
  if (committed) {
    let_go(host_, protocol_, record_, std::move(done));
  } else {
    host_.go_on(record_, std::move(done));
  }
}

void let_go(SourceHost& host, const Protocol& protocol, const MigrationRecord& record,
            Done<bool> done) {
  host.let_go(record);
  if (record.memory == OwedMemory::kOwed) protocol.faults.die_at(Fault::kSourceDiesKeeping);
  auto end = [&host, record, done = std::move(done)] { host.end_departed(record, done); };
  if (!record.file_server.empty()) return end();
  protocol.proposer.await_settled(record.id, std::move(end));
}

}  // namespace dvs
