#include "directory/presence.h"

#include "base/log.h"

namespace dvs {
namespace {

// A node whose dvsd is silent for this long counts as dead. Restarting dvsd takes far less.
constexpr std::chrono::seconds kLeaseTtl{10};
constexpr std::chrono::milliseconds kLeasePeriod{2000};

}  // namespace

Presence::Presence(Scheduler& scheduler, Store& store, int64_t& lease)
    : scheduler_(scheduler), store_(store), lease_(lease) {}

// The lease of an earlier dvsd, if it still lives: the endpoints of running processes hang on it.
void Presence::start(int64_t earlier, std::function<Status()> on_lease, Done<bool> done) {
  on_lease_ = std::move(on_lease);
  if (earlier == 0) return grant(done);
  store_.keep_alive(earlier, [this, earlier, done](Result<std::chrono::seconds> alive) {
    if (!alive.ok() && alive.error().code() == Code::kNotFound) return grant(done);
    if (!alive.ok()) return done(alive.error().context("cannot renew the lease"));
    taken(earlier, done);
  });
}

void Presence::grant(const Done<bool>& done) {
  store_.grant_lease(kLeaseTtl, [this, done](Result<int64_t> lease) {
    if (!lease.ok()) return done(lease.error().context("cannot get a lease"));
    taken(*lease, done);
  });
}

// Nothing of what was written before is on this one, or may be not.
void Presence::taken(int64_t lease, const Done<bool>& done) {
  lease_ = lease;
  if (Status prepared = on_lease_(); !prepared.ok()) return done(prepared.error());
  for (const auto& [key, value] : records_) errands_[key] = value;
  flush([this, done](Result<bool> flushed) {
    if (flushed.ok() && !std::exchange(kept_, true)) keep();
    done(std::move(flushed));
  });
}

void Presence::keep() {
  scheduler_.after(kLeasePeriod, [this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    store_.keep_alive(lease_, [this](Result<std::chrono::seconds> kept) {
      if (!kept.ok() && kept.error().code() == Code::kNotFound) return regain();
      if (!kept.ok()) log::warn("cannot renew the lease: {}", kept.error().message());
      flush_again();
      keep();
    });
  });
}

// The cluster took this node for dead and has forgotten its endpoints: who waited for them has been
// told so. It joins again; its processes live on without endpoints until these are bound again.
void Presence::regain() {
  log::error("the lease was lost; joining again");
  grant([this](Result<bool> joined) {
    if (!joined.ok()) log::error("cannot join again (yet): {}", joined.error().message());
    keep();
  });
}

void Presence::put(const std::string& key, std::string value) {
  records_[key] = value;
  errands_[key] = std::move(value);
  flush_again();
}

void Presence::remove(const std::string& key, std::function<void()> done) {
  records_.erase(key);
  errands_[key] = std::nullopt;
  when_removed_.emplace(key, std::move(done));
  flush_again();
}

// Not before the first lease: that flushes by itself. What fails is tried again by keep().
void Presence::flush_again() {
  if (!kept_) return;
  flush([](Result<bool> flushed) {
    if (!flushed.ok()) log::warn("{}", flushed.error().message());
  });
}

void Presence::flush(const Done<bool>& done) {
  if (errands_.empty() || writing_) return done(true);
  std::vector<Change> changes;
  for (const auto& [key, value] : errands_) {
    changes.push_back(value.has_value() ? Change::put(key, *value, lease_) : Change::remove(key));
  }
  writing_ = true;
  store_.txn({}, std::move(changes),
             [this, errands = errands_, lease = lease_, done](Result<TxnResult> result) {
               writing_ = false;
               if (!result.ok()) return done(result.error().context("cannot announce"));
               if (lease == lease_) written(errands);
               done(true);
               flush_again();
             });
}

void Presence::written(const std::map<std::string, Errand>& errands) {
  for (const auto& [key, value] : errands) {
    const auto found = errands_.find(key);
    if (found == errands_.end() || found->second != value) continue;  // it is something else now
    errands_.erase(found);
    if (value.has_value()) continue;
    const auto [begin, end] = when_removed_.equal_range(key);
    std::vector<std::function<void()>> told;
    for (auto each = begin; each != end; ++each) told.push_back(std::move(each->second));
    when_removed_.erase(begin, end);
    for (const auto& done : told) done();
  }
}

}  // namespace dvs
