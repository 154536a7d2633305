#include "migrate/faults.h"

#include <csignal>
#include <string>

#include "base/log.h"

namespace dvs {

Status Faults::arm(std::string_view name, bool stop) {
  if (!enabled_) return Error(Code::kDenied, "this dvsd was not started with --faults");
  for (const FaultPoint& point : kFaultPoints) {
    if (point.name != name) continue;
    stop_ = stop;
    ++armed_[static_cast<size_t>(point.fault)];
    return {};
  }
  return Error(Code::kInvalid, "there is no fault point \"" + std::string(name) + "\"");
}

bool Faults::fires(Fault fault) {
  int& armed = armed_[static_cast<size_t>(fault)];
  if (armed == 0) return false;
  --armed;
  log::warn("fault point {} fires", static_cast<int>(fault));
  return true;
}

void Faults::die_at(Fault fault) {
  if (fires(fault)) std::raise(stop_ ? SIGSTOP : SIGKILL);
}

}  // namespace dvs
