// How often each caller may ask: so often a second for as long as he likes, and a burst of as many
// at once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

namespace dvs {

class RateLimit {
 public:
  explicit RateLimit(double per_second) : per_second_(per_second) {}

  // False: it is too much. `who`: one of those the server knows, so that there are not many.
  bool take(const std::string& who, int64_t now_ns) {
    Bucket& bucket = buckets_.try_emplace(who, Bucket{per_second_, now_ns}).first->second;
    const double came = static_cast<double>(now_ns - bucket.since_ns) / 1e9 * per_second_;
    bucket = {std::min(bucket.left + came, per_second_), now_ns};
    if (bucket.left < 1) return false;
    bucket.left -= 1;
    return true;
  }
  double per_second() const { return per_second_; }

 private:
  struct Bucket {
    double left = 0;
    int64_t since_ns = 0;
  };

  const double per_second_;
  std::map<std::string, Bucket> buckets_;
};

}  // namespace dvs
