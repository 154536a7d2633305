// Little-endian encoding of the fields of frame bodies.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace dvs::wire {

class Writer {
 public:
  template <typename T>
  void put(T value) {
    static_assert(std::is_integral_v<T>);
    using U = std::make_unsigned_t<T>;
    auto bits = static_cast<U>(value);
    for (size_t i = 0; i < sizeof(T); ++i) {
      out_.push_back(static_cast<char>(bits & 0xff));
      bits = static_cast<U>(static_cast<uint64_t>(bits) >> 8);
    }
  }
  void put_bytes(std::string_view bytes) { out_.append(bytes); }
  void put_string(std::string_view text) {  // u32 length, bytes
    put(static_cast<uint32_t>(text.size()));
    put_bytes(text);
  }
  std::string take() { return std::move(out_); }

 private:
  std::string out_;
};

// Reads what Writer wrote. Reading past the end gives zeros and makes ok() false for good; check
// it once, after the last field.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T get() {
    static_assert(std::is_integral_v<T>);
    using U = std::make_unsigned_t<T>;
    if (rest_.size() < sizeof(T)) return fail<T>();
    U bits = 0;
    for (size_t i = 0; i < sizeof(T); ++i) {
      bits |= static_cast<U>(static_cast<U>(static_cast<uint8_t>(rest_[i])) << (8 * i));
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
