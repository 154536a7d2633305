#include "binding/bindings.h"

#include <algorithm>
#include <climits>

#include "base/log.h"

namespace dvs {
namespace {

constexpr auto kBindAgain = std::chrono::milliseconds(500);
constexpr auto kRemoveAgain = std::chrono::milliseconds(200);
constexpr auto kLongestWait = std::chrono::milliseconds(100);
constexpr int kManyWaits = 50;

}  // namespace

Bindings::Bindings(const BindingServices& services, BindingHost& host, std::string dc)
    : scheduler_(services.scheduler),
      store_(services.store),
      cluster_(services.cluster),
      region_(services.region),
      node_(services.node),
      lease_(services.lease),
      host_(host),
      dc_(std::move(dc)) {}

void Bindings::after(std::chrono::milliseconds delay, Scheduler::Work work) {
  scheduler_.after(delay, [alive = std::weak_ptr(alive_), work = std::move(work)] {
    if (!alive.expired()) work();
  });
}

int Bindings::endpoint_number(uint32_t slot, uint64_t incarnation) const {
  const int number = region_.number_of(slot);
  if (!region_.is_user(slot)) return number;
  constexpr uint64_t kGenerations = INT_MAX / _ENDPOINT_GENERATION_SIZE - 2;
  return _ENDPOINT(1 + static_cast<int>(incarnation % kGenerations), number);
}

dvk::Identity Bindings::identity_of(const EndpointRecord& record, uint64_t incarnation) const {
  dvk::Identity identity;
  identity.endpoint = endpoint_number(record.slot, incarnation);
  identity.incarnation = incarnation;
  identity.epoch = record.epoch;
  identity.node = record.node;
  identity.kind = dvk::Kind::kRemote;
  identity.name = record.name;
  if (record.node != node_) return identity;
  identity.kind = record.replica ? dvk::Kind::kReplica : dvk::Kind::kLocal;
  identity.pid = record.pid;
  identity.tid = record.tid;
  return identity;
}

// ---- the directory's news ----

void Bindings::place(uint32_t slot) {
  if (slot >= region_.slots()) return;
  const auto* known = entry(slot);
  if (known == nullptr) {
    on_record_gone(slot);
  } else if (known->record.node == node_) {
    find_again(*known);
  } else if (!is_bound(slot)) {
    host_.show_elsewhere(slot, identity_of(known->record, known->incarnation));
  }
  host_.on_place_changed(slot);
}

void Bindings::place_all() {
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const bool shown = dvk::load_kind(region_.at(slot)) != dvk::Kind::kFree;
    if (shown || is_bound(slot) || entry(slot) != nullptr) place(slot);
  }
  for (const EndpointRecord& record : host_.unbound()) begin_to_bind(record.slot);
}

void Bindings::withdraw_what_leaves() {
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    if (dvk::is_leaving(region_, slot)) withdraw(slot);
  }
}

// A process of ours is bound when its own transaction is answered, or when it arrives by a
// migration; here what an earlier dvsd had bound is found again, or what was written without an
// answer.
void Bindings::find_again(const Cluster::EndpointEntry& entry) {
  const uint32_t slot = entry.record.slot;
  if (is_bound(slot) || host_.is_retired(slot) || !host_.has_task(entry.record.task)) return;
  const dvk::Kind kind = dvk::load_kind(region_.at(slot));
  const bool unanswered = kind == dvk::Kind::kFree && !host_.is_migrating(entry.record.task);
  if (dvk::acts_here(kind) || unanswered) bind_local(entry.record, entry.incarnation, [] {});
}

// The directory knows the endpoint no more. When it is that of a process which lives here and has
// not asked for this, it went with the lease of this node, which had been cut off: everybody else
// was told that the process is gone. So is it (EDVSSHUTDOWN), and then it is bound anew.
void Bindings::on_record_gone(uint32_t slot) {
  const std::optional<EndpointRecord> lost = lost_with_lease(slot);
  forget(slot);
  withdraw(slot);
  if (lost.has_value()) bind_until_done(*lost);
  host_.on_gone(slot);
}

// The record of an endpoint that a living process has here; also when the dvsd that had bound it
// was restarted since.
std::optional<EndpointRecord> Bindings::lost_with_lease(uint32_t slot) const {
  if (unbinding_.count(slot) != 0) return std::nullopt;
  const dvk::Identity identity = dvk::identity_of(region_, slot);
  const bool acts = identity.kind == dvk::Kind::kLocal || identity.kind == dvk::Kind::kReplica;
  if (!acts) return std::nullopt;
  const auto task = host_.task_of_thread(identity.tid);
  if (!task.has_value()) return std::nullopt;
  EndpointRecord lost;
  lost.slot = slot;
  lost.node = node_;
  lost.pid = identity.pid;
  lost.tid = identity.tid;
  lost.name = identity.name;
  lost.task = *task;
  lost.replica = identity.kind == dvk::Kind::kReplica;
  return lost;
}

// ---- binding ----

void Bindings::bind(const EndpointRecord& record, Done<int> done) {
  store_.txn(
      {Compare::absent(key(record.slot))},
      {Change::put(key(record.slot), to_text(to_json(record)), lease_)},
      [this, alive = std::weak_ptr(alive_), record,
       done = std::move(done)](Result<TxnResult> result) {
        if (!result.ok()) return done(result.error().context("cannot bind the endpoint"));
        if (alive.expired()) return done(Error(Code::kUnavailable, "the DC is being removed"));
        if (!result->applied) {
          return done(Error(Code::kConflict, "endpoint " +
                                                 std::to_string(region_.number_of(record.slot)) +
                                                 " of " + dc_ + " is in use"));
        }
        const auto incarnation = static_cast<uint64_t>(result->revision);
        if (!cluster_.book_endpoint(dc_, record, incarnation, result->revision)) {
          return done(Error(Code::kUnavailable, "the endpoint went with this node's lease"));
        }
        bind_local(record, incarnation,
                   [number = endpoint_number(record.slot, incarnation), done] { done(number); });
      });
}

void Bindings::withdraw_claim(const EndpointRecord& record) {
  store_.txn({Compare::value_is(key(record.slot), to_text(to_json(record)))},
             {Change::remove(key(record.slot))},
             [this, alive = std::weak_ptr(alive_), record](Result<TxnResult> result) {
               if (alive.expired() || result.ok()) return;
               after(kBindAgain, [this, record] { withdraw_claim(record); });
             });
}

void Bindings::bind_local(const EndpointRecord& record, uint64_t incarnation,
                          const std::function<void()>& then) {
  show(record.slot, identity_of(record, incarnation), [this, record, then] {
    watch(record);
    host_.on_place_changed(record.slot);
    then();
  });
}

void Bindings::show(uint32_t slot, const dvk::Identity& identity, std::function<void()> then) {
  if (dvk::bind(region_, slot, identity)) return waits_.erase(slot), then();
  again_later(slot, [this, slot, identity, then = std::move(then)] {
    const auto* known = entry(slot);
    const bool holds = known != nullptr && known->incarnation == identity.incarnation &&
                       known->record.node == identity.node;
    if (holds) show(slot, identity, then);
  });
}

// Who died there without anybody's looking is buried.
void Bindings::again_later(uint32_t slot, std::function<void()> then) {
  if (++waits_[slot] == kManyWaits) {
    log::warn("DC {}: endpoint {} waits: a process is stopped in the middle of a call, or moves",
              dc_, region_.number_of(slot));
  }
  const auto delay = std::min(std::chrono::milliseconds(waits_[slot]), kLongestWait);
  after(delay, [this, slot, then = std::move(then)] {
    bury_forgotten(slot);
    then();
  });
}

void Bindings::bury_forgotten(uint32_t slot) {
  for (const uint32_t holder : dvk::holders(region_, slot)) {
    const auto tid = static_cast<int>(region_.at(holder).inside.load());
    const bool unbound = dvk::load_kind(region_.at(holder)) == dvk::Kind::kFree;
    if (unbound && !host_.task_of_thread(tid).has_value()) dvk::bury(region_, holder);
  }
}

// Ends an endpoint in the region. Who binds the slot meanwhile sees to the rest.
void Bindings::withdraw(uint32_t slot) {
  const uint64_t incarnation = region_.at(slot).incarnation.load();
  const bool shown = dvk::load_kind(region_.at(slot)) != dvk::Kind::kFree;
  if (!shown && !dvk::is_leaving(region_, slot)) return;
  if (dvk::unbind(region_, slot)) {
    waits_.erase(slot);
    return;
  }
  again_later(slot, [this, slot, incarnation] {
    if (region_.at(slot).incarnation.load() != incarnation) return;
    withdraw(slot);
    host_.on_place_changed(slot);
  });
}

void Bindings::bind_until_done(const EndpointRecord& record) {
  remember_unbound(record.slot, record);
  begin_to_bind(record.slot);
}

std::optional<EndpointRecord> Bindings::to_be_bound(uint32_t slot) const {
  for (const EndpointRecord& each : host_.unbound()) {
    if (each.slot == slot) return each;
  }
  return std::nullopt;
}

// One at a time for a slot: it is over before its process can have unbound it again.
void Bindings::begin_to_bind(uint32_t slot) {
  if (binding_.insert(slot).second) bind_again(slot);
}

void Bindings::end_binding(uint32_t slot) {
  binding_.erase(slot);
  remember_unbound(slot, std::nullopt);
}

// It may be bound already, by a transaction that was not answered.
void Bindings::bind_again(uint32_t slot) {
  const auto record = to_be_bound(slot);
  const bool gone =  // (numbers of threads are used again)
      !record.has_value() || host_.task_of_thread(record->tid) != record->task;
  if (gone) return end_binding(slot);
  if (const auto* known = entry(slot)) {
    end_binding(slot);
    const bool bound = known->record.node == node_ && known->record.task == record->task &&
                       known->record.tid == record->tid;
    if (bound) return bind_local(known->record, known->incarnation, [] {});
    return log::error("DC {}: endpoint {} has been bound by another process", dc_,
                      region_.number_of(slot));
  }
  // It was lost with the lease of the node to which the process has gone, if it has.
  if (host_.may_have_left(record->task)) return bind_again_later(slot);
  log::warn("DC {}: endpoint {} was lost with this node's lease; binding it again", dc_,
            region_.number_of(slot));
  bind(*record, [this, alive = std::weak_ptr(alive_), slot](Result<int> bound) {
    if (alive.expired()) return;
    if (bound.ok()) return end_binding(slot);
    bind_again_later(slot);
  });
}

void Bindings::bind_again_later(uint32_t slot) {
  after(kBindAgain, [this, slot] { bind_again(slot); });
}

void Bindings::remember_unbound(uint32_t slot, const std::optional<EndpointRecord>& record) {
  std::vector<EndpointRecord> records = host_.unbound();
  const auto removed = std::remove_if(records.begin(), records.end(),
                                      [slot](const auto& each) { return each.slot == slot; });
  if (removed == records.end() && !record.has_value()) return;
  records.erase(removed, records.end());
  if (record.has_value()) records.push_back(*record);
  host_.keep_unbound(records);
}

// ---- unbinding ----

void Bindings::unbind(uint32_t slot, Done<bool> done) {
  if (to_be_bound(slot).has_value()) {
    return done(Error(Code::kUnavailable, "it is just being bound again"));
  }
  const auto* known = entry(slot);
  if (known == nullptr) {
    withdraw(slot);
    host_.on_place_changed(slot);
    return done(true);
  }
  unbinding_.insert(slot);
  store_.txn({Compare::exists_at(key(slot), known->revision)}, {Change::remove(key(slot))},
             [this, alive = std::weak_ptr(alive_), slot,
              done = std::move(done)](Result<TxnResult> result) {
               if (alive.expired())
                 return done(Error(Code::kUnavailable, "the DC is being removed"));
               if (result.ok() && result->applied) {
                 return unbound_in_directory(slot, result->revision, done);
               }
               unbinding_.erase(slot);
               done(Error(Code::kConflict, "it has changed, or the directory did not answer"));
             });
}

// It may be bound again at once, so the answer comes when that is known here. (Should dvsd die
// before, the next one finds it bound in the region only, and serves the request again.)
void Bindings::unbound_in_directory(uint32_t slot, int64_t revision, const Done<bool>& done) {
  const uint64_t incarnation = region_.at(slot).incarnation.load();
  cluster_.when_known(revision, [this, alive = std::weak_ptr(alive_), done, slot, incarnation] {
    if (alive.expired()) return done(true);
    unbinding_.erase(slot);
    if (region_.at(slot).incarnation.load() == incarnation) {
      forget(slot);
      withdraw(slot);
    }
    done(true);
  });
}

void Bindings::remove_from_directory(uint32_t slot) {
  const auto* known = entry(slot);
  if (known == nullptr || known->record.node != node_) return;
  forget(slot);
  remove_record(*known);
}

// As long as it is of that binding: who has the slot next, or has come back, keeps it.
void Bindings::remove_record(const Cluster::EndpointEntry& of) {
  const auto* known = entry(of.record.slot);
  if (known == nullptr || known->record.node != node_ || known->incarnation != of.incarnation ||
      known->record.epoch != of.record.epoch) {
    return;
  }
  store_.txn({Compare::exists_at(key(of.record.slot), known->revision)},
             {Change::remove(key(of.record.slot))},
             [this, alive = std::weak_ptr(alive_), of](Result<TxnResult> result) {
               if (alive.expired() || (result.ok() && result->applied)) return;
               after(kRemoveAgain, [this, of] { remove_record(of); });
             });
}

// ---- what is bound here ----

void Bindings::watch(const EndpointRecord& record) {
  Bound& bound = bound_[record.slot];
  bound = Bound{++numbers_, record.task};
  host_.watch(record, bound.number);
}

void Bindings::forget(uint32_t slot) {
  if (bound_.erase(slot) != 0) host_.unwatch(slot);
}

void Bindings::forget_all() {
  while (!bound_.empty()) forget(bound_.begin()->first);
}

bool Bindings::is_bound(uint32_t slot, uint64_t number) const {
  const auto found = bound_.find(slot);
  return found != bound_.end() && found->second.number == number;
}

std::optional<std::string> Bindings::task_of(uint32_t slot) const {
  const auto found = bound_.find(slot);
  return found == bound_.end() ? std::nullopt : std::optional(found->second.task);
}

std::vector<uint32_t> Bindings::slots_of(const std::string& task) const {
  std::vector<uint32_t> slots;
  for (const auto& [slot, bound] : bound_) {
    if (bound.task == task) slots.push_back(slot);
  }
  return slots;
}

// ---- migrations ----

Status Bindings::check(const std::string& task, const std::vector<uint32_t>& slots) const {
  const Error changed(Code::kConflict,
                      "the process has bound or unbound an endpoint meanwhile; try again");
  const std::vector<uint32_t> bound = slots_of(task);
  if (!std::is_permutation(bound.begin(), bound.end(), slots.begin(), slots.end())) return changed;
  for (const uint32_t slot : slots) {
    const auto* known = entry(slot);
    const bool same = known != nullptr && known->incarnation == region_.at(slot).incarnation.load();
    if (!same) return changed;
  }
  return check_bound(task);
}

Status Bindings::check_bound(const std::string& task) const {
  const std::vector<EndpointRecord> records = host_.unbound();
  const bool some = std::any_of(records.begin(), records.end(),
                                [&](const auto& each) { return each.task == task; });
  if (!some) return {};
  return Error(Code::kConflict,
               "the process lost its endpoints with this node's lease, and is just being bound "
               "again; try again");
}

// What its process has meanwhile unbound there is not to be bound by this node, should it come back
// soon.
void Bindings::leave(const std::string& task, const std::vector<uint32_t>& slots, NodeId to,
                     uint32_t epoch) {
  for (const EndpointRecord& each : host_.unbound()) {
    if (each.task == task) remember_unbound(each.slot, std::nullopt);
  }
  for (const uint32_t slot : slots) forget(slot);
  dvk::commit_away(region_, slots, to, epoch);
  for (const uint32_t slot : slots) place(slot);
}

void Bindings::arrive(const std::string& task, const std::vector<uint32_t>& slots,
                      dvk::Capsule capsule, uint32_t epoch, std::function<void()> then) {
  if (!dvk::commit_here(region_, capsule, node_, epoch)) {
    return again_later(slots.empty() ? 0 : slots.front(),
                       [this, task, slots, capsule = std::move(capsule), epoch,
                        then = std::move(then)] { arrive(task, slots, capsule, epoch, then); });
  }
  // Known before they run: their first call may be a copy that dvsd has to carry out.
  for (const uint32_t slot : slots) watch_arrived(task, slot);
  then();
}

void Bindings::settle_in(const std::string& task, const std::vector<uint32_t>& slots) {
  for (const uint32_t slot : slots) {
    if (slot >= region_.slots()) continue;
    if (!is_bound(slot)) watch_arrived(task, slot);
    // Its record may have gone before it was here, with the lease of a dvsd that was away.
    if (!is_bound(slot)) place(slot);
    host_.on_place_changed(slot);
  }
}

void Bindings::watch_arrived(const std::string& task, uint32_t slot) {
  const auto* known = entry(slot);
  if (known == nullptr || slot >= region_.slots()) return;
  if (known->record.node == node_ && known->record.task == task) watch(known->record);
}

}  // namespace dvs
