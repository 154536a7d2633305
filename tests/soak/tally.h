// What the soak has counted and measured, and how it is told.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "soak/checker.h"
#include "soak/growth.h"
#include "soak/plan.h"

namespace dvs::soak {

struct Tally {
  struct Outcomes {
    uint64_t committed = 0;
    uint64_t rolled_back = 0;
  };
  std::map<std::string, Outcomes> migrations;  // by algorithm
  std::map<std::string, uint64_t> refused;     // by why
  std::map<std::string, uint64_t> hits;        // by fault point
  std::map<std::string, uint64_t> missed;      // faults that came to nothing, by kind or point
  std::map<std::string, std::vector<double>> recovery_ms;  // by kind of fault, or point
  std::map<std::string, std::vector<double>> gaps_ms;      // the longest of each round, by cause
  std::map<std::string, std::vector<double>> requests_ms;  // for migrations, likewise
  std::map<std::string, uint64_t> rolled_back_unasked;     // without a fault in the round, by why
  uint64_t rounds = 0;
  uint64_t faults = 0;
  double seconds = 0;
  Totals requests;
  std::vector<Growth> growth;
  std::vector<std::string> wrong;

  uint64_t committed() const;
  uint64_t rolled_back() const;
};

Json to_json(const Tally& tally, const Options& options);
void print(const Tally& tally, const Options& options);
// One line, while it goes on.
void print_progress(const Tally& tally, const Options& options);

}  // namespace dvs::soak
