// What criu wrote into its log, in a user's words.
#pragma once

#include <string_view>

#include "base/result.h"

namespace dvs {

inline constexpr const char* kDumpLog = "dump.log";
inline constexpr const char* kRestoreLog = "restore.log";

// Why criu failed, from the text of its log. A known reason gives its code (kUnsupported,
// kConflict, kNotFound, kNoSpace, kDenied, kTimeout) and a message that says what to do; any other
// kInternal with criu's first error line.
Error explain_criu_log(std::string_view log);

}  // namespace dvs
