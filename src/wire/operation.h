// M3-IPC between two nodes: the body of a frame of type kOperation. Every operation belongs to the
// outstanding operation `number` of the endpoint in `slot` (of that `incarnation`), so each may
// arrive twice, late or never; proxy/remote_ops.h says what is done about it.
//
//   requester's node ──kRequest──▶ peer's node     here is my operation (again)
//                    ◀──kAck────                   it has this result
//                    ◀──kAnswer─                   the answer of a sendrec
//                    ◀──kMoved──                   the peer is not here / you use an old epoch
//                    ◀──kRetry──                   I do not know enough yet; ask again soon
//                    ──kCancel─▶                   its deadline has passed; what became of it?
//   vcopy:           ──kCopyRead▶ ◀─kCopyData─     a window of the source's memory
//                    ──kCopyWrite▶ ◀─kCopyAck──    a window into the target's memory
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"
#include "dvk/dvk.h"

namespace dvs::wire {

// On the wire: never renumber.
enum class OperationType : uint8_t {
  kRequest = 1,
  kAck = 2,
  kAnswer = 3,
  kMoved = 4,
  kRetry = 5,
  kCancel = 6,
  kCopyRead = 7,
  kCopyData = 8,
  kCopyWrite = 9,
  kCopyAck = 10,
};

struct Operation {
  OperationType type = OperationType::kRequest;
  int32_t dcid = 0;
  uint32_t slot = 0;  // whose operation it is
  uint64_t incarnation = 0;
  uint64_t number = 0;

  // Only those that the type needs are sent.
  uint8_t kind = 0;               // kRequest, kAnswer: dvk::OpKind
  int32_t peer = 0;               // kRequest, kCancel, kCopyRead, kCopyWrite: endpoint it is for
  uint64_t peer_incarnation = 0;  // kRequest, kCancel
  uint32_t epoch = 0;       // kRequest, kCancel, kCopy*: of the peer, as the requester knows it;
                            // kMoved: the newest the answering node knows
  int32_t rc = 0;           // kAck, kCopyData, kCopyAck
  uint32_t home_epoch = 0;  // kCopy*: of the requester
  uint32_t step = 0;        // kCopy*, kRetry: tells a step of a copy from its repetition
  uint64_t offset = 0;      // kCopy*: of the window in the whole copy
  uint64_t address = 0;     // kCopyRead, kCopyWrite
  uint32_t length = 0;      // kCopyRead
  int64_t value = 0;        // kRequest: value of a notification
  message m{};              // kRequest, kAnswer
  Bytes data;               // kCopyData, kCopyWrite
};

std::string encode_operation(const Operation& operation);
// All but the data, which is to follow.
std::string encode_operation_head(const Operation& operation);
// kCorrupt. Its data shares the memory of `body`.
Result<Operation> decode_operation(const Bytes& body);

}  // namespace dvs::wire
