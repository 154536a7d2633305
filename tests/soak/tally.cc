#include "soak/tally.h"

#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace dvs::soak {
namespace {

using Series = std::map<std::string, std::vector<double>>;

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

Json series_json(const Series& series) {
  Json json = Json::object();
  for (const auto& [name, values] : series) {
    json[name] = {{"times", values.size()},
                  {"median_ms", percentile(values, 0.5)},
                  {"p99_ms", percentile(values, 0.99)},
                  {"max_ms", percentile(values, 1)}};
  }
  return json;
}

void print_series(const char* title, const char* first, const Series& series) {
  fmt::print("\n{:<30} {:>6} {:>10} {:>8} {:>8}  ms\n", title, first, "median", "p99", "max");
  for (const auto& [name, values] : series) {
    fmt::print("  {:<28} {:>6} {:>10.1f} {:>8.1f} {:>8.1f}\n", name, values.size(),
               percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1));
  }
}

void print_counts(const char* title, const std::map<std::string, uint64_t>& counts) {
  if (counts.empty()) return;
  fmt::print("\n{}\n", title);
  for (const auto& [name, count] : counts) fmt::print("  {:>6} {}\n", count, name);
}

}  // namespace

uint64_t Tally::committed() const {
  uint64_t sum = 0;
  for (const auto& [name, outcomes] : migrations) sum += outcomes.committed;
  return sum;
}
uint64_t Tally::rolled_back() const {
  uint64_t sum = 0;
  for (const auto& [name, outcomes] : migrations) sum += outcomes.rolled_back;
  return sum;
}

Json to_json(const Tally& tally, const Options& options) {
  Json migrations = Json::object();
  for (const auto& [name, outcomes] : tally.migrations) {
    migrations[name] = {{"committed", outcomes.committed}, {"rolledback", outcomes.rolled_back}};
  }
  Json growth = Json::object();
  for (const Growth& each : tally.growth) {
    growth[each.what] = {{"before", each.before}, {"after", each.after}, {"bound", each.bound}};
  }
  const Totals& requests = tally.requests;
  return {{"seed", options.seed},
          {"nodes", options.nodes},
          {"servers", options.servers},
          {"faults_percent", options.faults},
          {"seconds", tally.seconds},
          {"rounds", tally.rounds},
          {"faults", tally.faults},
          {"migrations", migrations},
          {"refused", tally.refused},
          {"rolled_back_unasked", tally.rolled_back_unasked},
          {"hits", tally.hits},
          {"missed", tally.missed},
          {"requests",
           {{"answered", requests.answered},
            {"timed_out", requests.timed_out},
            {"timed_out_taken", requests.timed_out_taken},
            {"failed", requests.failed},
            {"lost", requests.lost},
            {"duplicated", requests.duplicated},
            {"reordered", requests.reordered},
            {"corrupted", requests.corrupted}}},
          {"longest_gap_ms", series_json(tally.gaps_ms)},
          {"longest_migration_request_ms", series_json(tally.requests_ms)},
          {"recovery_ms", series_json(tally.recovery_ms)},
          {"growth", growth},
          {"wrong", tally.wrong}};
}

void print(const Tally& tally, const Options& options) {
  const Totals& requests = tally.requests;
  fmt::print("\nSeed {}: {} migrations committed, {} rolled back, in {} rounds and {:.0f} s\n",
             options.seed, tally.committed(), tally.rolled_back(), tally.rounds, tally.seconds);
  fmt::print("\n{:<30} {:>9} {:>11}\n", "algorithm", "committed", "rolled back");
  for (const auto& [name, outcomes] : tally.migrations) {
    fmt::print("  {:<28} {:>9} {:>11}\n", name, outcomes.committed, outcomes.rolled_back);
  }
  print_counts("refused", tally.refused);
  print_counts("rolled back without a fault", tally.rolled_back_unasked);
  print_counts("fault points come by", tally.hits);
  print_counts("faults that came to nothing", tally.missed);
  print_series("recovery after", "times", tally.recovery_ms);
  print_series("longest gap of a client", "rounds", tally.gaps_ms);
  print_series("longest request for a migration", "rounds", tally.requests_ms);
  fmt::print(
      "\nrequests: {} answered, {} lost, {} duplicated, {} reordered, {} corrupted, "
      "{} failed; {} timed out, {} of them after they were taken\n",
      requests.answered, requests.lost, requests.duplicated, requests.reordered, requests.corrupted,
      requests.failed, requests.timed_out, requests.timed_out_taken);
  fmt::print("\n{:<30} {:>10} {:>10} {:>10}\n", "growth", "before", "after", "bound");
  for (const Growth& each : tally.growth) {
    fmt::print("  {:<28} {:>10} {:>10} {:>10}{}\n", each.what, each.before, each.after, each.bound,
               each.is_too_much() ? "  TOO MUCH" : "");
  }
  for (const std::string& what : tally.wrong) fmt::print("WRONG: {}\n", what);
  std::fflush(stdout);
}

void print_progress(const Tally& tally, const Options& options) {
  const uint64_t done = tally.committed() + tally.rolled_back();
  fmt::print("{:>6.0f} s  {}/{} migrations, {} rolled back, {} faults, {:.1f} million requests{}",
             tally.seconds, done, options.migrations, tally.rolled_back(), tally.faults,
             static_cast<double>(tally.requests.answered) / 1e6,
             ::isatty(STDOUT_FILENO) ? "   \r" : "\n");
  std::fflush(stdout);
}

}  // namespace dvs::soak
