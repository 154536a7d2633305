// What every fuzz target gives: libFuzzer's entry point, and how it says that something is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace dvs::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Ends the program, for libFuzzer and for the driver alike.
inline void must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace dvs::fuzz
