// What the demo tells about its runs: lines while they go, a table beside the paper's, JSON.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "demo/run.h"

namespace dvs::demo {

// All runs of a scenario with one outcome.
struct Series {
  const Scenario* scenario;
  bool commit;
  std::vector<RunResult> runs;
};

// {"scenarios":[{"name","outcome","runs":[...]}]}
Json report_json(const std::vector<Series>& all);
void print_run(const RunPlan& plan, int number, const RunResult& run);
void print_table(const std::vector<Series>& all);
// Every run was as it must be, and nothing lost, duplicated or corrupted.
bool all_well(const std::vector<Series>& all);

}  // namespace dvs::demo
