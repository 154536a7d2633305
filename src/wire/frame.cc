#include "wire/frame.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>  // the widest vectors that this processor has
#endif

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "wire/codec.h"
#include "wire/compression.h"

namespace dvs::wire {
namespace {

constexpr size_t kHeaderChecksumOffset = 16;

uint32_t checksum_of(std::string_view bytes) {
  return static_cast<uint32_t>(XXH3_64bits(bytes.data(), bytes.size()));
}

// Of one after the other.
uint32_t checksum_of(std::string_view head, std::string_view bulk) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, head.data(), head.size());
  XXH3_64bits_update(&state, bulk.data(), bulk.size());
  return static_cast<uint32_t>(XXH3_64bits_digest(&state));
}

}  // namespace

bool is_known(uint8_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::kHello:
    case FrameType::kPing:
    case FrameType::kControl:
    case FrameType::kOperation:
    case FrameType::kImage:
      return true;
  }
  return false;
}

void append_frame_up_to(std::string& out, FrameType type, std::string_view head,
                        std::string_view bulk, uint16_t flags) {
  const size_t size = head.size() + bulk.size();
  DVS_CHECK(size <= kMaxBody, "size {}", size);
  Writer header;
  header.put(kMagic);
  header.put(kVersion);
  header.put(static_cast<uint8_t>(type));
  header.put(flags);
  header.put(static_cast<uint32_t>(size));
  header.put(bulk.empty() ? checksum_of(head) : checksum_of(head, bulk));
  const std::string checked = header.take();
  Writer checksum;
  checksum.put(checksum_of(checked));
  out.append(checked).append(checksum.take()).append(head);
}

void append_frame(std::string& out, FrameType type, std::string_view body) {
  append_frame_up_to(out, type, body, {});
}

std::string encode_frame(FrameType type, std::string_view body) {
  std::string out;
  out.reserve(kHeaderSize + body.size());
  append_frame(out, type, body);
  return out;
}

void FrameReader::set_max_body(size_t max_body) {
  DVS_CHECK(max_body <= kMaxBody, "{}", max_body);
  max_body_ = max_body;
}

Status FrameReader::feed(std::string_view bytes, std::vector<Frame>& out) {
  if (!failure_.empty()) return Error(Code::kCorrupt, failure_);
  while (!bytes.empty()) {
    if (header_size_ < kHeaderSize) DVS_TRY(take_header(bytes));
    if (header_size_ < kHeaderSize) continue;
    const size_t count = std::min(lacking().size(), bytes.size());
    if (count != 0) std::memcpy(lacking().data(), bytes.data(), count);
    bytes.remove_prefix(count);
    DVS_TRY(received(count, out));
  }
  return {};
}

std::span<char> FrameReader::lacking() {
  if (header_size_ < kHeaderSize || !failure_.empty()) return {};
  return {body_.data() + body_here_, body_.size() - body_here_};
}

Status FrameReader::received(size_t count, std::vector<Frame>& out) {
  body_here_ += count;
  if (body_here_ < body_.size()) return {};
  if (checksum_of(body_.view()) != body_checksum_) {
    return fail("frame body with a wrong checksum");
  }
  Bytes body = std::exchange(body_, {});
  if ((flags_ & kCompressed) != 0) {
    auto whole = decompress(body.view(), max_body_);
    if (!whole.ok()) return fail(whole.error().message());
    body = std::move(*whole);
  }
  out.push_back({type_, std::move(body)});
  header_size_ = 0;
  return {};
}

Status FrameReader::take_header(std::string_view& bytes) {
  const size_t count = std::min(kHeaderSize - header_size_, bytes.size());
  std::memcpy(header_.data() + header_size_, bytes.data(), count);
  header_size_ += count;
  bytes.remove_prefix(count);
  if (header_size_ < kHeaderSize) return {};
  return parse_header();
}

Status FrameReader::parse_header() {
  const std::string_view header(header_.data(), kHeaderSize);
  Reader reader(header);
  const auto magic = reader.get<uint32_t>();
  const auto version = reader.get<uint8_t>();
  const auto type = reader.get<uint8_t>();
  const auto flags = reader.get<uint16_t>();
  const auto size = reader.get<uint32_t>();
  body_checksum_ = reader.get<uint32_t>();
  if (magic != kMagic) return fail(fmt::format("not a frame: magic {:#010x}", magic));
  if (reader.get<uint32_t>() != checksum_of(header.substr(0, kHeaderChecksumOffset))) {
    return fail("frame header with a wrong checksum");
  }
  if (version != kVersion) return fail(fmt::format("frame version {}, not {}", version, kVersion));
  if (!is_known(type)) return fail(fmt::format("unknown frame type {}", type));
  if ((flags & ~kCompressed) != 0) return fail(fmt::format("unknown frame flags {:#06x}", flags));
  if (size > max_body_) {
    return fail(fmt::format("frame of {} bytes, at most {} allowed", size, max_body_));
  }
  type_ = static_cast<FrameType>(type);
  flags_ = flags;
  body_ = Bytes::of_size(size);
  body_here_ = 0;
  return {};
}

Status FrameReader::fail(std::string what) {
  body_ = {};
  failure_ = std::move(what);
  return Error(Code::kCorrupt, failure_);
}

}  // namespace dvs::wire
