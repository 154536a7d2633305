#include "directory/etcd_json.h"

#include <gtest/gtest.h>

namespace dvs::etcd {
namespace {

TEST(EtcdJson, PrefixEndIsTheFirstKeyAfter) {
  EXPECT_EQ(prefix_end("a/"), "a0");
  EXPECT_EQ(prefix_end("a\xff\xff"), "b");
  EXPECT_EQ(prefix_end("\xff"), std::string(1, '\0'));
  EXPECT_EQ(prefix_end(""), std::string(1, '\0'));
}

TEST(EtcdJson, ErrorsOfEtcdKeepTheirMeaning) {
  const auto code = [](unsigned status, const char* body) {
    return parse_answer(status, body).error().code();
  };
  EXPECT_EQ(code(404, R"({"error":"etcdserver: requested lease not found","code":5})"),
            Code::kNotFound);
  EXPECT_EQ(code(400, R"({"error":"duplicate key","code":3})"), Code::kInvalid);
  EXPECT_EQ(code(503, R"({"error":"etcdserver: no leader","code":14})"), Code::kUnavailable);
  EXPECT_EQ(code(503, R"({"error":{"grpc_code":4,"message":"late"}})"), Code::kTimeout);
  EXPECT_EQ(code(500, R"({"error":[]})"), Code::kUnavailable);
  EXPECT_EQ(code(502, "<html>bad gateway</html>"), Code::kUnavailable);
  EXPECT_EQ(code(404, "404 page not found"), Code::kCorrupt);
}

TEST(EtcdJson, AnswersThatMakeNoSenseAreCorrupt) {
  for (const char* text : {
           R"({})",
           R"({"header":7})",
           R"({"header":{"revision":"0"}})",
           R"({"header":{"revision":"12x"}})",
           R"({"header":{"revision":"99999999999999999999"}})",
           R"({"header":{"revision":[]}})",
           R"({"header":{"revision":"5"},"kvs":{}})",
           R"({"header":{"revision":"5"},"kvs":[5]})",
           R"({"header":{"revision":"5"},"kvs":[{"key":"YQ=="}]})",
           R"({"header":{"revision":"5"},"kvs":[{"mod_revision":"5"}]})",
           R"({"header":{"revision":"5"},"kvs":[{"key":"Y","mod_revision":"5"}]})",
           R"({"header":{"revision":"5"},"kvs":[{"key":5,"mod_revision":"5"}]})",
       }) {
    const auto range = decode_range(Json::parse(text));
    ASSERT_FALSE(range.ok()) << text;
    EXPECT_EQ(range.error().code(), Code::kCorrupt) << text;
  }
}

TEST(EtcdJson, WatchUpdatesThatMakeNoSenseAreCorrupt) {
  for (
      const char* line : {
          "",
          "{",
          "[]",
          "{}",
          R"({"result":7})",
          R"({"result":{"header":{"revision":"5"},"events":7}})",
          R"({"result":{"header":{"revision":"5"},"events":[{"type":"MELT","kv":{"key":"YQ==","mod_revision":"5"}}]}})",
          R"({"result":{"header":{"revision":"5"},"events":[{"type":"PUT"}]}})",
          R"({"result":{"header":{"revision":"5"},"events":[{"kv":{"key":"YQ==","mod_revision":"5"}},{"kv":{"key":"YQ==","mod_revision":"4"}}]}})",
      }) {
    const auto update = decode_watch_update(line);
    ASSERT_FALSE(update.ok()) << line;
    EXPECT_EQ(update.error().code(), Code::kCorrupt) << line;
  }
}

}  // namespace
}  // namespace dvs::etcd
