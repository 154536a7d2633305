// M3-IPC for C++20: a thin face of dvk.h. No exceptions, no allocation, nothing between calls but
// the mapping that libdvk has: a program that uses this moves as well as one in C.
//
// A server answers each type of request by a handler; a client calls it as a function:
//
//   struct Sum { static constexpr int kType = 2; int value; };
//   struct Add { static constexpr int kType = 1; using Reply = Sum; int a, b; };
//
//   auto self = dvk::Endpoint::create(11);
//   if (!self) return fail(self.error_name());
//   self->serve([](const Add& add, dvk::Caller) { return Sum{add.a + add.b}; });
//
//   dvk::Expected<Sum> sum = client->call(11, Add{40, 2}, std::chrono::seconds(5));
//
// Messages that are no such requests are sent and received as in C: send, receive, sendrec, reply.
#ifndef DVK_DVK_HPP
#define DVK_DVK_HPP

#include <dvk/dvk.h>

#include <cstddef>
#include <dvk/expected.hpp>
#include <dvk/message.hpp>
#include <type_traits>
#include <utility>

namespace dvk {

class Endpoint;

// What serve_one() leaves its caller to do.
enum class Served { kGoOn, kStop };

// Whose request a handler answers. Valid while it does.
class Caller {
 public:
  int endpoint() const { return endpoint_; }
  // Copies all of the client's buffer to the beginning of `to`; returns how much that was.
  // EDVSBADRANGE when it does not fit; EDVSFAULT: it is not the client's memory; EDVSPROCSTS: the
  // client does not wait any more.
  Expected<size_t> read(Buffer from, std::span<std::byte> to, Deadline deadline) const;
  Expected<size_t> read(Buffer from, std::span<std::byte> to) const {
    return read(from, to, copy_deadline());
  }
  // Copies all of `from` to the beginning of the client's buffer. Errors as above.
  Status write(Buffer to, std::span<const std::byte> from, Deadline deadline) const;
  Status write(Buffer to, std::span<const std::byte> from) const {
    return write(to, from, copy_deadline());
  }
  // serve() returns when this request is answered.
  void stop() const { *served_ = Served::kStop; }

 private:
  friend class Endpoint;
  Caller(const Endpoint& self, int endpoint, Served& served)
      : self_(&self), endpoint_(endpoint), served_(&served) {}
  static Deadline copy_deadline() { return std::chrono::milliseconds(TIMEOUT_MOLCALL); }

  const Endpoint* self_;
  int endpoint_;
  Served* served_;
};

namespace detail {

// What the library itself answers; its numbers are the DVK's.
inline constexpr int kErrorType = 0x00e0001;
inline constexpr int kDoneType = 0x00e0002;
struct Error {
  int code;
};

// The request type of a handler, by its first parameter.
template <typename F>
struct Handler : Handler<decltype(&F::operator())> {};
template <typename R, typename Req, typename From>
struct Handler<R (*)(Req, From)> {
  using Request = std::remove_cvref_t<Req>;
};
template <typename R, typename C, typename Req, typename From>
struct Handler<R (C::*)(Req, From)> : Handler<R (*)(Req, From)> {};
template <typename R, typename C, typename Req, typename From>
struct Handler<R (C::*)(Req, From) const> : Handler<R (*)(Req, From)> {};
template <typename F>
using RequestOf = typename Handler<std::decay_t<F>>::Request;

inline message error_answer(int code) { return typed(kErrorType, Error{code}); }

// The message that tells a handler's result.
template <typename T>
message answer_of(const Expected<T>& result) {
  if (!result) return error_answer(result.error());
  if constexpr (std::is_void_v<T>) {
    return empty(kDoneType);
  } else {
    static_assert(Typed<T>, "an answer is up to 56 bytes of plain data with a message type");
    return typed(*result);
  }
}
template <typename T>
message answer_of(const T& result) {
  return answer_of(Expected<T>(result));
}

template <typename F>
bool handle(const message& request, Caller caller, F& handler, message& answer) {
  using Request = RequestOf<F>;
  static_assert(Typed<Request>, "a request is up to 56 bytes of plain data with a message type");
  if (request.m_type != message_type<Request>::value) return false;
  if constexpr (std::is_void_v<std::invoke_result_t<F&, const Request&, Caller>>) {
    handler(payload<Request>(request), caller);
    answer = empty(kDoneType);
  } else {
    answer = answer_of(handler(payload<Request>(request), caller));
  }
  return true;
}

// What the answer says to the caller of call().
template <typename Rep>
Expected<Rep> result_of(const message& answer) {
  if (answer.m_type == kErrorType) {
    const int code = payload<Error>(answer).code;
    return Failure(code != OK ? code : EDVSBADVALUE, Origin::kServer);
  }
  if constexpr (std::is_void_v<Rep>) {
    if (answer.m_type == kDoneType) return {};
  } else {
    static_assert(Typed<Rep>, "an answer is up to 56 bytes of plain data with a message type");
    if (answer.m_type == message_type<Rep>::value) return payload<Rep>(answer);
  }
  return Failure(EDVSBADVALUE);
}

// A request's `using Reply = ...`; void when it has none.
template <typename Req>
struct ReplyOf {
  using type = void;
};
template <typename Req>
requires requires { typename Req::Reply; }
struct ReplyOf<Req> {
  using type = typename Req::Reply;
};

template <int... kTypes>
consteval bool all_differ() {
  constexpr int kList[] = {kTypes...};
  for (size_t i = 0; i < sizeof...(kTypes); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (kList[i] == kList[j]) return false;
    }
  }
  return true;
}

}  // namespace detail

// The endpoint of this process (or thread): what it sends and receives as. Ended by the destructor.
// Members may be called by the process's threads, but by one at a time (EDVSBUSY). What they return
// is what the call of the same name in dvk.h returns.
class Endpoint {
 public:
  // Binds this process. A process that `dvs run` gave this endpoint to has it already.
  static Expected<Endpoint> create(int number) {
    return in_dc([number](int dc) { return dvk_bind(dc, number); });
  }
  // Binds the calling thread, which then has an endpoint of its own.
  static Expected<Endpoint> create_for_thread(int number) {
    return in_dc([number](int dc) { return dvk_tbind(dc, number); });
  }
  // The one that `dvs run`, or another process, bound this one to: waits until there is one.
  static Expected<Endpoint> given(Deadline deadline = kForever) {
    return in_dc([&](int) { return deadline.result(dvk_wait4bind_T(deadline.timeout_ms())); });
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

  // ---- requests and answers by type ----

  // Sends a request to `to` and returns its answer. Besides errors of sendrec: EDVSBADVALUE, the
  // answer is of another type; and what the server says (Expected::from_server): its handler's
  // failure, or EDVSBADCALL, it has no handler for such a request.
  template <Typed Req, typename Rep = typename detail::ReplyOf<Req>::type>
  Expected<Rep> call(int to, const Req& request, Deadline deadline = kForever) const {
    const Expected<message> answer = sendrec(to, typed(request), deadline);
    if (!answer) return answer.failure();
    return detail::result_of<Rep>(*answer);
  }

  // Answers requests until a handler asks for a stop: Caller::stop(). A handler is called as
  // (const Request&, Caller) and returns the answer, nothing, or an Expected of either.
  // Requests without a handler are answered, too. Returns a failure when it cannot go on:
  // EDVSWOKENUP (dvk_wakeup), EDVSSHUTDOWN.
  template <typename... Handlers>
  Status serve(Handlers&&... handlers) const {
    for (;;) {
      const Expected<Served> served = serve_one(kForever, handlers...);
      if (!served) return served.failure();
      if (*served == Served::kStop) return {};
    }
  }
  // One request, or EDVSTIMEDOUT.
  template <typename... Handlers>
  Expected<Served> serve_one(Deadline deadline, Handlers&&... handlers) const {
    static_assert(detail::all_differ<message_type<detail::RequestOf<Handlers>>::value...>(),
                  "two handlers for one message type");
    const Expected<message> request = receive_request(deadline);
    if (!request) return request.failure();
    Served served = Served::kGoOn;
    const Caller caller(*this, request->m_source, served);
    message answer = detail::error_answer(EDVSBADCALL);
    (detail::handle(*request, caller, handlers, answer) || ...);
    const int rc = reply(caller.endpoint(), answer).error();
    // It is the client's affair when it waits no more: it has timed out, or died, or its node has.
    const bool gone =
        rc == EDVSPROCSTS || rc == EDVSDSTDIED || rc == EDVSENDPOINT || rc == EDVSNOTCONN;
    if (rc != OK && !gone) return Failure(rc);
    return served;
  }

  // ---- messages as they are ----

  Status send(int to, message m, Deadline deadline = kForever) const {
    return status(dvk_send_T(to, &m, deadline.timeout_ms()), deadline);
  }
  // From ANY or one endpoint; notifications come here as well.
  Expected<message> receive(int from = ANY, Deadline deadline = kForever) const {
    message m{};
    return result(dvk_receive_T(from, &m, deadline.timeout_ms()), deadline, m);
  }
  // From anybody, without notifications.
  Expected<message> receive_request(Deadline deadline = kForever) const {
    message m{};
    return result(dvk_rcvrqst_T(&m, deadline.timeout_ms()), deadline, m);
  }
  // Sends a request and returns its answer.
  Expected<message> sendrec(int to, message m, Deadline deadline = kForever) const {
    return result(dvk_sendrec_T(to, &m, deadline.timeout_ms()), deadline, m);
  }
  Status reply(int to, message m, Deadline deadline = kForever) const {
    return status(dvk_reply_T(to, &m, deadline.timeout_ms()), deadline);
  }
  Status notify(int to, Deadline deadline = kForever) const {
    return status(dvk_notify_T(to, deadline.timeout_ms()), deadline);
  }
  // Between two processes' memory; SELF is this one.
  Status vcopy(int from, const void* source, int to, void* target, size_t bytes,
               Deadline deadline = std::chrono::milliseconds(TIMEOUT_MOLCALL)) const {
    return status(dvk_vcopy_T(from, source, to, target, bytes, deadline.timeout_ms()), deadline);
  }

 private:
  Endpoint(int dc, int number) : dc_(dc), number_(number) {}

  // The endpoint that `bind` returns, of this process's DC.
  template <typename Bind>
  static Expected<Endpoint> in_dc(Bind bind) {
    dc_usr_t dc{};
    if (const int rc = dvk_getdcinfo(-1, &dc); rc != OK) return Failure(rc);
    const int number = bind(dc.dc_dcid);
    if (DVK_IS_ERROR(number)) return Failure(number);
    return Endpoint(dc.dc_dcid, number);
  }
  static Status status(int rc, const Deadline& deadline) {
    if (rc != OK) return Failure(deadline.result(rc));
    return {};
  }
  static Expected<message> result(int rc, const Deadline& deadline, const message& m) {
    if (rc != OK) return Failure(deadline.result(rc));
    return m;
  }

  int dc_;
  int number_;
};

inline Expected<size_t> Caller::read(Buffer from, std::span<std::byte> to,
                                     Deadline deadline) const {
  if (from.length > to.size()) return Failure(EDVSBADRANGE);
  const auto* source = reinterpret_cast<const void*>(from.address);
  return self_->vcopy(endpoint_, source, SELF, to.data(), from.length, deadline).transform([&] {
    return static_cast<size_t>(from.length);
  });
}

inline Status Caller::write(Buffer to, std::span<const std::byte> from, Deadline deadline) const {
  if (from.size() > to.length) return Failure(EDVSBADRANGE);
  auto* target = reinterpret_cast<void*>(to.address);
  return self_->vcopy(SELF, from.data(), endpoint_, target, from.size(), deadline);
}

}  // namespace dvk

#endif  // DVK_DVK_HPP
