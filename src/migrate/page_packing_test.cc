#include "migrate/page_packing.h"

#include <gtest/gtest.h>

#include <random>

namespace dvs {
namespace {

constexpr size_t kSize = 64 << 10;

std::string text() {
  std::string bytes;
  while (bytes.size() < kSize)
    bytes += "page after page of much the same " + std::to_string(bytes.size());
  bytes.resize(kSize);
  return bytes;
}

std::string noise() {
  std::mt19937_64 random(4711);
  std::string bytes(kSize, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

Packer make(std::string_view name) { return *Packer::make(name); }

TEST(PagePacking, WhatIsPackedIsUnpackedAsItWas) {
  for (const char* name : {"lz4", "zstd"}) {
    Packer packer = make(name);
    const auto packed = packer.pack(text(), false);
    ASSERT_TRUE(packed) << name;
    EXPECT_LT(packed->size(), kSize / 2) << name;
    EXPECT_EQ(*unpack(*packed, kSize), text()) << name;
    EXPECT_FALSE(unpack(*packed, kSize - 1).ok()) << name;
    EXPECT_FALSE(unpack(*packed, kSize + 1).ok()) << name;
    EXPECT_FALSE(unpack(std::string_view(*packed).substr(0, packed->size() / 2), kSize).ok());
  }
  EXPECT_FALSE(unpack("", kSize).ok());
  EXPECT_FALSE(unpack("\7 something", kSize).ok());
}

TEST(PagePacking, WhatDoesNotShrinkIsSentAsItIsAndNotTriedForAWhile) {
  Packer packer = make("lz4");
  EXPECT_FALSE(packer.pack(noise(), false));
  EXPECT_FALSE(packer.pack(text(), false)) << "it looks like more of that";
  int tries = 0;
  while (!packer.pack(text(), false)) ASSERT_LT(++tries, 100);
}

TEST(PagePacking, AutoCompressesTheMoreTheSlowerTheLink) {
  Packer packer = make("auto");
  EXPECT_FALSE(packer.pack(text(), false)) << "nobody waits";
  const auto after = [&](bool waited) {
    for (int i = 0; i < 40; ++i) packer.pack(text(), waited);
    return packer.current();
  };
  EXPECT_EQ(after(true), Packing::kLz4);
  EXPECT_EQ(after(true), Packing::kZstd);
  EXPECT_EQ(after(true), Packing::kZstd);
  EXPECT_EQ(after(false), Packing::kLz4);
  EXPECT_EQ(after(false), Packing::kNone);
}

TEST(PagePacking, ThereIsNoOther) {
  const auto other = Packer::make("gzip");
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), Code::kInvalid);
  EXPECT_NE(other.error().message().find("zstd"), std::string::npos);
  EXPECT_FALSE(make("none").pack(text(), true));
}

}  // namespace
}  // namespace dvs
