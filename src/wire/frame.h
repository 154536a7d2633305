// Frames: what goes over a link between two dvsd. A fixed header of explicit widths, little
// endian, then a body. No I/O here: FrameReader eats bytes and yields whole, checked frames.
//
//   offset 0  u32 magic "DVS1" (0x31535644)     offset 8   u32 body length (<= kMaxBody)
//   offset 4  u8  version (1)                   offset 12  u32 checksum of the body (*)
//   offset 5  u8  type                          offset 16  u32 checksum of bytes 0..15
//   offset 6  u16 flags (kCompressed, or 0)     offset 20  body
//
// (*) the low half of XXH3-64.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace dvs::wire {

constexpr uint32_t kMagic = 0x31535644;
constexpr uint8_t kVersion = 1;
constexpr size_t kHeaderSize = 20;
constexpr size_t kMaxBody = 4u << 20;
constexpr uint16_t kCompressed = 1;  // the body is one of wire/compression.h

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
  Bytes body;
};

// Header + body, ready to be written. REQUIRES: body.size() <= kMaxBody.
std::string encode_frame(FrameType type, std::string_view body);
// The same, at the end of `out`.
void append_frame(std::string& out, FrameType type, std::string_view body);
// The same of a frame whose body is `head` and then `bulk`, but without `bulk`.
void append_frame_up_to(std::string& out, FrameType type, std::string_view head,
                        std::string_view bulk, uint16_t flags = 0);

// Each received byte is copied once, whatever the pieces, or not at all: what a body still lacks
// may be received right into it. Memory is one frame's body, and that only after its header's
// checksum was right.
class FrameReader {
 public:
  // `max_body`: longer frames are errors. For peers that are not known yet.
  explicit FrameReader(size_t max_body = kMaxBody) : max_body_(max_body) {}
  // For the headers that come from now on. REQUIRES: max_body <= kMaxBody.
  void set_max_body(size_t max_body);

  // Adds received bytes. Appends every frame they complete to `out`. An Error (kCorrupt, naming
  // what is wrong) is final: the stream cannot be trusted any more and the link must be closed.
  // Frames completed before the fault are good and are in `out`. (A compressed one comes out as it
  // was before.)
  Status feed(std::string_view bytes, std::vector<Frame>& out);

  // What the body under way still lacks, to be received into; nothing between two frames.
  std::span<char> lacking();
  // So many bytes of it are there: as feed().
  Status received(size_t count, std::vector<Frame>& out);

 private:
  Status take_header(std::string_view& bytes);
  Status parse_header();
  Status fail(std::string what);

  size_t max_body_;
  std::array<char, kHeaderSize> header_;
  size_t header_size_ = 0;  // bytes of the header that are here; kHeaderSize: it is checked
  FrameType type_{};        // from here on: of a checked header
  uint16_t flags_ = 0;
  uint32_t body_checksum_ = 0;
  Bytes body_;
  size_t body_here_ = 0;
  std::string failure_;  // empty: none
};

}  // namespace dvs::wire
