// The store: keys and values in memory, in order of the keys.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>

#include "protocol.h"

namespace kv {

class Store {
 public:
  explicit Store(size_t limit_bytes) : limit_(limit_bytes) {}

  dvk::Status put(std::string_view key, std::string value);
  // REQUIRES of the result: it is used before the store is changed.
  dvk::Expected<std::string_view> get(std::string_view key) const;
  dvk::Status remove(std::string_view key);
  dvk::Status compare_and_swap(std::string_view key, std::string_view expected,
                               std::string desired);
  Total count() const { return {entries_.size(), bytes_}; }
  // As kv::List says, up to `room` bytes.
  std::string keys_after(std::string_view after, size_t room, bool& more) const;

 private:
  using Entries = std::map<std::string, std::string, std::less<>>;

  dvk::Status replace(Entries::iterator entry, std::string value);

  Entries entries_;
  size_t limit_;
  size_t bytes_ = 0;  // of all keys and values
};

}  // namespace kv
