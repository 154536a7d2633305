// Time, with the clock in the name.
#pragma once

#include <cstdint>

namespace dvs {

int64_t monotonic_ns();  // CLOCK_MONOTONIC of the caller's time namespace
int64_t realtime_ns();   // CLOCK_REALTIME

}  // namespace dvs
