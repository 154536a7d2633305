// When which memory moves: the algorithms of migration (the paper's section 2) as schedules over
// one mover. Decides by numbers alone.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "mover/copier.h"

namespace dvs {

enum class Algorithm {
  kTotalCopy,  // all memory while the process is frozen
  kPreCopy,    // rounds of changed memory while it runs, the rest frozen
};

const char* algorithm_name(Algorithm algorithm);  // "total-copy", "pre-copy"

struct Choice {
  Algorithm algorithm = Algorithm::kTotalCopy;
  std::string why;
};
// `asked`: a name, or "auto". kInvalid: unknown, with those there are.
Result<Choice> choose_algorithm(std::string_view asked, uint64_t memory_bytes);

struct CopyingLimits {
  std::chrono::milliseconds max_downtime{10};  // for what is left when it is frozen
  int max_rounds = 30;
};

// Decides after each round whether another one is worth while.
class CopyingSchedule {
 public:
  explicit CopyingSchedule(CopyingLimits limits) : limits_(limits) {}

  void add(const mover::Round& round) { rounds_.push_back(round); }
  const mover::Round& last() const { return rounds_.back(); }  // REQUIRES: rounds() > 0
  size_t rounds() const { return rounds_.size(); }
  // What would be left to send if it were frozen now, and how long that would take.
  uint64_t expected_bytes() const;
  std::chrono::duration<double, std::milli> expected_downtime() const;
  double bytes_per_second() const;          // of sending
  double changed_bytes_per_second() const;  // by the process
  // Why to freeze now; empty: copy another round.
  std::string enough() const;

 private:
  const CopyingLimits limits_;
  std::vector<mover::Round> rounds_;
};

// For whoever watches: the last round and what is expected.
Json to_json(const CopyingSchedule& schedule);

}  // namespace dvs
