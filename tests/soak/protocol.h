// What the clients and servers of the soak have agreed on, and the servers' state, of which the
// checker has a copy.
#pragma once

#include <dvk/dvk.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dvs::soak {

constexpr int kFirstServer = 10;  // endpoints of the servers from here on

// Request: m2_i1 the client's id, m2_l1 the number.
constexpr int kRequest = 1;
// Answer: m4_l1 the number, m4_l2 the server's count, m4_l3 that of this client's requests, m4_l4
// the digest.
constexpr int kAnswer = 2;

inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Each request changes one word of it, anywhere, and the digest, which depends on all requests so
// far and on the memory that they changed: a request that is applied twice, or not, or in another
// order, or a page that is lost or old, gives other digests from then on.
class State {
 public:
  explicit State(size_t bytes) : words_(bytes / sizeof(uint64_t)) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] = mix(i);
  }
  uint64_t apply(uint32_t client, uint64_t number) {
    uint64_t& word = words_[digest_ % words_.size()];
    digest_ = mix(digest_ ^ word ^ number ^ static_cast<uint64_t>(client) << 40);
    word = digest_;
    return digest_;
  }

 private:
  std::vector<uint64_t> words_;
  uint64_t digest_ = 1;
};

}  // namespace dvs::soak
