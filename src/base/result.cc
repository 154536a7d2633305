#include "base/result.h"

#include <array>
#include <cerrno>
#include <cstring>

namespace dvs {
namespace {

struct CodeName {
  Code code;
  std::string_view name;
};

constexpr std::array<CodeName, 10> kNames = {{
    {Code::kInvalid, "invalid"},
    {Code::kNotFound, "not_found"},
    {Code::kConflict, "conflict"},
    {Code::kUnavailable, "unavailable"},
    {Code::kTimeout, "timeout"},
    {Code::kUnsupported, "unsupported"},
    {Code::kCorrupt, "corrupt"},
    {Code::kDenied, "denied"},
    {Code::kNoSpace, "no_space"},
    {Code::kInternal, "internal"},
}};

Code code_of_errno(int err) {
  switch (err) {
    case EINVAL:
    case ENAMETOOLONG:
      return Code::kInvalid;
    case ENOENT:
    case ESRCH:
    case ENXIO:
      return Code::kNotFound;
    case EEXIST:
    case EBUSY:
    case EADDRINUSE:
      return Code::kConflict;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case ENOTCONN:
      return Code::kUnavailable;
    case ETIMEDOUT:
      return Code::kTimeout;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::kUnsupported;
    case EACCES:
    case EPERM:
      return Code::kDenied;
    case ENOSPC:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Code::kNoSpace;
    default:
      return Code::kInternal;
  }
}

}  // namespace

std::string_view code_name(Code code) {
  for (const auto& entry : kNames) {
    if (entry.code == code) return entry.name;
  }
  return "internal";
}

Code code_from_name(std::string_view name) {
  for (const auto& entry : kNames) {
    if (entry.name == name) return entry.code;
  }
  return Code::kInternal;
}

Error Error::context(std::string_view what) const& {
  return Error(code_, std::string(what) + ": " + message_);
}

Error errno_error(std::string_view what, int err) {
  return Error(code_of_errno(err), std::string(what) + ": " + std::strerror(err));
}

Error errno_error(std::string_view what) { return errno_error(what, errno); }

}  // namespace dvs
