#include "options.h"

#include <charconv>
#include <cstring>
#include <string_view>

namespace dvs::helper {
namespace {

template <typename T>
bool parse(std::string_view text, T& value) {
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  return ec == std::errc() && end == text.data() + text.size();
}

bool parse(std::string_view text, PidRange& pids) {
  const size_t colon = text.find(':');
  return colon != text.npos && parse(text.substr(0, colon), pids.first) &&
         parse(text.substr(colon + 1), pids.last) && pids.first > 1 && pids.first <= pids.last;
}

bool set_option(Options& options, std::string_view name, std::string_view value) {
  if (name == "--dir") {
    options.dir = value;
    return !value.empty();
  }
  if (name == "--pids") return parse(value, options.pids);
  if (name == "--next-pid") return parse(value, options.next_pid);
  if (name == "--monotonic-offset") return parse(value, options.monotonic_offset_ns);
  if (name == "--init") return parse(value, options.init) && options.init > 0;
  if (name == "--cgroup") {
    options.cgroups.emplace_back(value);
    return true;
  }
  if (name == "--show") {
    options.shown.emplace_back(value);
    return true;
  }
  if (name == "--writable") {
    options.writable.emplace_back(value);
    return true;
  }
  if (name == "--hide") {
    options.hidden.emplace_back(value);
    return true;
  }
  if (name == "--start") return parse(value, options.init_start_time);
  return false;
}

}  // namespace

Result<Options> parse_options(char** arguments) {
  Options options;
  for (char** at = arguments; *at != nullptr; at += 2) {
    if (std::strcmp(*at, "--") == 0) {
      options.command = at + 1;
      break;
    }
    if (at[1] == nullptr || !set_option(options, at[0], at[1])) {
      return Error(Code::kInvalid, "wrong option " + std::string(*at));
    }
  }
  return options;
}

}  // namespace dvs::helper
