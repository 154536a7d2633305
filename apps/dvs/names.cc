#include "names.h"

#include <spdlog/fmt/fmt.h>
#include <string.h>

#include <algorithm>
#include <charconv>

namespace dvs::cli {
namespace {

constexpr size_t kMaxName = 15;
constexpr int kMaxSignal = 64;

bool all_digits(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
}

// Without a description, which would stand in --help twice.
CLI::Validator make_check(std::function<std::string(std::string&)> check) {
  return CLI::Validator(std::move(check), "");
}

}  // namespace

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= kMaxName &&
         text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
             std::string::npos;
}

Result<EndpointName> parse_endpoint_name(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string dc = text.substr(0, slash);
  const std::string number = slash == std::string::npos ? "" : text.substr(slash + 1);
  EndpointName name{dc, 0};
  const auto end = std::from_chars(number.data(), number.data() + number.size(), name.endpoint);
  if (!is_name(dc) || !all_digits(number) || end.ec != std::errc()) {
    return Error(Code::kInvalid, "'" + text + "' is not a DC and an endpoint, like DC0/11");
  }
  return name;
}

Result<int> parse_signal(const std::string& text) {
  for (int signal = 1; signal <= kMaxSignal; ++signal) {
    const char* name = ::sigabbrev_np(signal);
    if (text == std::to_string(signal)) return signal;
    if (name != nullptr && (text == name || text == std::string("SIG") + name)) return signal;
  }
  return Error(Code::kInvalid, "'" + text + "' is not a signal, like TERM or 15");
}

CLI::Validator name_check() {
  return make_check([](std::string& text) {
    return is_name(text) ? "" : "'" + text + "' is not 1 to 15 letters, digits, '_' and '-'";
  });
}

CLI::Validator endpoint_name_check() {
  return make_check([](std::string& text) {
    const auto name = parse_endpoint_name(text);
    return name.ok() ? std::string() : name.error().message();
  });
}

CLI::Validator signal_check() {
  return make_check([](std::string& text) {
    const auto signal = parse_signal(text);
    return signal.ok() ? std::string() : signal.error().message();
  });
}

CLI::Validator range_check(double low, double high) {
  return make_check([low, high](std::string& text) {
    double value = 0;
    const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = end.ec == std::errc() && end.ptr == text.data() + text.size();
    return whole && value >= low && value <= high
               ? std::string()
               : fmt::format("'{}' is not a number from {} to {}", text, low, high);
  });
}

CLI::Validator assignment_check() {
  return make_check([](std::string& text) {
    const size_t equals = text.find('=');
    const bool good = equals != std::string::npos && equals > 0;
    return good ? std::string() : "'" + text + "' is not like NAME=VALUE";
  });
}

}  // namespace dvs::cli
