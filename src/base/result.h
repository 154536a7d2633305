// Result<T>: a value or an Error. The way every fallible function of DVS reports failure; no
// exception crosses a module's edge.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace dvs {

// Grouped by what the caller can do about it; the same codes go over links, the API and into the
// CLI's exit status. Values are on the wire: never renumber.
enum class Code : int {
  kInvalid = 1,      // the request itself is wrong; asking again will not help
  kNotFound = 2,     // the thing named does not exist (any more)
  kConflict = 3,     // exists already, in use, or another operation holds it
  kUnavailable = 4,  // peer, store or daemon cannot be reached now; try later
  kTimeout = 5,      // the time allowed ran out; the outcome is unknown or nothing happened
  kUnsupported = 6,  // this host or this process cannot do it
  kCorrupt = 7,      // bytes another party wrote do not make sense
  kDenied = 8,       // lacking permission
  kNoSpace = 9,      // memory, tmpfs, table or id space is full
  kInternal = 10,    // a system call failed in a way nobody planned for
};

// The lower-case word of a code, as used in JSON ("not_found", ...).
std::string_view code_name(Code code);
// The code of such a word; kInternal for an unknown one.
Code code_from_name(std::string_view name);

// What went wrong, in the words of the level that noticed it. `context()` puts the caller's view
// in front: "cannot create DC 'x': cannot open /run/...: No such file or directory".
class Error {
 public:
  Error(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  Error context(std::string_view what) const&;

 private:
  Code code_;
  std::string message_;
};

// An Error from errno: "what: No such file or directory", its code chosen by the errno.
Error errno_error(std::string_view what, int err);
Error errno_error(std::string_view what);  // with the current errno

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  // REQUIRES: ok().
  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  // REQUIRES: !ok().
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace dvs

// Returns the error of `expr` (a Result) from the enclosing function, if it has one.
#define DVS_TRY(expr)                                                    \
  do {                                                                   \
    if (auto dvs_try_ = (expr); !dvs_try_.ok()) return dvs_try_.error(); \
  } while (false)

// DVS_ASSIGN(auto x, f()): x = *f(), or returns f()'s error.
#define DVS_ASSIGN(decl, expr) DVS_ASSIGN_IMPL_(DVS_CONCAT_(dvs_result_, __LINE__), decl, expr)
#define DVS_ASSIGN_IMPL_(tmp, decl, expr) \
  auto tmp = (expr);                      \
  if (!tmp.ok()) return tmp.error();      \
  decl = std::move(tmp).value()
#define DVS_CONCAT_(a, b) DVS_CONCAT2_(a, b)
#define DVS_CONCAT2_(a, b) a##b
