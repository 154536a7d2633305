// Bytes as text (RFC 4648, with padding).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs {

std::string base64_encode(std::string_view bytes);
// kCorrupt: not base64 with padding.
Result<std::string> base64_decode(std::string_view text);

}  // namespace dvs
