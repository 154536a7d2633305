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
  kTotalCopy,    // all memory while the process is frozen
  kPreCopy,      // rounds of changed memory while it runs, the rest frozen
  kOnDemand,     // nothing before it runs at the target: pages as it wants them, the others behind
  kFileServer,   // as kPreCopy, to a third node; pages from there as it wants them
  kNonFreezing,  // rounds while it runs; of the rest only what it is likely to use at once is sent
                 // while it is frozen, the others behind
};

const char* algorithm_name(Algorithm algorithm);  // "total-copy", "pre-copy", "on-demand", ...
// kInvalid: there is no such, with those there are.
Result<Algorithm> algorithm_named(std::string_view name);
// Of a record's algorithm (MigrationRecord). Whether memory is copied while the process runs.
bool copies_ahead(std::string_view algorithm);

struct Choice {
  Algorithm algorithm = Algorithm::kTotalCopy;
  std::string why;
  bool adaptive = false;  // may be changed when rounds turn out not to help
};
struct ChoiceFacts {
  uint64_t memory_bytes = 0;
  double bytes_per_second = 0;  // that were last sent between the two nodes; 0: not known
  bool file_server = false;     // one is named
};
// `asked`: a name, or "auto". kInvalid: unknown, with those there are, or it needs a file server,
// or has no use for one.
Result<Choice> choose_algorithm(std::string_view asked, const ChoiceFacts& facts);

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
  bool is_within_limit() const;             // the downtime expected
  double bytes_per_second() const;          // of sending
  double changed_bytes_per_second() const;  // by the process
  // Why to freeze now; empty: copy another round. `algorithm`: one that copies ahead.
  std::string enough(Algorithm algorithm) const;
  // How much may be sent while it is frozen, by the algorithm that it is frozen with.
  uint64_t budget(Algorithm algorithm) const;

 private:
  const CopyingLimits limits_;
  std::vector<mover::Round> rounds_;
};

// For whoever watches: the last round and what is expected.
Json to_json(const CopyingSchedule& schedule);

}  // namespace dvs
