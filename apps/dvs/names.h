// Words of the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "base/result.h"

namespace dvs::cli {

// A process's address: "DC0/11".
struct EndpointName {
  std::string dc;
  int64_t endpoint = 0;  // its range is dvsd's to check
};
Result<EndpointName> parse_endpoint_name(const std::string& text);

// 1 to 15 letters, digits, '_' and '-'.
bool is_name(const std::string& text);

// "TERM", "SIGTERM" or "15" -> 15.
Result<int> parse_signal(const std::string& text);

// The same as checks for options.
CLI::Validator name_check();
CLI::Validator endpoint_name_check();
CLI::Validator signal_check();
CLI::Validator range_check(double low, double high);
CLI::Validator assignment_check();  // K=V

}  // namespace dvs::cli
