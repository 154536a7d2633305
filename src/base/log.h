// Logging through spdlog: log::info("link {} up", name). Level by $DVS_LOG (trace ... error, off).
#pragma once

#include <spdlog/spdlog.h>

#include "base/result.h"

namespace dvs::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::trace;
using spdlog::warn;

// Once, early in main(): lines go to stderr as "time level [name] text".
void init(const char* name);

// For clean-up that nothing depends on: a failure is worth a line and no more.
inline void if_failed(const Status& status) {
  if (!status.ok()) warn("{}", status.error().message());
}

}  // namespace dvs::log
