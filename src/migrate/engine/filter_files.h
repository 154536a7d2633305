// What stands in a directory of images for apps/dvs-criu/memory_filter.cc while criu dumps apart:
// NAME.PID per process, numbered as in the DC. And how that library is found.
#pragma once

namespace dvs {

inline constexpr const char* kMapFile = "dvs-smaps";        // text, as of /proc/PID/smaps
inline constexpr const char* kMovableFile = "dvs-movable";  // mover::PageRange, ascending

// The library itself, beside dvs-criu, and the variable by which it is asked to say, over the
// descriptor of that number, that it was loaded.
inline constexpr const char* kFilterLibrary = "dvs-criu-filter.so";
inline constexpr const char* kFilterProbe = "DVS_FILTER_PROBE";

}  // namespace dvs
