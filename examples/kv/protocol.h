// What the key-value server and its clients agree on: the requests, their answers, the errors.
#pragma once

#include <cstdint>
#include <dvk/dvk.hpp>

namespace kv {

constexpr int kEndpoint = 20;             // of the server, unless another is given
constexpr size_t kMaxLength = 64 * 1024;  // of a key, and of a value

// Errors of the store. (Those below 0 are of dvk.h.)
enum Error : int {
  kNoSuchKey = 1,
  kChanged = 2,  // compare-and-swap: the value is not the expected one
  kTooLong = 3,  // a key or value longer than kMaxLength, or a value than the client's buffer
  kFull = 4,     // the server's memory limit
  kEmptyKey = 5,
};

struct Put {
  static constexpr int kType = 1;
  dvk::Buffer key, value;
};

struct Value {
  static constexpr int kType = 21;
  uint64_t length;
};
struct Get {
  static constexpr int kType = 2;
  using Reply = Value;
  dvk::Buffer key, value;
};

struct Delete {
  static constexpr int kType = 3;
  dvk::Buffer key;
};

struct CompareAndSwap {
  static constexpr int kType = 4;
  dvk::Buffer key, expected, desired;
};

struct Total {
  static constexpr int kType = 25;
  uint64_t keys, bytes;
};
struct Count {
  static constexpr int kType = 5;
  using Reply = Total;
};

// Keys in order, beginning behind `after`, as many as there is room for. Each is its length, as a
// uint32_t, and its bytes. `keys` has room for the longest of all.
struct Page {
  static constexpr int kType = 26;
  uint64_t length;
  uint32_t more;  // 1: there are keys behind the last one of this page
};
struct List {
  static constexpr int kType = 6;
  using Reply = Page;
  dvk::Buffer after, keys;
};

}  // namespace kv
