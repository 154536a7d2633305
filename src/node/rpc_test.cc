#include "node/rpc.h"

#include <gtest/gtest.h>

#include <vector>

namespace dvs {
namespace {

// Links that are up, and remember what was sent.
class FakeLinks : public Links {
 public:
  uint16_t port() const override { return 0; }
  void expect(NodeId, std::string, std::string, uint16_t) override {}
  void forget(NodeId) override {}
  bool is_up(NodeId) const override { return true; }
  bool send(NodeId peer, wire::FrameType, std::string_view head, const Bytes&) override {
    sent.emplace_back(peer, std::string(head));
    return true;
  }
  bool congested(NodeId) const override { return false; }
  void drop(NodeId, const std::string&) override {}
  void recheck() override {}

  std::vector<std::pair<NodeId, std::string>> sent;
};

class RpcTest : public testing::Test {
 protected:
  RpcTest() : rpc_(executor_, 1) { rpc_.use(links_); }
  // Asks node 2, and returns the number of the question.
  uint64_t ask() {
    rpc_.call(2, "what", {}, std::chrono::seconds(10),
              [this](Result<Json> answer) { answers_.push_back(std::move(answer)); });
    return parse_json(links_.sent.back().second).value().at("id");
  }

  Executor executor_;
  FakeLinks links_;
  Rpc rpc_;
  std::vector<Result<Json>> answers_;
};

TEST_F(RpcTest, AnAnswerCountsOnce) {
  const Json answer = {{"id", ask()}, {"result", 7}};
  rpc_.on_frame(2, to_text(answer));
  rpc_.on_frame(2, to_text(answer));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(*answers_[0], 7);
}

TEST_F(RpcTest, ANodeDoesNotAnswerForAnother) {
  const uint64_t id = ask();
  rpc_.on_frame(3, to_text(Json{{"id", id}, {"result", "a lie"}}));
  rpc_.on_frame(3, to_text(Json{{"id", id}, {"error", {{"code", "conflict"}}}}));
  EXPECT_TRUE(answers_.empty());
  rpc_.on_frame(2, to_text(Json{{"id", id}, {"result", "the truth"}}));
  ASSERT_EQ(answers_.size(), 1u);
  EXPECT_EQ(*answers_[0], "the truth");
}

TEST_F(RpcTest, NonsenseIsNoAnswer) {
  ask();
  for (const char* text : {"", "[]", "7", "{}", "{\"id\":\"x\"}", "{\"id\":-1}", "{\"id\":99}",
                           "{\"id\":1,\"call\":7}"}) {
    rpc_.on_frame(2, text);
  }
  EXPECT_TRUE(answers_.empty());
}

}  // namespace
}  // namespace dvs
