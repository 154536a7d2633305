#include "api/access.h"

#include <gtest/gtest.h>

#include "tls/digest.h"

namespace dvs {
namespace {

TEST(ApiTokens, AreFoundByTheirDigestOnly) {
  const std::string digest = tls::sha256_hex("secret");
  EXPECT_EQ(digest, "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b");
  ApiTokens tokens;
  ASSERT_TRUE(tokens.parse("# ours\n\n" + digest + " operate ci  # the builds\n").ok());
  const auto caller = tokens.find("secret");
  ASSERT_TRUE(caller.has_value());
  EXPECT_EQ(caller->name, "ci");
  EXPECT_EQ(caller->role, Role::kOperate);
  EXPECT_FALSE(tokens.find(digest).has_value()) << "the file is no use to who reads it";
  EXPECT_FALSE(tokens.find("").has_value());
}

TEST(ApiTokens, ABadLineIsNamedAndChangesNothing) {
  const std::string digest = tls::sha256_hex("secret");
  ApiTokens tokens;
  ASSERT_TRUE(tokens.parse(digest + " view a").ok());
  for (const std::string& bad :
       {digest + " king a", digest + " view", digest, digest + " view a b", std::string("x view a"),
        digest.substr(1) + " view a", digest + " anybody a"}) {
    const Status parsed = tokens.parse("#\n" + bad);
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(parsed.error().message().rfind("line 2: ", 0), 0u) << parsed.error().message();
    EXPECT_TRUE(tokens.find("secret").has_value());
  }
}

}  // namespace
}  // namespace dvs
