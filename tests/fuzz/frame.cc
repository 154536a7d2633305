// Frames of a link, in pieces of any size. The first byte chooses: whether what follows is the
// stream itself, or the body of a good frame before garbage (no fuzzer guesses a checksum), and how
// large the pieces are.
#include "wire/frame.h"

#include <algorithm>

#include "fuzz/target.h"

namespace dvs::fuzz {
namespace {

using wire::Frame;
using wire::FrameReader;

// False: the stream was found to be broken.
bool feed(FrameReader& reader, std::string_view stream, size_t piece, std::vector<Frame>& out) {
  for (size_t at = 0; at < stream.size(); at += piece) {
    if (!reader.feed(stream.substr(at, piece), out).ok()) return false;
  }
  return true;
}

void raw(std::string_view stream, size_t piece) {
  FrameReader reader(1 << 16);
  std::vector<Frame> frames;
  const bool good = feed(reader, stream, piece, frames);
  std::string again;
  for (const Frame& frame : frames) wire::append_frame(again, frame.type, frame.body.view());
  must(stream.substr(0, again.size()) == again);
  if (good) return;
  // Nothing more comes after an error.
  const size_t before = frames.size();
  must(!reader.feed(wire::encode_frame(wire::FrameType::kPing, {}), frames).ok());
  must(frames.size() == before);
}

void good_then_garbage(std::string_view body, size_t piece) {
  const size_t half = body.size() / 2;
  const std::string first = wire::encode_frame(wire::FrameType::kControl, body.substr(0, half));
  FrameReader reader;
  std::vector<Frame> frames;
  feed(reader, first + std::string(body.substr(half)), piece, frames);
  must(!frames.empty() && frames[0].body.view() == body.substr(0, half));
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto rest = dvs::fuzz::text_of(data + 1, size - 1);
  const size_t piece = 1 + (data[0] >> 1);
  data[0] % 2 == 0 ? dvs::fuzz::raw(rest, piece) : dvs::fuzz::good_then_garbage(rest, piece);
  return 0;
}
