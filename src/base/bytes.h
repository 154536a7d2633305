// Bytes that are handed on without being copied. Copies of a Bytes, and parts of it, share its
// memory; who fills it does so before there is a second one.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/check.h"

namespace dvs {

class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(std::string_view text) : Bytes(of_size(text.size())) {
    if (!text.empty()) std::memcpy(data(), text.data(), text.size());
  }
  // With whatever is there.
  static Bytes of_size(size_t size) {
    Bytes bytes;
    if (size != 0) bytes.memory_ = std::make_shared_for_overwrite<char[]>(size);
    bytes.size_ = size;
    return bytes;
  }

  char* data() { return memory_.get() + offset_; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {memory_.get() + offset_, size_}; }
  // The first `count`, which must be there.
  Bytes first(size_t count) const {
    DVS_CHECK(count <= size_, "{} of {}", count, size_);
    Bytes beginning = *this;
    beginning.size_ = count;
    return beginning;
  }
  // All but the first `count`, which must be there.
  Bytes after(size_t count) const {
    DVS_CHECK(count <= size_, "{} of {}", count, size_);
    Bytes rest = *this;
    rest.offset_ += count;
    rest.size_ -= count;
    return rest;
  }

 private:
  std::shared_ptr<char[]> memory_;
  size_t offset_ = 0;
  size_t size_ = 0;
};

}  // namespace dvs
