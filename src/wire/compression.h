// Bodies of frames, compressed by LZ4. For frames that carry much: below kWorthCompressing nothing
// is tried.
//
//   body of such a frame: u32 size of head, u32 size of bulk, head, bulk as an LZ4 block
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace dvs::wire {

constexpr size_t kWorthCompressing = 4096;

struct Compressed {
  std::string head;
  Bytes bulk;
};
// None: it would not be (much) smaller.
std::optional<Compressed> compress(std::string_view head, std::string_view bulk);
// The body as it was, head and bulk. kCorrupt: it is none, or longer than `most`.
Result<Bytes> decompress(std::string_view body, size_t most);

}  // namespace dvs::wire
