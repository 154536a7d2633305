// `dvs logs`: reads a process's output piece by piece.
#pragma once

#include <optional>
#include <string>

#include "cli.h"

namespace dvs::cli {

struct LogsOptions {
  std::string endpoint;        // "DC0/11", checked
  bool follow = false;         // poll until the process has ended
  std::optional<size_t> tail;  // print only so many of the lines that are there at the start
};

int show_logs(Cli& cli, const LogsOptions& options);

}  // namespace dvs::cli
