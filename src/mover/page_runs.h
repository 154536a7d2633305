// Pages of zeros are not sent, and not kept.
#pragma once

#include <string_view>

#include "base/result.h"
#include "mover/page_range.h"

namespace dvs::mover {

// 4 KiB.
bool is_zero_page(const char* page);

// Calls run(PageRange, zero) -> Status for each longest run of pages of zeros or of others, in
// order. `bytes`: the content of `range`. An Error ends it.
template <typename Run>
Status for_each_run(PageRange range, const char* bytes, Run run) {
  const auto zero_at = [&](uint64_t at) { return is_zero_page(bytes + (at - range.start)); };
  for (uint64_t at = range.start; at < range.end;) {
    const bool zero = zero_at(at);
    uint64_t end = at + kPageSize;
    while (end < range.end && zero_at(end) == zero) end += kPageSize;
    DVS_TRY(run(PageRange{at, end}, zero));
    at = end;
  }
  return {};
}

}  // namespace dvs::mover
