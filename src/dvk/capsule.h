// The capsule: what moves with the endpoints of a process besides the process itself. Nothing a
// client was promised is forgotten: pending notifications, the process's own outstanding
// operations, and its debts (requests it took and has not answered, answers not yet fetched, and
// the numbers of the last operations it took, so that none is ever taken twice).
//
// Requests that were not taken do not move: each stays in its sender's descriptor, at the
// sender's node, and is sent to the new place.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "dvk/permissions.h"

namespace dvs::dvk {

struct CapsuleNotification {
  uint16_t source = 0;  // slot
  uint64_t incarnation = 0;
  uint64_t number = 0;  // of the source's last operation when the capsule was made
  int64_t value = 0;
};

struct CapsuleEndpoint {
  uint32_t slot = 0;
  int endpoint = 0;
  uint64_t incarnation = 0;
  int pid = 0;
  int tid = 0;
  std::string name;
  uint32_t flags = 0;  // without kMigrating
  uint32_t event = 0;
  uint32_t inside = 0;
  uint32_t busy = 0;
  RxWord rx;
  uint32_t rx_kind = 0;
  message rx_message{};
  uint32_t next_sender = 0;
  TxWord tx;
  uint32_t tx_kind = 0;
  int tx_peer = 0;
  int64_t notify_value = 0;
  message tx_message{};
  Permissions permissions;
  int copy_source = 0;
  int copy_target = 0;
  uint64_t copy_source_addr = 0;
  uint64_t copy_target_addr = 0;
  uint64_t copy_bytes = 0;
  uint64_t counters[4] = {};
  std::vector<CapsuleNotification> notifications;
};

// What a moving endpoint owes to, or has settled with, the process in slot `source`.
struct CapsuleDebt {
  uint32_t source = 0;
  uint64_t incarnation = 0;
  TxWord tx;  // kTaken or kDone
  uint32_t tx_kind = 0;
  int tx_peer = 0;
  int64_t notify_value = 0;  // of the creditor's last notification, as of this operation
  bool answered = false;     // the answer is in `answer` and may not have been fetched
  uint32_t answer_kind = 0;
  message answer{};
};

// A process that the above speaks of, in case the target has not heard of it yet.
struct CapsulePeer {
  uint32_t slot = 0;
  int endpoint = 0;
  uint64_t incarnation = 0;
  uint32_t epoch = 0;
  uint32_t node = 0;
  std::string name;
};

struct Capsule {
  std::vector<CapsuleEndpoint> endpoints;
  std::vector<CapsuleDebt> debts;
  std::vector<CapsulePeer> peers;
};

std::string encode_capsule(const Capsule& capsule);
// kCorrupt: not a capsule, or one for a region with fewer than `slots` slots.
Result<Capsule> decode_capsule(std::string_view bytes, uint32_t slots);

}  // namespace dvs::dvk
