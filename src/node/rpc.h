// Requests between conductors, over the links: JSON in frames of type kControl.
//   {"id": 7, "call": "ps", "args": {...}}  →  {"id": 7, "result": ...} or {"id": 7, "error":
//   {...}}
// A request that the link's break leaves without an answer fails with kUnavailable: the caller
// must find out (from the directory) whether it was carried out.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/json.h"
#include "proxy/link.h"

namespace dvs {

class Rpc {
 public:
  using Handler = std::function<void(const Json& args, Done<Json> reply)>;

  Rpc(Executor& executor, NodeId self) : executor_(executor), self_(self) {}
  void use(Links& links) { links_ = &links; }

  void handle(const std::string& call, Handler handler) { handlers_[call] = std::move(handler); }

  // Asks a node, which may be this one. kUnavailable: no link, or it broke. kTimeout.
  void call(NodeId node, const std::string& call, Json args, std::chrono::milliseconds timeout,
            Done<Json> done);

  void on_frame(NodeId peer, std::string_view body);
  void on_down(NodeId peer);

 private:
  struct Pending {
    NodeId node;
    Done<Json> done;
    std::shared_ptr<boost::asio::steady_timer> timer;
  };
  void serve(NodeId peer, const Json& request);
  bool asked(uint64_t id, NodeId peer) const;
  void finish(uint64_t id, Result<Json> result);

  Executor& executor_;
  const NodeId self_;
  Links* links_ = nullptr;
  std::map<std::string, Handler> handlers_;
  std::map<uint64_t, Pending> pending_;
  uint64_t next_id_ = 1;
};

}  // namespace dvs
