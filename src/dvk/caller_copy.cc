// dvk_vcopy: directly between two processes' memory when both run on this node, else carried by
// dvsd (proxy/remote_copy.h) as an operation of the requester.
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "dvk/caller.h"

namespace dvs::dvk {
namespace {

constexpr int64_t kCopyLimitMs = 5000;

int copy_error(int err) {
  switch (err) {
    case ESRCH:
      return EDVSDSTDIED;
    case EPERM:
      return EDVSPRIVILEGES;
    default:
      return EDVSFAULT;
  }
}

// One of process_vm_readv and process_vm_writev, until all is copied.
template <typename Transfer>
int transfer_all(Transfer transfer, int pid, char* mine, char* theirs, size_t bytes) {
  while (bytes > 0) {
    iovec local{mine, bytes};
    iovec remote{theirs, bytes};
    const ssize_t n = transfer(pid, &local, 1UL, &remote, 1UL, 0UL);
    if (n <= 0) return n < 0 ? copy_error(errno) : EDVSFAULT;
    mine += n;
    theirs += n;
    bytes -= static_cast<size_t>(n);
  }
  return OK;
}

}  // namespace

struct Caller::Party {
  uint32_t slot = 0;
  int endpoint = 0;
  char* address = nullptr;
};

int Caller::party_of(int endpoint, Party& party) const {
  party.endpoint = endpoint == SELF ? me_.endpoint.load() : endpoint;
  party.slot = region_.slot_of(party.endpoint);
  if (party.slot >= region_.slots()) return EDVSENDPOINT;
  if (party.slot == slot_) return OK;
  return check_destination(party.endpoint, party.slot);
}

// Announces what is about to be touched, then looks whether it may be: a migration closes the gate
// first and then looks for announcements, so one of the two sees the other.
bool Caller::touch(uint32_t first, uint32_t second) {
  me_.touching[0].store(first + 1);
  me_.touching[1].store(second + 1);
  for (uint32_t slot : {first, second}) {
    const Descriptor& d = region_.at(slot);
    if (slot != slot_ && (!runs_here(load_kind(d)) || is_migrating(d))) {
      untouch();
      return false;
    }
  }
  return true;
}

void Caller::untouch() {
  me_.touching[0].store(0);
  me_.touching[1].store(0);
}

int Caller::copy_here(const Party& source, const Party& target, size_t bytes) {
  const int source_pid = region_.at(source.slot).pid.load();
  const int target_pid = region_.at(target.slot).pid.load();
  if (source.slot == slot_) {
    return transfer_all(process_vm_writev, target_pid, source.address, target.address, bytes);
  }
  if (target.slot == slot_) {
    return transfer_all(process_vm_readv, source_pid, target.address, source.address, bytes);
  }
  std::vector<char> window(std::min<size_t>(bytes, 256 * 1024));
  for (size_t done = 0; done < bytes;) {
    const size_t part = std::min(window.size(), bytes - done);
    int rc = transfer_all(process_vm_readv, source_pid, window.data(), source.address + done, part);
    if (rc == OK) {
      rc = transfer_all(process_vm_writev, target_pid, window.data(), target.address + done, part);
    }
    if (rc != OK) return rc;
    done += part;
  }
  return OK;
}

// When a wait is over: whoever began a copy from or to this process's memory before that is
// awaited, so that nobody touches it when the call has returned. (A copier that dies is buried by
// dvsd; the limit is for when that is dead as well.)
void Caller::await_copies() {
  if (me_.touched.load() == 0) return;
  me_.touched.store(0);
  await_copiers();
}

// The same for who has lost the endpoint: the mark may be its next owner's.
void Caller::await_copiers() {
  const Deadline limit = Deadline::after_ms(kCopyLimitMs);
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const Descriptor& d = region_.at(slot);
    while (slot != slot_ &&
           (d.touching[0].load() == slot_ + 1 || d.touching[1].load() == slot_ + 1)) {
      const uint32_t prepared = event_prepare(me_.event);
      sleep_on(me_.event, prepared, Deadline::earlier(limit, Deadline::after_ms(1)));
      if (limit.passed()) return;
    }
  }
}

// Of memory other than its own. REQUIRES: touch() of both.
int Caller::claim(const Party& source, const Party& target) const {
  for (const Party& party : {source, target}) {
    if (party.slot == slot_) continue;
    if (!region_.names(party.endpoint, party.slot)) return EDVSDSTDIED;
    if (!claim_memory(region_.at(party.slot))) return EDVSPROCSTS;
  }
  return OK;
}

int Caller::vcopy(int src, const void* from, int dst, void* to, size_t bytes, Deadline deadline) {
  Party source;
  Party target;
  if (int rc = party_of(src, source); rc != OK) return rc;
  if (int rc = party_of(dst, target); rc != OK) return rc;
  if (source.slot == target.slot) return EDVSPERM;
  if (bytes > region_.header().max_copy_bytes) return EDVSBADRANGE;
  if (bytes == 0) return OK;
  source.address = const_cast<char*>(static_cast<const char*>(from));
  target.address = static_cast<char*>(to);
  for (;;) {
    const uint32_t prepared = event_prepare(region_.at(target.slot).event);
    const uint32_t prepared_source = event_prepare(region_.at(source.slot).event);
    if (touch(source.slot, target.slot)) {
      int rc = claim(source, target);
      if (rc == OK) rc = copy_here(source, target, bytes);
      untouch();
      // Not for this process to do (it has another user; criu is just ending with it): for dvsd.
      if (rc == EDVSPRIVILEGES) return vcopy_elsewhere(source, target, bytes, deadline);
      if (rc == OK) me_.local_copied.fetch_add(1, kUnordered);
      return rc;
    }
    Party* waited_for = nullptr;
    for (Party* party : {&source, &target}) {
      const Descriptor& d = region_.at(party->slot);
      if (party->slot == slot_) continue;
      if (is_gone(load_kind(d))) return EDVSDSTDIED;
      if (runs_here(load_kind(d)) && is_migrating(d)) waited_for = party;
    }
    if (waited_for == nullptr) return vcopy_elsewhere(source, target, bytes, deadline);
    const uint32_t seen = waited_for == &source ? prepared_source : prepared;
    const Woken woken = nap_on(region_.at(waited_for->slot).event, seen, deadline);
    if (!still_bound()) return EDVSSHUTDOWN;
    if (woken == Woken::kOver) return EDVSTIMEDOUT;
  }
}

int Caller::vcopy_elsewhere(const Party& source, const Party& target, size_t bytes,
                            Deadline deadline) {
  me_.copy_source.store(source.endpoint);
  me_.copy_target.store(target.endpoint);
  me_.copy_source_addr.store(reinterpret_cast<uint64_t>(source.address));
  me_.copy_target_addr.store(reinterpret_cast<uint64_t>(target.address));
  me_.copy_bytes.store(bytes);
  const uint64_t number = load_tx(me_).number + 1;
  const Party& peer = target.slot == slot_ ? source : target;
  prepare(OpKind::kVcopy, peer.endpoint, message{});
  me_.remote_copied.fetch_add(1, kUnordered);
  me_.tx.store(TxWord{TxPhase::kPosted, 0, number}.pack());
  region_.ring(slot_);
  return await_done(number, peer.slot, deadline);
}

}  // namespace dvs::dvk
