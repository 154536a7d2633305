#include "client.h"

#include <cstring>

namespace kv {

using dvk::Buffer;
using dvk::Expected;
using dvk::Failure;
using dvk::Status;

const char* reason(int error) {
  switch (error) {
    case kNoSuchKey:
      return "there is no such key";
    case kChanged:
      return "its value is not the expected one";
    case kTooLong:
      return "the key or value is longer than 65536 bytes";
    case kFull:
      return "the store is full";
    case kEmptyKey:
      return "a key has at least one byte";
    case EDVSDSTDIED:
      return "there is no server at that endpoint";
    case EDVSTIMEDOUT:
      return "the server did not answer in time";
    default:
      return dvk::error_name(error);
  }
}

Status Client::put(std::string_view key, std::string_view value) const {
  return call(Put{Buffer::of(key), Buffer::of(value)});
}

Expected<std::string> Client::get(std::string_view key) const {
  std::string value(kMaxLength, '\0');
  return call(Get{Buffer::of(key), Buffer::of(value)}).transform([&](const Value& got) {
    value.resize(got.length);
    return std::move(value);
  });
}

Status Client::remove(std::string_view key) const { return call(Delete{Buffer::of(key)}); }

Status Client::compare_and_swap(std::string_view key, std::string_view expected,
                                std::string_view desired) const {
  return call(CompareAndSwap{Buffer::of(key), Buffer::of(expected), Buffer::of(desired)});
}

Expected<Total> Client::count() const { return call(Count{}); }

Expected<std::vector<std::string>> Client::list(std::string_view prefix) const {
  std::vector<std::string> keys;
  std::string after;
  std::vector<char> page(2 * kMaxLength);
  for (bool more = true; more;) {
    const auto got = call(List{Buffer::of(after), Buffer::of(page)});
    if (!got) return got.failure();
    for (size_t at = 0; at < got->length;) {
      uint32_t length = 0;
      std::memcpy(&length, &page[at], sizeof length);
      after.assign(&page[at + sizeof length], length);
      at += sizeof length + length;
      if (after.rfind(prefix, 0) == 0) keys.push_back(after);
    }
    more = got->more != 0;
  }
  return keys;
}

}  // namespace kv
