#include "ipc/die.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace dvs::bench {

void die_plainly(const std::string& what) {
  std::fprintf(stderr, "bench-ipc: %s\n", what.c_str());
  std::exit(1);
}

void die(const std::string& what) { die_plainly(what + ": " + std::strerror(errno)); }

}  // namespace dvs::bench
