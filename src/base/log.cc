#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>

namespace dvs::log {

void init(const char* name) {
  auto logger = spdlog::stderr_logger_mt(name);
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %L [%n] %v");
  const char* level = std::getenv("DVS_LOG");
  logger->set_level(spdlog::level::from_str(level != nullptr ? level : "info"));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace dvs::log
