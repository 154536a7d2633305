// Is this host fit to be a node? Each feature is tried, not looked up in a version table.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace dvs {

enum class FeatureState {
  kOk,
  kDegraded,  // nodes work without it; the detail says what is lost
  kMissing,   // the host cannot be a node
};
std::string_view feature_state_name(FeatureState state);

struct Feature {
  std::string name;  // "time-namespace"
  FeatureState state = FeatureState::kOk;
  std::string detail;
  std::string remedy;  // what to do; empty when ok
};

// Blocks for some 100 ms: it starts short-lived child processes and criu's own check. Changes
// nothing on the host.
std::vector<Feature> check_host();

// None is kMissing.
bool is_fit(const std::vector<Feature>& features);

// {"features": [{"name", "state", "detail", "remedy"}], "fit"}.
Json check_to_json(const std::vector<Feature>& features);

// The criu to use: $DVS_CRIU, else that of PATH, else /usr/local/lib/dvs/criu/criu. Empty: none.
std::string find_criu();
// An executable file of this name in PATH, or /usr/sbin and /sbin, which PATH may lack. Empty:
// none.
std::string find_program(const std::string& name);

}  // namespace dvs
