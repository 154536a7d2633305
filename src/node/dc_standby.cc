// Processes of this node that stand by for an endpoint whose primary is on another one: a backup
// waits until it is made the primary, a replica serves the processes of this node meanwhile. The
// directory knows only the primary, so this node alone cares for them.
#include "base/log.h"
#include "node/dc_part.h"

namespace dvs {

using dvk::Kind;

// Attaches a process to the endpoint that `primary` describes.
void DcPart::stand_by(uint32_t slot, Kind kind, dvk::Identity primary, const std::string& task,
                      const ThreadIds& ids) {
  primary.kind = kind;
  primary.pid = ids.dc_pid;
  primary.tid = ids.dc_tid;
  if (!dvk::bind(region_, slot, primary)) return;  // not of the endpoint that is known
  Standby& standby = standbys_[slot];
  standby.kind = kind;
  standby.ids = ids;
  standby.task = task;
  UniqueFd pidfd = open_pidfd(ids);
  if (!pidfd.valid()) return end_standby(slot);
  standby.pidfd =
      std::make_unique<boost::asio::posix::stream_descriptor>(context_.executor, pidfd.release());
  await_death_of_standby(slot);
  ops_->on_place_changed(slot);
}

void DcPart::await_death_of_standby(uint32_t slot) {
  standbys_.at(slot).pidfd->async_wait(
      boost::asio::posix::stream_descriptor::wait_read,
      [weak = weak_from_this(), slot](const boost::system::error_code& ec) {
        auto self = weak.lock();
        if (ec || self == nullptr) return;
        const auto found = self->standbys_.find(slot);
        if (found == self->standbys_.end() || found->second.pidfd == nullptr) return;
        if (!has_ended(*found->second.pidfd)) return self->await_death_of_standby(slot);
        self->end_standby(slot);
      });
}

// Its death, or its wish, concerns this node only: the primary is where it was.
void DcPart::end_standby(uint32_t slot) {
  standbys_.erase(slot);
  dvk::drop_standby(region_, slot);
  place(slot);
}

// A restarted dvsd finds in the region who stands by.
void DcPart::find_standby(uint32_t slot) {
  const dvk::Identity known = dvk::identity_of(region_, slot);
  const auto thread = find_thread(known.tid);
  if (!thread.has_value()) return end_standby(slot);
  stand_by(slot, known.kind, known, thread->first, thread->second);
}

// The primary is elsewhere, as the directory says (again). Who stands by for it goes on if it is
// the one they stood by for; a replica also for a new one, from scratch.
void DcPart::show_elsewhere(uint32_t slot, const dvk::Identity& primary) {
  const dvk::Descriptor& d = region_.at(slot);
  const Kind kind = dvk::load_kind(d);
  const bool same = d.incarnation.load() == primary.incarnation;
  const auto standby = standbys_.find(slot);
  const bool stood_by = kind == Kind::kBackup || kind == Kind::kReplica;
  if (same && stood_by && standby == standbys_.end()) find_standby(slot);
  const auto goes_on = standbys_.find(slot);
  dvk::Identity shown = primary;
  if (goes_on != standbys_.end() && (same || goes_on->second.kind == Kind::kReplica)) {
    shown.kind = goes_on->second.kind;
    shown.pid = goes_on->second.ids.dc_pid;
    shown.tid = goes_on->second.ids.dc_tid;
  } else {
    standbys_.erase(slot);
  }
  bindings_.show(slot, shown,
                 [self = shared_from_this(), slot] { self->ops_->on_place_changed(slot); });
}

// The primary has gone. A backup is told so by finding itself unbound; one of the replicas takes
// the primary's place, the others stand by for that one.
void DcPart::primary_gone(uint32_t slot) {
  const auto found = standbys_.find(slot);
  if (found == standbys_.end()) return;
  if (found->second.kind == Kind::kBackup) {
    standbys_.erase(found);
    return;
  }
  EndpointRecord record = record_of(slot, found->second.task, found->second.ids);
  record.replica = true;
  bindings_.bind(record, [self = shared_from_this(), slot](Result<int> bound) {
    if (bound.ok() || bound.error().code() == Code::kConflict) return;
    log::warn("DC {}: a replica of endpoint {} is not bound any more: {}", self->record_.name,
              self->region_.number_of(slot), bound.error().message());
    self->standbys_.erase(slot);
  });
}

}  // namespace dvs
