// Frames: what goes over a link between two dvsd. A fixed header of explicit widths, little
// endian, then a body. No I/O here: FrameReader eats bytes and yields whole, checked frames.
//
//   offset 0  u32 magic "DVS1" (0x31535644)     offset 8   u32 body length (<= kMaxBody)
//   offset 4  u8  version (1)                   offset 12  u32 CRC-32 of the body (zlib)
//   offset 5  u8  type                          offset 16  u32 CRC-32 of bytes 0..15
//   offset 6  u16 flags (0 in version 1)        offset 20  body
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dvs::wire {

constexpr uint32_t kMagic = 0x31535644;
constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderSize = 20;
constexpr size_t kMaxBody = 4u << 20;

// On the wire: never renumber.
enum class FrameType : uint8_t {
  kHello = 1,      // first frame in each direction: JSON, see proxy/link.h
  kPing = 2,       // keep-alive, empty
  kControl = 3,    // JSON request or answer between conductors, see node/control.h
  kOperation = 4,  // an M3-IPC operation or its answer, see wire/operation.h
  kImage = 5,      // a piece of a migration's images, see migrate/transfer.h
};
bool is_known(uint8_t type);

struct Frame {
  FrameType type;
  std::string body;
};

// Header + body, ready to be written. REQUIRES: body.size() <= kMaxBody.
std::string encode_frame(FrameType type, std::string_view body);

class FrameReader {
 public:
  // Adds received bytes. Appends every frame they complete to `out`. An Error (kCorrupt, naming
  // what is wrong) is final: the stream cannot be trusted any more and the link must be closed.
  Status feed(std::string_view bytes, std::vector<Frame>& out);

 private:
  std::string pending_;
  bool failed_ = false;
};

}  // namespace dvs::wire
