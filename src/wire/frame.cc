#include "wire/frame.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "wire/codec.h"

namespace dvs::wire {
namespace {

constexpr size_t kHeaderChecksumOffset = 16;

uint32_t checksum_of(std::string_view bytes) {
  return static_cast<uint32_t>(XXH3_64bits(bytes.data(), bytes.size()));
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

void append_frame(std::string& out, FrameType type, std::string_view body) {
  DVS_CHECK(body.size() <= kMaxBody, "size {}", body.size());
  Writer header;
  header.put(kMagic);
  header.put(kVersion);
  header.put(static_cast<uint8_t>(type));
  header.put(uint16_t{0});
  header.put(static_cast<uint32_t>(body.size()));
  header.put(checksum_of(body));
  const std::string checked = header.take();
  Writer checksum;
  checksum.put(checksum_of(checked));
  out.append(checked).append(checksum.take()).append(body);
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
    if (header_size_ == kHeaderSize) DVS_TRY(take_body(bytes, out));
  }
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
  body_size_ = reader.get<uint32_t>();
  body_checksum_ = reader.get<uint32_t>();
  if (magic != kMagic) return fail(fmt::format("not a frame: magic {:#010x}", magic));
  if (reader.get<uint32_t>() != checksum_of(header.substr(0, kHeaderChecksumOffset))) {
    return fail("frame header with a wrong checksum");
  }
  if (version != kVersion) return fail(fmt::format("frame version {}, not {}", version, kVersion));
  if (!is_known(type)) return fail(fmt::format("unknown frame type {}", type));
  if (flags != 0) return fail(fmt::format("unknown frame flags {:#06x}", flags));
  if (body_size_ > max_body_) {
    return fail(fmt::format("frame of {} bytes, at most {} allowed", body_size_, max_body_));
  }
  type_ = static_cast<FrameType>(type);
  body_.reserve(body_size_);
  return {};
}

Status FrameReader::take_body(std::string_view& bytes, std::vector<Frame>& out) {
  const size_t count = std::min(body_size_ - body_.size(), bytes.size());
  body_.append(bytes.substr(0, count));
  bytes.remove_prefix(count);
  if (body_.size() < body_size_) return {};
  if (checksum_of(body_) != body_checksum_) return fail("frame body with a wrong checksum");
  out.push_back({type_, std::exchange(body_, {})});
  header_size_ = 0;
  return {};
}

Status FrameReader::fail(std::string what) {
  body_ = {};
  failure_ = std::move(what);
  return Error(Code::kCorrupt, failure_);
}

}  // namespace dvs::wire
