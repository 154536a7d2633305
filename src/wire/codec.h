// Little-endian encoding of the fields of frame bodies.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace dvs::wire {

class Writer {
 public:
  template <typename T>
  void put(T value) {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
    const auto bits = static_cast<uint64_t>(static_cast<std::make_unsigned_t<T>>(value));
    char bytes[sizeof(T)];
    for (size_t i = 0; i < sizeof(T); ++i) bytes[i] = static_cast<char>(bits >> (8 * i));
    out_.append(bytes, sizeof(T));
  }
  void put_bytes(std::string_view bytes) { out_.append(bytes); }
  void put_string(std::string_view text) {  // u32 length, bytes
    DVS_CHECK(text.size() <= std::numeric_limits<uint32_t>::max());
    put(static_cast<uint32_t>(text.size()));
    put_bytes(text);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Reads what Writer wrote. Reading past the end gives zeros and makes ok() false for good; check
// it once, after the last field. What it returns as string_view points into the bytes it was given.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T get() {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool>);
    if (rest_.size() < sizeof(T)) return fail<T>();
    uint64_t bits = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      bits |= static_cast<uint64_t>(static_cast<uint8_t>(rest_[i])) << (8 * i);
    }
    rest_.remove_prefix(sizeof(T));
    return static_cast<T>(bits);
  }
  std::string_view get_bytes(size_t count) {
    if (rest_.size() < count) return fail<std::string_view>();
    auto bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return bytes;
  }
  std::string_view get_string() { return get_bytes(get<uint32_t>()); }
  std::string_view rest() { return std::exchange(rest_, {}); }
  bool ok() const { return ok_; }
  bool done() const { return ok_ && rest_.empty(); }

 private:
  template <typename T>
  T fail() {
    ok_ = false;
    rest_ = {};
    return T{};
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace dvs::wire
