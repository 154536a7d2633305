// DVS_CHECK(cond, ...): a programmer's error, on in release too: prints the values and aborts.
// Never for anything another process, node or user wrote: that is input and gets an Error.
#pragma once

#include <spdlog/fmt/fmt.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace dvs::internal {

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition,
                                      const std::string& detail) {
  std::fprintf(stderr, "%s:%d: check failed: %s %s\n", file, line, condition, detail.c_str());
  std::abort();
}

inline std::string check_detail() { return {}; }
template <typename... Args>
std::string check_detail(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}

}  // namespace dvs::internal

#define DVS_CHECK(cond, ...)                                                     \
  do {                                                                           \
    if (!(cond)) [[unlikely]] {                                                  \
      ::dvs::internal::check_failed(__FILE__, __LINE__, #cond,                   \
                                    ::dvs::internal::check_detail(__VA_ARGS__)); \
    }                                                                            \
  } while (false)
