// `dvs migrate`: asks for a migration, follows it, tells how it went.
#pragma once

#include <optional>
#include <string>

#include "cli.h"

namespace dvs::cli {

struct MigrateOptions {
  std::string endpoint;  // "DC0/11", checked
  std::string target;
  std::string algorithm = "auto";
  int max_downtime_ms = 10;
  std::string file_server;
  std::string compress = "auto";
  double patience_s = 30;
  std::optional<uint64_t> bandwidth;  // bytes per second
  std::optional<double> timeout_s;
  std::string on_timeout = "cancel";
};

int migrate(Cli& cli, const MigrateOptions& options);

// `dvs migration watch`: prints how a migration goes until it has ended.
int watch_migration(Cli& cli, const std::string& id);

// What each phase of a migration's record took, how long it was frozen, the image's size.
void print_times(const Json& record);

}  // namespace dvs::cli
