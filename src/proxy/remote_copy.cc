// dvk_vcopy between nodes: the requester's node moves window after window, several at a time,
// reading from wherever the source is and writing to wherever the target is. Each step may be
// repeated; a party that is being migrated makes the step wait.
#include <algorithm>

#include "proxy/remote_ops.h"

namespace dvs {

using dvk::Descriptor;
using dvk::Kind;
using dvk::RxPhase;
using dvk::TxPhase;
using dvk::TxWord;
using wire::Operation;
using wire::OperationType;

namespace {

constexpr uint32_t kMaxWindow = 1024 * 1024;
// That a copy has under way: enough to keep both nodes and the link between them busy.
constexpr size_t kWindows = 8;

// A copy that needs no other node is interrupted after so many windows: dvsd has more to do.
constexpr int kWindowsAtOnce = 16;

// What one step moves, and how much a copy may in all. The header is input.
uint32_t window_of(const dvk::Region& region) {
  return std::clamp(region.header().copy_chunk, 1u, kMaxWindow);
}

uint64_t limit_of(const dvk::Region& region) {
  return std::min<uint64_t>(region.header().max_copy_bytes, MAXCOPYLEN);
}

// Results of a step besides OK and errors.
constexpr int kWait = 1;   // sent, the answer will continue it
constexpr int kAgain = 2;  // not now: in a few milliseconds

}  // namespace

void RemoteOps::drive_copy(uint32_t slot, uint64_t number) {
  Copy& copy = copies_[slot];
  if (copy.number != number) {
    const Descriptor& d = region_.at(slot);
    copy = Copy{};
    copy.number = number;
    copy.source = d.copy_source.load();
    copy.target = d.copy_target.load();
    copy.source_address = d.copy_source_addr.load();
    copy.target_address = d.copy_target_addr.load();
    copy.bytes = d.copy_bytes.load();
    if (!still_outstanding(slot, number)) {
      copies_.erase(slot);
      return;
    }
  }
  step_copy(slot, copy);
}

// A window on its way must not arrive when the call is over.
void RemoteOps::cancel_copy(uint32_t slot, uint64_t number) {
  auto copy = copies_.find(slot);
  if (copy != copies_.end() && copy->second.waits()) return;
  copies_.erase(slot);
  dvk::finish(region_, slot, number, EDVSTIMEDOUT);
}

bool RemoteOps::Copy::waits() const {
  return std::any_of(windows.begin(), windows.end(), [](const Window& w) { return w.waiting; });
}

// Sends a step. Only the answer to a window's last one counts, so that no earlier one is on its way
// (and may write) when the copy is over.
void RemoteOps::await_answer(Window& window, uint32_t party, Operation& step) {
  step.step = window.step = ++copy_steps_;
  step.offset = window.offset;
  window.waiting = true;
  window.party = party;
  window.node = static_cast<NodeId>(region_.at(party).node.load());
  env_.send(window.node, step);
}

// Takes every window as far as it goes now. The copy has a result when none is left.
void RemoteOps::step_copy(uint32_t slot, Copy& copy) {
  if (copy.bytes > limit_of(region_)) copy.rc = EDVSBADRANGE;
  const int rc = step_windows(slot, copy);
  if (rc == kAgain) env_.drive_later(slot);
  if (rc == kAgain || rc == kWait) return;
  const uint64_t number = copy.number;
  copies_.erase(slot);
  dvk::finish(region_, slot, number, rc);
}

int RemoteOps::step_windows(uint32_t slot, Copy& copy) {
  bool again = false;
  int done = 0;
  const auto step = [&](Window& window) {
    const int rc = copy.rc == OK ? step_window(slot, copy, window) : copy.rc;
    again |= rc == kAgain;
    if (rc == kWait || rc == kAgain) return false;
    copy.rc = rc;
    again |= ++done == kWindowsAtOnce && copy.begun < copy.bytes;
    return true;
  };
  for (auto window = copy.windows.begin(); window != copy.windows.end();) {
    window = !window->waiting && step(*window) ? copy.windows.erase(window) : std::next(window);
  }
  while (copy.rc == OK && !again && copy.begun < copy.bytes && copy.windows.size() < kWindows) {
    Window& window = copy.windows.emplace_back();
    window.offset = copy.begun;
    window.bytes =
        static_cast<uint32_t>(std::min<uint64_t>(window_of(region_), copy.bytes - copy.begun));
    copy.begun += window.bytes;
    if (step(window)) copy.windows.pop_back();
  }
  if (copy.rc != OK) return copy.waits() ? kWait : copy.rc;
  if (again) return kAgain;
  return copy.windows.empty() ? OK : kWait;
}

int RemoteOps::step_window(uint32_t slot, const Copy& copy, Window& window) {
  if (!window.writing) {
    if (const int rc = step_read(slot, copy, window); rc != OK) return rc;
    window.writing = true;
  }
  return step_write(slot, copy, window);
}

namespace {

// The slot of a party of a copy, and whether a step can act on it now.
int look_at_party(const dvk::Region& region, int endpoint, uint32_t& slot) {
  slot = region.slot_of(endpoint);
  if (slot >= region.slots()) return EDVSENDPOINT;
  const Descriptor& party = region.at(slot);
  if (dvk::is_gone(dvk::load_kind(party))) return EDVSDSTDIED;
  return dvk::is_migrating(party) ? kAgain : OK;
}

}  // namespace

// Moves one window from or to the memory of a party here, on behalf of the requester.
template <typename Transfer>
int RemoteOps::with_memory(uint32_t requester, uint32_t party, Transfer transfer) {
  auto& touching = region_.at(requester).touching[0];
  touching.store(party + 1);
  const bool free = party == requester || dvk::claim_memory(region_.at(party));
  const int rc = free ? transfer() : EDVSPROCSTS;
  touching.store(0);
  return rc;
}

int RemoteOps::step_read(uint32_t slot, const Copy& copy, Window& window) {
  uint32_t source = 0;
  if (int rc = look_at_party(region_, copy.source, source); rc != OK) return rc;
  const uint64_t address = copy.source_address + window.offset;
  if (dvk::runs_here(dvk::load_kind(region_.at(source)))) {
    window.data = Bytes::of_size(window.bytes);
    return with_memory(slot, source, [&] {
      return env_.read_memory(source, address, window.data.data(), window.bytes);
    });
  }
  Operation read = operation_of(slot, OperationType::kCopyRead, copy.number);
  read.peer = copy.source;
  read.epoch = region_.at(source).epoch.load();
  read.home_epoch = region_.at(slot).epoch.load();
  read.address = address;
  read.length = window.bytes;
  await_answer(window, source, read);
  return kWait;
}

int RemoteOps::step_write(uint32_t slot, const Copy& copy, Window& window) {
  uint32_t target = 0;
  if (int rc = look_at_party(region_, copy.target, target); rc != OK) return rc;
  const uint64_t address = copy.target_address + window.offset;
  if (dvk::runs_here(dvk::load_kind(region_.at(target)))) {
    return with_memory(slot, target, [&] {
      return env_.write_memory(target, address, window.data.data(), window.data.size());
    });
  }
  Operation write = operation_of(slot, OperationType::kCopyWrite, copy.number);
  write.peer = copy.target;
  write.epoch = region_.at(target).epoch.load();
  write.home_epoch = region_.at(slot).epoch.load();
  write.address = address;
  write.data = window.data;
  await_answer(window, target, write);
  return kWait;
}

// The window that this answers, if it is an answer to its last step.
RemoteOps::Window* RemoteOps::find_window(const Operation& answer) {
  if (!is_mine(answer)) return nullptr;
  const auto copy = copies_.find(answer.slot);
  if (copy == copies_.end() || copy->second.number != answer.number) return nullptr;
  for (Window& window : copy->second.windows) {
    if (window.waiting && window.step == answer.step) return &window;
  }
  return nullptr;
}

// Answers that will not come, or not be believed: those windows' steps are repeated.
void RemoteOps::stop_waiting(uint32_t slot, const std::function<bool(const Window&)>& which) {
  const auto copy = copies_.find(slot);
  if (copy == copies_.end()) return;
  for (Window& window : copy->second.windows) {
    if (which(window)) window.waiting = false;
  }
}

void RemoteOps::on_retry(const Operation& operation) {
  if (!is_mine(operation)) return;
  if (Window* window = find_window(operation)) window->waiting = false;
  env_.drive_later(operation.slot);
}

void RemoteOps::on_copy_result(const Operation& operation) {
  Window* window = find_window(operation);
  const bool is_data = operation.type == OperationType::kCopyData;
  if (window == nullptr || window->offset != operation.offset || window->writing == is_data) return;
  Copy& copy = copies_.find(operation.slot)->second;
  const bool fits = !is_data || operation.rc != OK || operation.data.size() == window->bytes;
  const int rc = fits ? result_from_elsewhere(operation.rc) : EDVSFAULT;
  window->waiting = false;
  if (rc != OK) {
    copy.rc = rc;
  } else if (is_data) {
    window->data = operation.data;
    window->writing = true;
  } else {
    copy.windows.remove_if([&](const Window& w) { return &w == window; });
  }
  const TxWord tx = dvk::load_tx(region_.at(operation.slot));
  if (tx.phase == TxPhase::kCancel) return cancel_copy(operation.slot, operation.number);
  if (dvk::is_outstanding(tx)) step_copy(operation.slot, copy);  // (else its owner did not wait)
}

// ---- the other node's side

// The party of a copy step from another node. A step from a place its requester has left since is
// refused: it may come late, when the requester has gone on. So is one of a requester that has
// died.
int RemoteOps::party_here(const Operation& operation, uint32_t& slot) {
  const Descriptor& requester = region_.at(operation.slot);
  if (requester.incarnation.load() < operation.incarnation) return kAgain;
  const bool gone = dvk::is_gone(dvk::load_kind(requester));
  if (gone || requester.incarnation.load() > operation.incarnation) return kWait;
  CopyHome& home = copy_homes_[operation.slot];
  if (home.incarnation != operation.incarnation) home = {operation.incarnation, 0};
  home.epoch = std::max({home.epoch, operation.home_epoch, requester.epoch.load()});
  if (operation.home_epoch < home.epoch) return kWait;
  if (int rc = look_at_party(region_, operation.peer, slot); rc != OK) return rc;
  const Descriptor& party = region_.at(slot);
  const bool here = dvk::runs_here(dvk::load_kind(party));
  return here && party.epoch.load() == operation.epoch ? OK : kAgain;
}

void RemoteOps::on_copy_read(NodeId from, const Operation& operation) {
  uint32_t slot = 0;
  int rc = party_here(operation, slot);
  if (rc == kWait) return;
  if (rc == kAgain) return answer(from, operation, OperationType::kRetry);
  Operation data;
  data.type = OperationType::kCopyData;
  data.dcid = operation.dcid;
  data.slot = operation.slot;
  data.incarnation = operation.incarnation;
  data.number = operation.number;
  data.step = operation.step;
  data.offset = operation.offset;
  if (rc == OK) {
    data.data = Bytes::of_size(std::min(operation.length, kMaxWindow));
    rc = with_memory(operation.slot, slot, [&] {
      return env_.read_memory(slot, operation.address, data.data.data(), data.data.size());
    });
  }
  if (rc != OK) data.data = {};
  data.rc = rc;
  env_.send(from, data);
}

void RemoteOps::on_copy_write(NodeId from, const Operation& operation) {
  uint32_t slot = 0;
  int rc = party_here(operation, slot);
  if (rc == kWait) return;
  if (rc == kAgain) return answer(from, operation, OperationType::kRetry);
  if (rc == OK) {
    rc = with_memory(operation.slot, slot, [&] {
      return env_.write_memory(slot, operation.address, operation.data.view().data(),
                               operation.data.size());
    });
  }
  answer(from, operation, OperationType::kCopyAck, rc);
}

}  // namespace dvs
