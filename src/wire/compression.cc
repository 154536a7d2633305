#include "wire/compression.h"

#include <lz4.h>

#include <cstring>

#include "wire/codec.h"

namespace dvs::wire {

std::optional<Compressed> compress(std::string_view head, std::string_view bulk) {
  if (bulk.size() < kWorthCompressing) return std::nullopt;
  const size_t room = bulk.size() - bulk.size() / 8;
  Bytes packed = Bytes::of_size(room);
  const int size = LZ4_compress_default(bulk.data(), packed.data(), static_cast<int>(bulk.size()),
                                        static_cast<int>(room));
  if (size <= 0) return std::nullopt;
  Writer sizes;
  sizes.put(static_cast<uint32_t>(head.size()));
  sizes.put(static_cast<uint32_t>(bulk.size()));
  sizes.put_bytes(head);
  return Compressed{sizes.take(), packed.first(static_cast<size_t>(size))};
}

Result<Bytes> decompress(std::string_view body, size_t most) {
  Reader reader(body);
  const auto head_size = reader.get<uint32_t>();
  const auto bulk_size = reader.get<uint32_t>();
  const auto head = reader.get_bytes(head_size);
  const auto packed = reader.rest();
  const Error bad(Code::kCorrupt, "a compressed frame that makes no sense");
  if (!reader.ok() || head_size > most || bulk_size > most - head_size) return bad;
  Bytes whole = Bytes::of_size(head_size + bulk_size);
  if (!head.empty()) std::memcpy(whole.data(), head.data(), head.size());
  const int size =
      LZ4_decompress_safe(packed.data(), whole.data() + head_size, static_cast<int>(packed.size()),
                          static_cast<int>(bulk_size));
  if (size < 0 || static_cast<uint32_t>(size) != bulk_size) return bad;
  return whole;
}

}  // namespace dvs::wire
