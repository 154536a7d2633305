// A region is a file that the DC's processes may write, and so may cut short: whoever then looks at
// what is missing gets SIGBUS. dvsd must not die of that. While a region is guarded, such a look
// finds zeros, and broken() says that the region is of no use any more.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dvk/region.h"

namespace dvs::dvk {

// REQUIRES: `region` outlives it. At most 1,024 at a time; further ones guard nothing.
class RegionGuard {
 public:
  explicit RegionGuard(const Region& region);
  ~RegionGuard();
  RegionGuard(const RegionGuard&) = delete;
  RegionGuard& operator=(const RegionGuard&) = delete;

  bool broken() const;

 private:
  int index_ = -1;
};

}  // namespace dvs::dvk
