// Memory on its way, as bodies of frames of type kImage (migrate/transfer.h has the others):
//   u8 part, string migration id, u32 pid, u64 start, u64 end, bytes
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mover/page_range.h"

namespace dvs {

enum class MemoryPart : uint8_t {
  // From where it is to where it goes.
  kPages = 4,  // bytes: the pages' content
  kDrop = 5,   // they are zeros, or no more
  kOwe = 6,    // bytes: a list of ranges in [start, end), each u64 start, u64 end, that are owed
  kGone = 7,   // what is owed cannot be had any more; bytes: why, text. No pages.
  // From where it goes to where it is.
  kWant = 8,       // at once, what is owed there
  kWantLater = 9,  // ... when nothing more urgent is wanted

  kPacked = 10,  // as kPages; bytes: as of migrate/page_packing.h
};

struct MemoryFrame {
  MemoryPart part = MemoryPart::kPages;
  pid_t pid = 0;  // as numbered in the DC
  mover::PageRange pages{};
  std::string_view bytes{};  // of the frame it was decoded from
};

constexpr size_t kMemoryBytesPerFrame = 64 << 10;

std::string encode_memory(const std::string& migration, const MemoryFrame& frame);
// kCorrupt: it is no such frame, or of no sense. Pages are whole and have addresses of processes.
Result<MemoryFrame> decode_memory(std::string_view body);
// kPages of kPacked, with its bytes in `storage`; any other frame as it is. kCorrupt.
Result<MemoryFrame> unpacked(const MemoryFrame& frame, std::string& storage);
// Whether it is one of these, or one of migrate/transfer.h.
bool is_memory(std::string_view body);

// Bodies of kOwe that tell of all of these.
std::vector<std::string> encode_owed(const std::string& migration, pid_t pid,
                                     const mover::PageRanges& ranges);
// kCorrupt, as decode_memory().
Result<mover::PageRanges> decode_ranges(std::string_view bytes);

}  // namespace dvs
