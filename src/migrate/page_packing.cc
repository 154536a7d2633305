#include "migrate/page_packing.h"

#include <lz4.h>
#include <zstd.h>

#include <algorithm>
#include <iterator>

namespace dvs {
namespace {

constexpr const char* kNames[] = {"none", "lz4", "zstd"};
constexpr int kZstdLevel = 1;
// Pieces of 64 KiB after which another compression is tried, and after one that did not shrink.
constexpr int kPatience = 32;
constexpr int kSkipped = 15;

size_t pack_by(Packing packing, std::string_view bytes, char* out, size_t room) {
  if (packing == Packing::kZstd) {
    const size_t size = ZSTD_compress(out, room, bytes.data(), bytes.size(), kZstdLevel);
    return ZSTD_isError(size) != 0 ? 0 : size;
  }
  const int size = LZ4_compress_default(bytes.data(), out, static_cast<int>(bytes.size()),
                                        static_cast<int>(room));
  return size <= 0 ? 0 : static_cast<size_t>(size);
}

}  // namespace

const char* packing_name(Packing packing) { return kNames[static_cast<size_t>(packing)]; }

Result<Packer> Packer::make(std::string_view asked) {
  if (asked == "auto") return Packer(Packing::kNone, true);
  const auto* found = std::find(std::begin(kNames), std::end(kNames), asked);
  if (found != std::end(kNames)) {
    return Packer(static_cast<Packing>(found - std::begin(kNames)), false);
  }
  return Error(Code::kInvalid, "there is no compression '" + std::string(asked) +
                                   "'; there are auto, none, lz4 and zstd");
}

void Packer::adapt(bool waited) {
  in_a_row_ = waited ? std::max(in_a_row_, 0) + 1 : std::min(in_a_row_, 0) - 1;
  auto level = static_cast<int>(packing_);
  if (in_a_row_ >= kPatience) level = std::min(level + 1, static_cast<int>(Packing::kZstd));
  if (in_a_row_ <= -kPatience) level = std::max(level - 1, static_cast<int>(Packing::kNone));
  if (std::abs(in_a_row_) >= kPatience) in_a_row_ = 0;
  packing_ = static_cast<Packing>(level);
}

std::optional<std::string> Packer::pack(std::string_view bytes, bool waited) {
  if (adapts_) adapt(waited);
  if (packing_ == Packing::kNone) return std::nullopt;
  if (skipped_ > 0) {
    --skipped_;
    return std::nullopt;
  }
  std::string packed(1 + bytes.size() - bytes.size() / 8, static_cast<char>(packing_));
  const size_t size = pack_by(packing_, bytes, packed.data() + 1, packed.size() - 1);
  if (size == 0) {
    skipped_ = kSkipped;
    return std::nullopt;
  }
  packed.resize(1 + size);
  return packed;
}

Result<std::string> unpack(std::string_view packed, size_t size) {
  const Error bad(Code::kCorrupt, "compressed pages that make no sense");
  if (packed.empty()) return bad;
  const auto packing = static_cast<Packing>(packed.front());
  packed.remove_prefix(1);
  std::string bytes(size, '\0');
  if (packing == Packing::kZstd) {
    const size_t got = ZSTD_decompress(bytes.data(), size, packed.data(), packed.size());
    return ZSTD_isError(got) != 0 || got != size ? Result<std::string>(bad) : bytes;
  }
  if (packing != Packing::kLz4) return bad;
  const int got = LZ4_decompress_safe(packed.data(), bytes.data(), static_cast<int>(packed.size()),
                                      static_cast<int>(size));
  return got < 0 || static_cast<size_t>(got) != size ? Result<std::string>(bad) : bytes;
}

}  // namespace dvs
