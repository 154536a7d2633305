#include <cctype>
#include <charconv>

#include "api/http_server.h"

namespace dvs {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string url_encode(std::string_view text) {
  constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 || c == '-' || c == '_' || c == '.' || c == '~') {
      out += c;
    } else {
      out += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return out;
}

Result<std::string> url_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) return Error(Code::kInvalid, "the path or query has a broken %XX");
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

Result<HttpsTarget> parse_https_target(std::string_view text) {
  const Error bad(Code::kInvalid, "'" + std::string(text) + "' is not https://HOST:PORT");
  constexpr std::string_view kScheme = "https://";
  std::string_view rest = text;
  if (rest.starts_with(kScheme)) rest.remove_prefix(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad;
  std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find_first_of(":/?#@[] ") != std::string_view::npos) {
    return bad;
  }
  HttpsTarget target;
  target.host = host;
  const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), target.port);
  if (failed != std::errc() || end != port.data() + port.size()) return bad;
  return target;
}

}  // namespace dvs
