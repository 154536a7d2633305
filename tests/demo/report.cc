#include "demo/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace dvs::demo {
namespace {

using Values = std::vector<double>;

template <typename Member>
Values values(const Series& series, Member member) {
  Values all;
  for (const RunResult& run : series.runs) all.push_back(static_cast<double>(run.*member));
  return all;
}

double sum(const Values& values) { return std::accumulate(values.begin(), values.end(), 0.0); }

double mean(const Values& values) {
  return values.empty() ? 0 : sum(values) / static_cast<double>(values.size());
}

double deviation(const Values& values) {
  if (values.size() < 2) return 0;
  const double middle = mean(values);
  double squares = 0;
  for (const double value : values) squares += (value - middle) * (value - middle);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

// Nearest rank: a value that occurred.
double percentile(Values values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

void print_row(const Series& series) {
  const Scenario& scenario = *series.scenario;
  const Values migration = values(series, &RunResult::migration_ms);
  const Values gap = values(series, &RunResult::longest_gap_ms);
  char paper[64] = "            -      -    -";
  if (series.commit) {
    std::snprintf(paper, sizeof paper, "%.3f ± %.3f  %.3f  %.1f", scenario.paper_migration_s,
                  scenario.paper_migration_sd_s, scenario.paper_transfer_s, kPaperImageMb);
  }
  std::printf(
      "%-24s %-8s %4zu  %s  %.3f ± %.3f  %.3f  %4.1f  "
      "%6.1f %6.1f %6.1f  %8.0f %4.0f %4.0f %4.0f\n",
      scenario.title, series.commit ? "commit" : "rollback", series.runs.size(), paper,
      mean(migration) / 1e3, deviation(migration) / 1e3,
      mean(values(series, &RunResult::transfer_ms)) / 1e3,
      mean(values(series, &RunResult::image_bytes)) / 1e6, percentile(gap, 0.5),
      percentile(gap, 0.99), percentile(gap, 1.0), sum(values(series, &RunResult::requests)),
      sum(values(series, &RunResult::lost)), sum(values(series, &RunResult::duplicated)),
      sum(values(series, &RunResult::corrupted)));
}

Json run_json(const RunResult& run) {
  return {{"migration_ms", run.migration_ms},
          {"transfer_ms", run.transfer_ms},
          {"image_bytes", run.image_bytes},
          {"longest_gap_ms", run.longest_gap_ms},
          {"gap_median_ms", run.gap_median_ms},
          {"gap_p99_ms", run.gap_p99_ms},
          {"requests", run.requests},
          {"lost", run.lost},
          {"duplicated", run.duplicated},
          {"corrupted", run.corrupted},
          {"moved_at", run.moved_at},
          {"pid_before", run.pid_before},
          {"pid_after", run.pid_after},
          {"node_before", run.node_before},
          {"node_after", run.node_after},
          {"reason", run.reason},
          {"wrong", run.wrong},
          {"phases", run.phases}};
}

}  // namespace

Json report_json(const std::vector<Series>& all) {
  Json scenarios = Json::array();
  for (const Series& series : all) {
    Json runs = Json::array();
    for (const RunResult& run : series.runs) runs.push_back(run_json(run));
    scenarios.push_back({{"name", series.scenario->name},
                         {"outcome", series.commit ? "commit" : "rollback"},
                         {"runs", runs}});
  }
  return {{"scenarios", scenarios}};
}

void print_run(const RunPlan& plan, int number, const RunResult& run) {
  std::printf("%-24s %3d  %-20s  %6.1f ms, longest gap %6.1f ms  %s\n", plan.scenario.title, number,
              plan.failure == nullptr ? "commits" : plan.failure->title, run.migration_ms,
              run.longest_gap_ms, run.wrong.empty() ? "ok" : "WRONG");
  for (const std::string& what : run.wrong) std::printf("    %s\n", what.c_str());
  std::fflush(stdout);
}

void print_table(const std::vector<Series>& all) {
  std::printf(
      "\n"
      "                                        paper: s, s, MB             DVS: s, s, MB"
      "               longest gap, ms             requests\n"
      "the server moves         outcome  runs  migration      trans. image migration      trans."
      " image  median    p99    max       all lost dupl corr\n");
  for (const Series& series : all) print_row(series);
  std::fflush(stdout);
}

bool all_well(const std::vector<Series>& all) {
  return std::all_of(all.begin(), all.end(), [](const Series& series) {
    return std::all_of(series.runs.begin(), series.runs.end(), [](const RunResult& run) {
      return run.wrong.empty() && run.lost + run.duplicated + run.corrupted == 0;
    });
  });
}

}  // namespace dvs::demo
