// M3-IPC for C++20: a thin face of dvk.h. No exceptions, no allocation, nothing between calls but
// the mapping that libdvk has: a program that uses this moves as well as one in C.
//
//   auto self = dvk::Endpoint::create(11);
//   if (!self) return fail(dvk::error_name(self.error()));
//   auto request = self->receive_request();
//   if (request) self->reply(request->m_source, dvk::typed(kAnswer, Sum{42}));
#ifndef DVK_DVK_HPP
#define DVK_DVK_HPP

#include <dvk/dvk.h>

#include <chrono>
#include <climits>
#include <cstring>
#include <type_traits>
#include <utility>
#include <variant>

namespace dvk {

// "EDVSTIMEDOUT" for EDVSTIMEDOUT; "OK"; "unknown error" for what is none.
inline const char* error_name(int error) {
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
      return "unknown error";
  }
}

// A value, or an error of dvk.h. Looking at the value of an error is undefined.
template <typename T = std::monostate>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : content_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit
  static Expected failure(int error) { return Expected(Failure{error}); }

  explicit operator bool() const { return content_.index() == 0; }
  int error() const { return *this ? OK : std::get_if<1>(&content_)->code; }
  const char* error_name() const { return dvk::error_name(error()); }

  T& operator*() { return *std::get_if<0>(&content_); }
  const T& operator*() const { return *std::get_if<0>(&content_); }
  T* operator->() { return std::get_if<0>(&content_); }
  const T* operator->() const { return std::get_if<0>(&content_); }

 private:
  struct Failure {
    int code;
  };
  explicit Expected(Failure failure) : content_(std::in_place_index<1>, failure) {}
  std::variant<T, Failure> content_;
};
using Status = Expected<>;

// How long a call may wait: any duration of milliseconds or coarser. Never more than 24 days.
using Timeout = std::chrono::milliseconds;
inline constexpr Timeout kForever = Timeout::max();
inline constexpr Timeout kNoWait{TIMEOUT_NOWAIT};  // EDVSAGAIN instead of waiting

// What a message can carry: 56 bytes of plain data. (No pointers: the peer has other memory.)
template <typename T>
concept Payload = std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(message{}.m_u);

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
  static_assert(std::is_default_constructible_v<T>);
  T value{};
  std::memcpy(&value, &m.m_u, sizeof value);
  return value;
}

// The endpoint of this process (or thread): what it sends and receives as. Ended by the destructor.
// Members may be called by the process's threads, but by one at a time (EDVSBUSY). What they return
// is what the call of the same name in dvk.h returns.
class Endpoint {
 public:
  // Binds this process. A process that `dvs run` gave this endpoint to has it already.
  static Expected<Endpoint> create(int number) { return bind(number, PROC_NO_PID); }
  // Binds the calling thread, which then has an endpoint of its own.
  static Expected<Endpoint> create_for_thread(int number) { return bind(number, dvk_gettid()); }
  // The one that `dvs run`, or another process, bound this one to: waits until there is one.
  static Expected<Endpoint> given(Timeout timeout = kForever) {
    const int rc = dvk_wait4bind_T(to_ms(timeout));
    if (DVK_IS_ERROR(rc)) return Expected<Endpoint>::failure(rc);
    return own(rc);
  }

  Endpoint(Endpoint&& other) noexcept
      : dc_(other.dc_), number_(std::exchange(other.number_, NONE)) {}
  Endpoint& operator=(Endpoint&& other) noexcept {
    std::swap(dc_, other.dc_);
    std::swap(number_, other.number_);
    return *this;
  }
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;
  ~Endpoint() {
    if (number_ != NONE) dvk_unbind(dc_, number_);
  }

  int number() const { return number_; }  // for others to send to
  // The binding stays until the process (or thread) ends.
  void release() { number_ = NONE; }

  Status send(int to, message m, Timeout timeout = kForever) const {
    return status(dvk_send_T(to, &m, to_ms(timeout)));
  }
  // From ANY or one endpoint; notifications come here as well.
  Expected<message> receive(int from = ANY, Timeout timeout = kForever) const {
    message m{};
    return result(dvk_receive_T(from, &m, to_ms(timeout)), m);
  }
  // From anybody, without notifications.
  Expected<message> receive_request(Timeout timeout = kForever) const {
    message m{};
    return result(dvk_rcvrqst_T(&m, to_ms(timeout)), m);
  }
  // Sends a request and returns its answer.
  Expected<message> sendrec(int to, message m, Timeout timeout = kForever) const {
    return result(dvk_sendrec_T(to, &m, to_ms(timeout)), m);
  }
  Status reply(int to, message m, Timeout timeout = kForever) const {
    return status(dvk_reply_T(to, &m, to_ms(timeout)));
  }
  Status notify(int to, Timeout timeout = kForever) const {
    return status(dvk_notify_T(to, to_ms(timeout)));
  }
  // Between two processes' memory; SELF is this one.
  Status vcopy(int from, const void* source, int to, void* target, size_t bytes,
               Timeout timeout = Timeout{TIMEOUT_MOLCALL}) const {
    return status(dvk_vcopy_T(from, source, to, target, bytes, to_ms(timeout)));
  }

 private:
  Endpoint(int dc, int number) : dc_(dc), number_(number) {}

  static Expected<Endpoint> own(int number) {
    dc_usr_t dc{};
    if (const int rc = dvk_getdcinfo(-1, &dc); rc != OK) return Expected<Endpoint>::failure(rc);
    return Endpoint(dc.dc_dcid, number);
  }
  static Expected<Endpoint> bind(int number, int tid) {
    dc_usr_t dc{};
    int rc = dvk_getdcinfo(-1, &dc);
    if (rc == OK) rc = dvk_bind_X(SELF_BIND, dc.dc_dcid, tid, number, LOCALNODE);
    if (DVK_IS_ERROR(rc)) return Expected<Endpoint>::failure(rc);
    return Endpoint(dc.dc_dcid, rc);
  }

  // A deadline that has passed is one for now, not one for ever.
  static long to_ms(Timeout timeout) {
    if (timeout == kForever) return TIMEOUT_FOREVER;
    if (timeout < kNoWait) return TIMEOUT_NOWAIT;
    return timeout.count() > INT_MAX ? INT_MAX : static_cast<long>(timeout.count());
  }
  static Status status(int rc) {
    if (rc != OK) return Status::failure(rc);
    return std::monostate{};
  }
  static Expected<message> result(int rc, const message& m) {
    if (rc != OK) return Expected<message>::failure(rc);
    return m;
  }

  int dc_;
  int number_;
};

}  // namespace dvk

#endif  // DVK_DVK_HPP
