// A client that uses the store and knows what every answer must be.
#pragma once

#include <cstdint>

#include "client.h"

namespace kv {

struct SoakOptions {
  uint64_t requests = 0;  // 0: until SIGTERM or SIGINT
  uint64_t seed = 1;
  int keys = 32;
  size_t longest = kMaxLength;  // value, bytes
};

// Puts, reads back, swaps, deletes and lists keys of its own (and counts in one that all soaking
// clients share, by compare-and-swap). Complains in lines that begin with "BAD". At the end says
// "done requests=N errors=N swaps=N longest_ms=N". Returns the number of errors.
uint64_t soak(const Client& client, int self, const SoakOptions& options);

}  // namespace kv
