// Compression of pages on their way, chosen by what it turns out to be good for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs {

enum class Packing : uint8_t { kNone, kLz4, kZstd };

const char* packing_name(Packing packing);  // "none", "lz4", "zstd"

// For one stream of pages, on one thread at a time.
class Packer {
 public:
  // `asked`: a name, or "auto": nothing while the link takes what it is given at once; LZ4, then
  // zstd, while the sender has to wait for it. kInvalid: there is no such, with those there are.
  static Result<Packer> make(std::string_view asked);

  // `waited`: the sender has had to wait for the link since the last call. None: send it as it is.
  std::optional<std::string> pack(std::string_view bytes, bool waited);
  Packing current() const { return packing_; }

 private:
  Packer(Packing packing, bool adapts) : packing_(packing), adapts_(adapts) {}
  void adapt(bool waited);

  Packing packing_;
  bool adapts_;
  int in_a_row_ = 0;  // calls after which it had to wait (positive) or not (negative)
  int skipped_ = 0;   // still to be sent as they are, since the last was not worth while
};

// kCorrupt: it is nothing packed, or not of that size.
Result<std::string> unpack(std::string_view packed, size_t size);

}  // namespace dvs
