// POST requests to one of several equal HTTP servers, over a few connections that stay open.
//
// At most kMaxConnections requests are under way, so that a slow one holds up no other; more wait
// in order. A request goes to the preferred endpoint; when that fails, the next one becomes the
// preferred. Each request ends within the timeout, its time in the queue included:
//   kUnavailable  nothing could be sent, or the connection broke before the answer was complete
//   kTimeout      it was sent and not answered in time
//   kCorrupt      the answer is no HTTP or too long
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/executor.h"
#include "directory/endpoint.h"

namespace dvs {

// Whether a request that may have been carried out already can be sent once more. One that was
// certainly not sent is always tried at all endpoints.
enum class Repeat { kNever, kOnce };

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

// Held by a shared_ptr, which unfinished operations share; the owner calls close() to end them.
class HttpPool : public std::enable_shared_from_this<HttpPool> {
 public:
  static constexpr size_t kMaxConnections = 8;
  static constexpr size_t kMaxAnswerSize = 64 << 20;

  // REQUIRES: at least one endpoint.
  HttpPool(Executor& executor, std::vector<Endpoint> endpoints, std::chrono::milliseconds timeout);
  ~HttpPool();

  void post(const std::string& path, std::string body, Repeat repeat, Done<HttpAnswer> done);

  // Drops all requests and closes all connections: no Done is called from now on.
  void close();

 private:
  struct Connection;
  struct Call;
  using CallPtr = std::shared_ptr<Call>;
  using Failure = boost::system::error_code;

  void pump();
  void watch_queue();
  void expire_queue();
  void start(const CallPtr& call);
  std::shared_ptr<Connection> take_idle();
  void dial_all(const CallPtr& call);
  void dial(const CallPtr& call, size_t endpoint);
  void on_dialed(const CallPtr& call, Failure failed);
  void send(const CallPtr& call);
  void receive(const CallPtr& call);
  void on_received(const CallPtr& call);
  void on_broken(const CallPtr& call, Failure failed);
  void finish(const CallPtr& call, Result<HttpAnswer> result);
  void leave_endpoint(size_t endpoint);

  Executor& executor_;
  const std::vector<Endpoint> endpoints_;
  const std::chrono::milliseconds timeout_;
  size_t preferred_ = 0;
  bool closed_ = false;
  std::deque<CallPtr> queue_;  // in the order of their deadlines
  boost::asio::steady_timer queue_timer_;
  std::set<CallPtr> active_;
  std::vector<std::shared_ptr<Connection>> idle_;
};

}  // namespace dvs
