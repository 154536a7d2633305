// dvs-sim: the whole cluster in virtual time, with everything that can fail, by many seeds.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "base/json.h"
#include "base/log.h"
#include "workers.h"

namespace {

using dvs::Json;
using namespace dvs::sim;

// From so many seeds on each step and each crash point has to have been come by.
constexpr uint64_t kSeedsForAll = 2000;

struct Asked {
  uint64_t seeds = 1000;
  uint64_t first = 1;
  bool trace = false;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  bool all = false;  // do not stop at the first failure
  std::string bug;
  bool bugs = false;
  std::string output;
};

double median_ms(std::vector<int64_t> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return static_cast<double>(values[values.size() / 2]) / 1e6;
}

Bug bug_named(const std::string& name) {
  for (const PlantedBug& planted : kBugs) {
    if (planted.name == name) return planted.bug;
  }
  return Bug::kNone;
}

Seeds seeds_of(const Asked& asked, Bug bug) {
  Seeds seeds;
  seeds.first = asked.first;
  seeds.number = asked.seeds;
  seeds.bug = bug;
  seeds.trace = asked.trace;
  seeds.most_failures = asked.all && bug == Bug::kNone ? 20 : 1;
  seeds.jobs = asked.trace ? 1 : asked.jobs;
  seeds.progress = bug == Bug::kNone && ::isatty(STDERR_FILENO) != 0;
  return seeds;
}

// Steps of the protocol that no run has taken, crash points that none has come by.
int print_gaps(const Tally& sum) {
  int gaps = 0;
  for (const dvs::Step& step : dvs::kSteps) {
    if (sum.steps.count(&step) != 0) continue;
    std::printf("no run took the step of the %s from '%s' on '%s'\n",
                std::string(dvs::role_name(step.role)).c_str(),
                std::string(dvs::phase_name(step.from)).c_str(),
                std::string(dvs::event_name(step.on)).c_str());
    ++gaps;
  }
  for (const dvs::FaultPoint& point : dvs::kFaultPoints) {
    if (sum.points.count(std::string(point.name)) != 0) continue;
    std::printf("no run came by the crash point %s\n", std::string(point.name).c_str());
    ++gaps;
  }
  return gaps;
}

Json summary(const Tally& sum, double seconds) {
  return {{"seeds", sum.seeds},
          {"seconds", seconds},
          {"requests", sum.requests},
          {"answered", sum.answered},
          {"migrations_asked", sum.migrations},
          {"committed", sum.committed},
          {"rolled_back", sum.rolled_back},
          {"memory_lost", sum.lost_memory},
          {"processes_lost_with_their_node", sum.processes_lost},
          {"faults", sum.faults},
          {"crash_points", sum.points},
          {"recovery_median_ms", median_ms(sum.recovery_ns)},
          {"recovery_max_ms", sum.recovery_ns.empty()
                                  ? 0
                                  : static_cast<double>(*std::max_element(sum.recovery_ns.begin(),
                                                                          sum.recovery_ns.end())) /
                                        1e6}};
}

int find_bugs(const Asked& asked) {
  int missed = 0;
  for (const PlantedBug& planted : kBugs) {
    const Outcome outcome = run_seeds(seeds_of(asked, planted.bug));
    const bool found = !outcome.failures.empty();
    const uint64_t by = found ? outcome.failures.front().seed : 0;
    std::printf("%-28s %s\n", std::string(planted.name).c_str(),
                found ? ("found by seed " + std::to_string(by)).c_str() : "NOT FOUND");
    missed += found ? 0 : 1;
  }
  return missed;
}

int run(const Asked& asked) {
  if (asked.bugs) return find_bugs(asked) == 0 ? 0 : 1;
  const auto began = std::chrono::steady_clock::now();
  const Outcome outcome = run_seeds(seeds_of(asked, bug_named(asked.bug)));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const Json report = summary(outcome.tally, took.count());
  std::printf("%s\n", report.dump(2).c_str());
  if (!asked.output.empty()) std::ofstream(asked.output) << report.dump(2) << "\n";
  if (outcome.failures.empty() && outcome.tally.seeds < asked.seeds) {
    std::printf("interrupted after %lu of %lu seeds\n", outcome.tally.seeds, asked.seeds);
    return 1;
  }
  if (outcome.failures.empty()) {
    return asked.seeds >= kSeedsForAll && print_gaps(outcome.tally) > 0 ? 1 : 0;
  }
  for (const Failure& each : outcome.failures) {
    std::printf("seed %lu: %s\n", each.seed, each.why.c_str());
  }
  std::printf("%zu seeds failed; look at one: dvs-sim --first %lu --seeds 1 --trace\n",
              outcome.failures.size(), outcome.failures.front().seed);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  Asked asked;
  CLI::App app(
      "Simulates clusters in virtual time: migrations, requests and every kind of fault, by seed");
  app.add_option("--seeds", asked.seeds, "how many")->capture_default_str();
  app.add_option("--first", asked.first, "the first one")->capture_default_str();
  app.add_option("--jobs", asked.jobs, "how many processes share them")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--output", asked.output, "writes what it came to there, as JSON");
  app.add_flag("--trace", asked.trace, "tells everything that happens");
  app.add_flag("--all", asked.all, "goes on after a failure (20 at most)");
  app.add_option("--bug", asked.bug, "plants a mistake, see tests/sim/bugs.h")
      ->check([](const std::string& name) {
        return bug_named(name) == Bug::kNone ? "there is no such bug" : "";
      });
  app.add_flag("--bugs", asked.bugs, "plants each mistake in turn: each has to be found");
  CLI11_PARSE(app, argc, argv);
  dvs::log::init("dvs-sim");
  spdlog::set_level(asked.trace ? spdlog::level::debug : spdlog::level::off);
  return run(asked);
}
