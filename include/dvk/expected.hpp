// dvk::Expected: a value, or why there is none. As std::expected, but for the errors of dvk.h, and
// for programs without exceptions: whoever takes a value that is not there ends the program.
#ifndef DVK_EXPECTED_HPP
#define DVK_EXPECTED_HPP

#include <dvk/dvk.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <type_traits>
#include <utility>
#include <variant>

namespace dvk {

// "EDVSTIMEDOUT" for EDVSTIMEDOUT; "OK"; "error of the application" for what
// is above 0; "unknown error" for what is none.
constexpr const char* error_name(int error) {
  switch (error) {
#define DVK_NAME(name) \
  case name:           \
    return #name
    DVK_NAME(OK);
    DVK_NAME(EDVSPERM);
    DVK_NAME(EDVSINTR);
    DVK_NAME(EDVSINVAL);
    DVK_NAME(EDVSFAULT);
    DVK_NAME(EDVSNOSYS);
    DVK_NAME(EDVSAGAIN);
    DVK_NAME(EDVSBUSY);
    DVK_NAME(EDVSTIMEDOUT);
    DVK_NAME(EDVSNOTCONN);
    DVK_NAME(EDVSSHUTDOWN);
    DVK_NAME(EDVSBADDEST);
    DVK_NAME(EDVSLOCKED);
    DVK_NAME(EDVSBADCALL);
    DVK_NAME(EDVSDEADSRCDST);
    DVK_NAME(EDVSSRCDIED);
    DVK_NAME(EDVSDSTDIED);
    DVK_NAME(EDVSTRAPDENIED);
    DVK_NAME(EDVSBADNODEID);
    DVK_NAME(EDVSBADDCID);
    DVK_NAME(EDVSDCNOTRUN);
    DVK_NAME(EDVSBADPROC);
    DVK_NAME(EDVSBADPID);
    DVK_NAME(EDVSENDPOINT);
    DVK_NAME(EDVSNOPROXY);
    DVK_NAME(EDVSRMTPROC);
    DVK_NAME(EDVSLCLPROC);
    DVK_NAME(EDVSNOTBIND);
    DVK_NAME(EDVSDVSINIT);
    DVK_NAME(EDVSNODCNODE);
    DVK_NAME(EDVSPROCRUN);
    DVK_NAME(EDVSPROCSTS);
    DVK_NAME(EDVSONCOPY);
    DVK_NAME(EDVSOVERRUN);
    DVK_NAME(EDVSMIGRATE);
    DVK_NAME(EDVSPRIVILEGES);
    DVK_NAME(EDVSBINDTYPE);
    DVK_NAME(EDVSSLOTUSED);
    DVK_NAME(EDVSBADRANGE);
    DVK_NAME(EDVSBADVALUE);
    DVK_NAME(EDVSRSCBUSY);
    DVK_NAME(EDVSNAMESIZE);
    DVK_NAME(EDVSALLOCMEM);
    DVK_NAME(EDVSWOKENUP);
#undef DVK_NAME
    default:
      return error > 0 ? "error of the application" : "unknown error";
  }
}

namespace detail {

[[noreturn]] inline void misuse(const char* what, int code) {
  std::fprintf(stderr, "dvk: %s (%d, %s)\n", what, code, error_name(code));
  std::abort();
}

}  // namespace detail

// Who says so: the DVK (nothing was answered, or not what was asked for), or the server that was
// asked.
enum class Origin { kDvk, kServer };

// What an Expected without a value holds. A function returns it as it would return a value:
// `return dvk::Failure(EDVSBADVALUE);`. Codes below 0 are those of dvk.h, above 0 the
// application's own.
class Failure {
 public:
  constexpr explicit Failure(int code, Origin origin = Origin::kDvk)
      : code_(code), origin_(origin) {
    if (code == OK) detail::misuse("OK is no failure", code);
  }
  constexpr int code() const { return code_; }
  constexpr Origin origin() const { return origin_; }
  friend constexpr bool operator==(Failure, Failure) = default;

 private:
  int code_;
  Origin origin_;
};

template <typename T = void>
class Expected;

namespace detail {

template <typename T>
inline constexpr bool kIsExpected = false;
template <typename T>
inline constexpr bool kIsExpected<Expected<T>> = true;

// What the value of an Expected<T> can be made of.
template <typename U, typename T>
concept ValueOf =
    std::is_constructible_v<T, U> && !std::is_same_v<std::remove_cvref_t<U>, Failure> &&
    !kIsExpected<std::remove_cvref_t<U>>;

// What Expected<T> and Expected<void> have in common. `Content` is a variant of the value and the
// failure.
template <typename Stored>
class ExpectedBase {
 public:
  constexpr bool has_value() const { return content_.index() == 0; }
  constexpr explicit operator bool() const { return has_value(); }

  // OK when there is a value.
  constexpr int error() const { return has_value() ? OK : failure().code(); }
  constexpr const char* error_name() const { return dvk::error_name(error()); }
  // REQUIRES: there is no value.
  constexpr Failure failure() const {
    if (has_value()) misuse("the failure of an Expected that has a value", OK);
    return std::get<1>(content_);
  }
  // The server answered that it failed, or cannot do this. False: the call did not get that far.
  constexpr bool from_server() const {
    return !has_value() && failure().origin() == Origin::kServer;
  }

 protected:
  template <typename... Args>
  constexpr explicit ExpectedBase(std::in_place_index_t<0> in_place, Args&&... args)
      : content_(in_place, std::forward<Args>(args)...) {}
  constexpr explicit ExpectedBase(Failure failure) : content_(std::in_place_index<1>, failure) {}

  constexpr void require_value() const {
    if (!has_value()) misuse("the value of an Expected that has none", error());
  }
  std::variant<Stored, Failure> content_;
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Expected : public detail::ExpectedBase<T> {
  using Base = detail::ExpectedBase<T>;

 public:
  using value_type = T;

  // Implicit where a T is made of a U implicitly.
  // NOLINTBEGIN(bugprone-forwarding-reference-overload,google-explicit-constructor)
  template <detail::ValueOf<T> U = T>
  constexpr explicit(!std::is_convertible_v<U, T>) Expected(U&& value)
      : Base(std::in_place_index<0>, std::forward<U>(value)) {}
  // NOLINTEND(bugprone-forwarding-reference-overload,google-explicit-constructor)
  template <typename... Args>
  constexpr explicit Expected(std::in_place_t, Args&&... args)
      : Base(std::in_place_index<0>, std::forward<Args>(args)...) {}
  constexpr Expected(Failure failure) : Base(failure) {}  // NOLINT: implicit

  // REQUIRES: there is a value; the program is aborted otherwise.
  constexpr T& value() & { return get(*this); }
  constexpr const T& value() const& { return get(*this); }
  constexpr T&& value() && { return std::move(get(*this)); }
  constexpr T& operator*() & { return get(*this); }
  constexpr const T& operator*() const& { return get(*this); }
  constexpr T&& operator*() && { return std::move(get(*this)); }
  constexpr T* operator->() { return &get(*this); }
  constexpr const T* operator->() const { return &get(*this); }

  template <typename U>
  constexpr T value_or(U&& other) const& {
    return this->has_value() ? get(*this) : static_cast<T>(std::forward<U>(other));
  }
  template <typename U>
  constexpr T value_or(U&& other) && {
    return this->has_value() ? std::move(get(*this)) : static_cast<T>(std::forward<U>(other));
  }

  // `next`, which returns an Expected, of the value; the failure stays what it is.
  template <typename F>
  constexpr auto and_then(F&& next) const& {
    return chain(*this, std::forward<F>(next));
  }
  template <typename F>
  constexpr auto and_then(F&& next) && {
    return chain(std::move(*this), std::forward<F>(next));
  }
  // `change`, which returns anything, of the value.
  template <typename F>
  constexpr auto transform(F&& change) const& {
    return map(*this, std::forward<F>(change));
  }
  template <typename F>
  constexpr auto transform(F&& change) && {
    return map(std::move(*this), std::forward<F>(change));
  }

 private:
  template <typename Self>
  static constexpr auto& get(Self& self) {
    self.require_value();
    return std::get<0>(self.content_);
  }
  template <typename Self, typename F>
  static constexpr auto chain(Self&& self, F&& next) {
    using Next = std::remove_cvref_t<std::invoke_result_t<F, decltype(*std::forward<Self>(self))>>;
    static_assert(detail::kIsExpected<Next>, "and_then() takes a function that returns Expected");
    if (!self) return Next(self.failure());
    return Next(std::invoke(std::forward<F>(next), *std::forward<Self>(self)));
  }
  template <typename Self, typename F>
  static constexpr auto map(Self&& self, F&& change) {
    using Value = std::remove_cv_t<std::invoke_result_t<F, decltype(*std::forward<Self>(self))>>;
    if (!self) return Expected<Value>(self.failure());
    if constexpr (std::is_void_v<Value>) {
      std::invoke(std::forward<F>(change), *std::forward<Self>(self));
      return Expected<Value>();
    } else {
      return Expected<Value>(std::in_place,
                             std::invoke(std::forward<F>(change), *std::forward<Self>(self)));
    }
  }
};

// Success, or why not.
template <>
class [[nodiscard]] Expected<void> : public detail::ExpectedBase<std::monostate> {
 public:
  using value_type = void;

  constexpr Expected() : ExpectedBase(std::in_place_index<0>) {}
  constexpr Expected(Failure failure) : ExpectedBase(failure) {}  // NOLINT: implicit

  constexpr void value() const { require_value(); }

  template <typename F>
  constexpr auto and_then(F&& next) const {
    using Next = std::remove_cvref_t<std::invoke_result_t<F>>;
    static_assert(detail::kIsExpected<Next>, "and_then() takes a function that returns Expected");
    if (!has_value()) return Next(failure());
    return Next(std::invoke(std::forward<F>(next)));
  }
  template <typename F>
  constexpr auto transform(F&& change) const {
    using Value = std::remove_cv_t<std::invoke_result_t<F>>;
    if (!has_value()) return Expected<Value>(failure());
    if constexpr (std::is_void_v<Value>) {
      std::invoke(std::forward<F>(change));
      return Expected<Value>();
    } else {
      return Expected<Value>(std::in_place, std::invoke(std::forward<F>(change)));
    }
  }
};
using Status = Expected<void>;

}  // namespace dvk

#endif  // DVK_EXPECTED_HPP
