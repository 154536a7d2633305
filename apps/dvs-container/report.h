// How dvs-container tells dvsd what happened: JSON lines, an error as {"error": {code, message}}.
#pragma once

#include <string>

#include "base/json.h"

namespace dvs::helper {

std::string error_line(const Error& error);
// One write of line + "\n"; whoever does not listen any more is not waited for.
void write_line(int fd, const std::string& line);

}  // namespace dvs::helper
