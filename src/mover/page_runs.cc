#include "mover/page_runs.h"

#include <cstring>

namespace dvs::mover {

bool is_zero_page(const char* page) {
  return page[0] == 0 && std::memcmp(page, page + 1, kPageSize - 1) == 0;
}

}  // namespace dvs::mover
