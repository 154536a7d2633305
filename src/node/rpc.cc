#include "node/rpc.h"

#include <boost/asio/post.hpp>

#include "base/log.h"

namespace dvs {

void Rpc::call(NodeId node, const std::string& call, Json args, std::chrono::milliseconds timeout,
               Done<Json> done) {
  if (node == self_) {
    auto found = handlers_.find(call);
    boost::asio::post(executor_, [handler = found->second, args = std::move(args),
                                  done = std::move(done)] { handler(args, done); });
    return;
  }
  const uint64_t id = next_id_++;
  const Json request = {{"id", id}, {"call", call}, {"args", std::move(args)}};
  if (links_ == nullptr || !links_->send(node, wire::FrameType::kControl, to_text(request))) {
    boost::asio::post(executor_, [done = std::move(done)] {
      done(Error(Code::kUnavailable, "no link to that node"));
    });
    return;
  }
  auto timer = std::make_shared<boost::asio::steady_timer>(executor_, timeout);
  timer->async_wait([this, id](const boost::system::error_code& ec) {
    if (!ec) finish(id, Error(Code::kTimeout, "the node did not answer in time"));
  });
  pending_[id] = {node, std::move(done), timer};
}

void Rpc::finish(uint64_t id, Result<Json> result) {
  auto found = pending_.find(id);
  if (found == pending_.end()) return;
  Pending pending = std::move(found->second);
  pending_.erase(found);
  pending.timer->cancel();
  pending.done(std::move(result));
}

void Rpc::on_down(NodeId peer) {
  std::vector<uint64_t> lost;
  for (const auto& [id, pending] : pending_) {
    if (pending.node == peer) lost.push_back(id);
  }
  for (uint64_t id : lost) finish(id, Error(Code::kUnavailable, "the link to that node broke"));
}

// Numbers are easy to guess: an answer counts only from whom was asked.
bool Rpc::asked(uint64_t id, NodeId peer) const {
  const auto found = pending_.find(id);
  return found != pending_.end() && found->second.node == peer;
}

void Rpc::on_frame(NodeId peer, std::string_view body) {
  auto parsed = parse_json(body);
  auto id = parsed.ok() ? json_get<uint64_t>(*parsed, "id") : Result<uint64_t>(parsed.error());
  if (!id.ok()) {
    log::warn("node {} sent a control frame that makes no sense", peer);
  } else if (parsed->contains("call")) {
    serve(peer, *parsed);
  } else if (!asked(*id, peer)) {
    return;  // too late, or not its to give
  } else if (parsed->contains("error")) {
    finish(*id, error_from_json(parsed->at("error")));
  } else {
    finish(*id, json_get_or<Json>(*parsed, "result", Json::object()));
  }
}

void Rpc::serve(NodeId peer, const Json& request) {
  const Json id = request.at("id");
  Done<Json> reply = [this, peer, id](Result<Json> result) {
    const Json answer = result.ok() ? Json{{"id", id}, {"result", *result}}
                                    : Json{{"id", id}, {"error", error_to_json(result.error())}};
    if (links_ != nullptr) links_->send(peer, wire::FrameType::kControl, to_text(answer));
  };
  auto call = json_get<std::string>(request, "call");
  auto found = call.ok() ? handlers_.find(*call) : handlers_.end();
  if (found == handlers_.end()) {
    reply(Error(Code::kUnsupported, "this node does not know that request; is its dvsd older?"));
    return;
  }
  found->second(json_get_or<Json>(request, "args", Json::object()).value(), reply);
}

}  // namespace dvs
