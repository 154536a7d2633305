// What typed requests and answers are made of: plain data with a message type, buffers for what
// does not fit, deadlines.
#ifndef DVK_MESSAGE_HPP
#define DVK_MESSAGE_HPP

#include <dvk/dvk.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>

namespace dvk {

// Until when a call may wait: a time of std::chrono::steady_clock, or a duration from now on. All
// nodes of a DC have one steady clock, so it keeps its meaning when the process is moved.
class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static constexpr Deadline forever() { return Deadline(Kind::kForever); }
  // EDVSAGAIN instead of waiting.
  static constexpr Deadline no_wait() { return Deadline(Kind::kNoWait); }

  constexpr Deadline(Clock::time_point when)  // NOLINT: implicit
      : kind_(when == Clock::time_point::max() ? Kind::kForever : Kind::kAt), when_(when) {}
  // Nothing, and less than nothing, is no_wait(); a century is forever().
  template <typename Rep, typename Period>
  Deadline(std::chrono::duration<Rep, Period> time)  // NOLINT: implicit
      : kind_(kind_of(std::chrono::duration<double>(time))) {
    if (kind_ == Kind::kAt) when_ = Clock::now() + std::chrono::ceil<Clock::duration>(time);
  }

  bool is_forever() const { return kind_ == Kind::kForever; }
  bool is_no_wait() const { return kind_ == Kind::kNoWait; }
  bool passed() const { return kind_ == Kind::kAt && Clock::now() >= when_; }

  // What dvk.h takes: never a shorter time, and TIMEOUT_NOWAIT when it is over.
  long timeout_ms() const {
    if (kind_ == Kind::kForever) return TIMEOUT_FOREVER;
    if (kind_ == Kind::kNoWait) return TIMEOUT_NOWAIT;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(when_ - Clock::now()).count();
    return left > 0 ? static_cast<long>(left) : TIMEOUT_NOWAIT;
  }
  // The result of a call with that time-out, for the caller of one with this deadline.
  constexpr int result(int rc) const {
    return rc == EDVSAGAIN && kind_ == Kind::kAt ? EDVSTIMEDOUT : rc;
  }

 private:
  enum class Kind { kForever, kNoWait, kAt };
  static constexpr double kCentury = 3.2e9;  // seconds

  constexpr explicit Deadline(Kind kind) : kind_(kind) {}
  static constexpr Kind kind_of(std::chrono::duration<double> time) {
    if (time.count() <= 0) return Kind::kNoWait;
    return time.count() >= kCentury ? Kind::kForever : Kind::kAt;
  }

  Kind kind_;
  Clock::time_point when_{};
};
inline constexpr Deadline kForever = Deadline::forever();
inline constexpr Deadline kNoWait = Deadline::no_wait();

// What a message can carry: 56 bytes of plain data. (No pointers: the peer has other memory.)
template <typename T>
concept Payload = std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> &&
                  sizeof(T) <= sizeof(message{}.m_u);

inline message empty(int type) {
  message m{};
  m.m_type = type;
  return m;
}

template <Payload T>
message typed(int type, const T& payload) {
  message m = empty(type);
  std::memcpy(&m.m_u, &payload, sizeof payload);
  return m;
}

// The other way round. The message's type should tell that it carries a T.
template <Payload T>
T payload(const message& m) {
  T value{};
  std::memcpy(static_cast<void*>(&value), &m.m_u, sizeof value);
  return value;
}

// The number that a request's or an answer's type has in messages. Either give T a
// `static constexpr int kType`, or specialise this: `template <> struct message_type<T> {
// static constexpr int value = 7; };`. From 1 to 4095: what is above belongs to the DVK.
template <typename T>
struct message_type {};
template <typename T>
requires requires { T::kType; }
struct message_type<T> {
  static constexpr int value = T::kType;
};

// Plain data that knows its message type.
template <typename T>
concept Typed = Payload<T> && message_type<T>::value >
0 && message_type<T>::value < NOTIFY_MESSAGE;

template <Typed T>
message typed(const T& payload) {
  return typed(message_type<T>::value, payload);
}

// Memory of a client that waits for its answer, for what a message cannot carry: it is part of a
// request, and the server copies from or to it (Caller::read, Caller::write).
struct Buffer {
  uint64_t address = 0;
  uint64_t length = 0;  // bytes

  // The elements of an array, a string, a vector.
  template <typename Range>
  static Buffer of(Range& range) {
    const std::span elements(range);
    using Element = typename decltype(elements)::element_type;
    static_assert(std::is_trivially_copyable_v<Element>, "bytes are copied, nothing else");
    return {reinterpret_cast<uintptr_t>(elements.data()), elements.size_bytes()};
  }
};

}  // namespace dvk

#endif  // DVK_MESSAGE_HPP
