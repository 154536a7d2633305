// What the demo's server and client have agreed on: the requests and answers, and the server's
// state, of which the client keeps a model to know what every answer must contain.
#pragma once

#include <dvk/dvk.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace dvs::demo {

constexpr int kServerEndpoint = 20;
constexpr int kClientEndpoint = 21;
constexpr int kRequests = 1000;

// Request: m2_l1 sequence (1, 2, ...), m2_l2 token(sequence), m2_p1 where the block goes.
constexpr int kRequest = 1;
// Answer: m4_l1 sequence, m4_l2 the server's pid, m4_l3 the id of the node it runs on, m4_l4
// requests the server missed, m4_l5 requests it saw again (low half) or could not believe (high
// half).
constexpr int kAnswer = 2;

inline uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Proves to the server that the request's content arrived whole.
inline long token(uint64_t sequence) { return static_cast<long>(mix(~sequence)); }

// 2.5 MiB, changed by every request. Each answer carries one of its 160 blocks; any 160 answers in
// a row carry all of it. Applying a request twice, or not at all, changes that request's block, and
// with the digest all later ones.
class State {
 public:
  static constexpr size_t kBlockWords = 2048;
  static constexpr size_t kBlocks = 160;
  static constexpr size_t kBlockBytes = kBlockWords * sizeof(uint64_t);

  State() : words_(kBlocks * kBlockWords) {
    for (size_t i = 0; i < words_.size(); ++i) words_[i] = mix(i);
  }

  // Applies the request and returns the block that answers it.
  const uint64_t* apply(uint64_t sequence) {
    for (uint64_t i = 0; i < kChangedWords; ++i) {
      uint64_t& word = words_[mix(sequence * kChangedWords + i) % words_.size()];
      word = mix(word + sequence);
    }
    uint64_t* block = &words_[(sequence * kStride % kBlocks) * kBlockWords];
    digest_ = mix(digest_ ^ block[kBlockWords - 1] ^ sequence);
    block[0] = digest_;
    return block;
  }

 private:
  static constexpr uint64_t kChangedWords = 256;
  static constexpr uint64_t kStride = 37;  // prime to the number of blocks

  std::vector<uint64_t> words_;
  uint64_t digest_ = 0;
};

}  // namespace dvs::demo
