#include "base/base64.h"

#include <gtest/gtest.h>

namespace dvs {
namespace {

TEST(Base64, CarriesEveryByteAndEveryLength) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) {
    const auto back = base64_decode(base64_encode(bytes));
    ASSERT_TRUE(back.ok());
    ASSERT_EQ(*back, bytes);
    bytes += static_cast<char>(i);
  }
  EXPECT_EQ(base64_encode("light w"), "bGlnaHQgdw==");
  EXPECT_EQ(base64_encode("light wo"), "bGlnaHQgd28=");
}

TEST(Base64, RefusesWhatIsNone) {
  for (const char* text :
       {"a", "ab", "abc", "a===", "====", "ab=c", "a b=", "YQ==YQ==", "\xff\xff=="}) {
    const auto decoded = base64_decode(text);
    ASSERT_FALSE(decoded.ok()) << text;
    EXPECT_EQ(decoded.error().code(), Code::kCorrupt) << text;
  }
}

}  // namespace
}  // namespace dvs
