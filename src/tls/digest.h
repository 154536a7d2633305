// Secrets and their digests, by OpenSSL.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs::tls {

std::string sha256_hex(std::string_view bytes);

// So many bytes nobody can guess, as hexadecimal digits.
Result<std::string> random_hex(size_t bytes);

// Exactly so many lower-case hexadecimal digits.
bool is_hex(std::string_view text, size_t digits);

}  // namespace dvs::tls
