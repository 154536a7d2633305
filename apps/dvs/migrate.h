// `dvs migrate`: asks for a migration, follows it, tells how it went.
#pragma once

#include <optional>
#include <string>

#include "cli.h"

namespace dvs::cli {

struct MigrateOptions {
  std::string endpoint;  // "DC0/11", checked
  std::string target;
  std::optional<double> timeout_s;
};

int migrate(Cli& cli, const MigrateOptions& options);

// What each phase of a migration's record took, how long it was frozen, the image's size.
void print_times(const Json& record);

}  // namespace dvs::cli
