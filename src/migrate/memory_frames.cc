#include "migrate/memory_frames.h"

#include <algorithm>

#include "migrate/page_packing.h"
#include "wire/codec.h"

namespace dvs {
namespace {

constexpr size_t kRangesPerFrame = 4096;

Error of_no_sense() { return Error(Code::kCorrupt, "memory of no sense"); }

bool is_part(uint8_t part) {
  return part >= static_cast<uint8_t>(MemoryPart::kPages) &&
         part <= static_cast<uint8_t>(MemoryPart::kPacked);
}

bool is_sane(mover::PageRange range) {
  return mover::is_page_aligned(range.start) && mover::is_page_aligned(range.end) &&
         range.start < range.end && range.end <= mover::kAddressLimit;
}

}  // namespace

bool is_memory(std::string_view body) {
  return !body.empty() && is_part(static_cast<uint8_t>(body.front()));
}

std::string encode_memory(const std::string& migration, const MemoryFrame& frame) {
  wire::Writer out;
  out.put(static_cast<uint8_t>(frame.part));
  out.put_string(migration);
  out.put(static_cast<uint32_t>(frame.pid));
  out.put(frame.pages.start);
  out.put(frame.pages.end);
  out.put_bytes(frame.bytes);
  return out.take();
}

Result<MemoryFrame> decode_memory(std::string_view body) {
  wire::Reader in(body);
  const auto part = in.get<uint8_t>();
  in.get_string();
  MemoryFrame frame;
  frame.part = static_cast<MemoryPart>(part);
  frame.pid = static_cast<pid_t>(in.get<uint32_t>());
  frame.pages.start = in.get<uint64_t>();
  frame.pages.end = in.get<uint64_t>();
  frame.bytes = in.rest();
  if (!in.ok() || !is_part(part)) return of_no_sense();
  if (frame.part == MemoryPart::kGone) return frame;
  if (frame.pid <= 0 || !is_sane(frame.pages)) return of_no_sense();
  if (frame.part == MemoryPart::kPages && frame.bytes.size() != frame.pages.size()) {
    return of_no_sense();
  }
  const bool packed = frame.part == MemoryPart::kPacked;
  if (packed && frame.pages.size() > kMemoryBytesPerFrame) return of_no_sense();
  return frame;
}

Result<MemoryFrame> unpacked(const MemoryFrame& frame, std::string& storage) {
  if (frame.part != MemoryPart::kPacked) return frame;
  DVS_ASSIGN(storage, unpack(frame.bytes, frame.pages.size()));
  return MemoryFrame{MemoryPart::kPages, frame.pid, frame.pages, storage};
}

std::vector<std::string> encode_owed(const std::string& migration, pid_t pid,
                                     const mover::PageRanges& ranges) {
  std::vector<std::string> bodies;
  for (size_t first = 0; first < ranges.size(); first += kRangesPerFrame) {
    const size_t end = std::min(first + kRangesPerFrame, ranges.size());
    wire::Writer list;
    for (size_t i = first; i < end; ++i) {
      list.put(ranges[i].start);
      list.put(ranges[i].end);
    }
    const std::string bytes = list.take();
    const mover::PageRange hull{ranges[first].start, ranges[end - 1].end};
    bodies.push_back(encode_memory(migration, {MemoryPart::kOwe, pid, hull, bytes}));
  }
  return bodies;
}

Result<mover::PageRanges> decode_ranges(std::string_view bytes) {
  wire::Reader in(bytes);
  mover::PageRanges ranges;
  while (in.ok() && !in.done()) {
    mover::PageRange range;
    range.start = in.get<uint64_t>();
    range.end = in.get<uint64_t>();
    if (!in.ok() || !is_sane(range)) return of_no_sense();
    ranges.push_back(range);
  }
  return ranges;
}

}  // namespace dvs
