// Logging through spdlog: log::info("link {} up", name). Level by $DVS_LOG (trace ... error, off).
#pragma once

#include <spdlog/spdlog.h>

namespace dvs::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::trace;
using spdlog::warn;

// Once, early in main(): lines go to stderr as "time level [name] text".
void init(const char* name);

}  // namespace dvs::log
