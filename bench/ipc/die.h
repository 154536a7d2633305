// The benchmark has no use for going on after a failure: it says what failed and exits with 1.
#pragma once

#include <string>

namespace dvs::bench {

[[noreturn]] void die(const std::string& what);  // with the text of errno
[[noreturn]] void die_plainly(const std::string& what);
inline void require(bool condition, const std::string& what) {
  if (!condition) die(what);
}

}  // namespace dvs::bench
