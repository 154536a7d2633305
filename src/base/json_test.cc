#include "base/json.h"

#include <gtest/gtest.h>

#include <limits>

namespace dvs {
namespace {

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text : {"", "{", "{\"a\":}", "[1,]", "\xff\xfe", "{} {}"}) {
    auto parsed = parse_json(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_EQ(parsed.error().code(), Code::kCorrupt);
  }
  EXPECT_TRUE(parse_json(R"({"a": [1, 2]})").ok());
}

TEST(Json, GetsMembersByType) {
  const Json json = *parse_json(R"({"n": 7, "s": "text", "b": true, "d": 1.5,
                                    "list": [1, 2], "words": ["a", "b"], "o": {"x": 1}})");
  EXPECT_EQ(*json_get<int>(json, "n"), 7);
  EXPECT_EQ(*json_get<std::string>(json, "s"), "text");
  EXPECT_TRUE(*json_get<bool>(json, "b"));
  EXPECT_EQ(*json_get<double>(json, "d"), 1.5);
  EXPECT_EQ(*json_get<std::vector<int>>(json, "list"), (std::vector<int>{1, 2}));
  EXPECT_EQ(*json_get<std::vector<std::string>>(json, "words"),
            (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(*json_get<Json>(json, "o"), (Json{{"x", 1}}));
}

TEST(Json, AMissingOrMistypedMemberIsAnErrorThatNamesIt) {
  const Json json = *parse_json(R"({"n": "7", "list": [1, "x"], "f": 1.5})");
  for (auto error : {json_get<int>(json, "n").error(), json_get<int>(json, "f").error()}) {
    EXPECT_EQ(error.code(), Code::kInvalid);
  }
  EXPECT_NE(json_get<int>(json, "n").error().message().find("\"n\""), std::string::npos);
  EXPECT_NE(json_get<int>(json, "absent").error().message().find("\"absent\""), std::string::npos);
  EXPECT_FALSE(json_get<std::vector<int>>(json, "list").ok());
  EXPECT_FALSE(json_get<int>(Json::array({1}), "n").ok()) << "not an object";
}

TEST(Json, IntegersOutOfRangeAreErrors) {
  const Json json = *parse_json(R"({"big": 65536, "negative": -1, "max": 18446744073709551615})");
  EXPECT_FALSE(json_get<uint16_t>(json, "big").ok());
  EXPECT_EQ(*json_get<uint32_t>(json, "big"), 65536u);
  EXPECT_FALSE(json_get<uint32_t>(json, "negative").ok());
  EXPECT_FALSE(json_get<uint64_t>(json, "negative").ok());
  EXPECT_EQ(*json_get<int64_t>(json, "negative"), -1);
  EXPECT_FALSE(json_get<int64_t>(json, "max").ok());
  EXPECT_EQ(*json_get<uint64_t>(json, "max"), std::numeric_limits<uint64_t>::max());
}

TEST(Json, DefaultsReplaceMissingMembersOnly) {
  const Json json = *parse_json(R"({"n": "text"})");
  EXPECT_EQ(*json_get_or<int>(json, "absent", 5), 5);
  EXPECT_FALSE(json_get_or<int>(json, "n", 5).ok());
}

TEST(Json, ErrorsGoThereAndBack) {
  const auto back = error_from_json(error_to_json(Error(Code::kNoSpace, "table full")));
  EXPECT_EQ(back.code(), Code::kNoSpace);
  EXPECT_EQ(back.message(), "table full");
  EXPECT_EQ(error_from_json(*parse_json("[]")).code(), Code::kInternal);
}

}  // namespace
}  // namespace dvs
