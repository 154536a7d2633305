#include "wire/compression.h"

#include <gtest/gtest.h>

#include <random>

#include "wire/codec.h"
#include "wire/frame.h"

namespace dvs::wire {
namespace {

const std::string kText = [] {
  std::string text;
  while (text.size() < 100'000) text += "the same again, number " + std::to_string(text.size());
  return text;
}();

std::string whole(const Compressed& packed) {
  return packed.head + std::string(packed.bulk.view());
}

TEST(Compression, WhatIsCompressedComesBack) {
  const auto packed = compress("head", kText);
  ASSERT_TRUE(packed.has_value());
  EXPECT_LT(packed->bulk.size(), kText.size() / 2);
  const auto back = decompress(whole(*packed), kMaxBody);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->view(), "head" + kText);
}

TEST(Compression, NoiseAndLittleIsLeftAlone) {
  std::mt19937_64 random(1);
  std::string noise(100'000, 0);
  for (char& byte : noise) byte = static_cast<char>(random());
  EXPECT_FALSE(compress("head", noise).has_value());
  EXPECT_FALSE(compress("head", kText.substr(0, kWorthCompressing - 1)).has_value());
}

TEST(Compression, NonsenseIsRefused) {
  const std::string good = whole(*compress("head", kText));
  EXPECT_FALSE(decompress(good, kText.size()).ok()) << "longer than allowed";
  for (size_t size = 0; size < good.size(); size += 1 + size / 8) {
    EXPECT_FALSE(decompress(good.substr(0, size), kMaxBody).ok()) << size;
  }
  Writer huge;
  huge.put(UINT32_MAX);
  huge.put(UINT32_MAX);
  EXPECT_FALSE(decompress(huge.take(), kMaxBody).ok());
}

TEST(Compression, ACompressedFrameIsReadAsItWas) {
  const auto packed = compress("head", kText);
  ASSERT_TRUE(packed.has_value());
  std::string stream;
  append_frame_up_to(stream, FrameType::kOperation, packed->head, packed->bulk.view(), kCompressed);
  stream += packed->bulk.view();
  FrameReader reader;
  std::vector<Frame> frames;
  ASSERT_TRUE(reader.feed(stream, frames).ok());
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].body.view(), "head" + kText);
}

TEST(Compression, AFrameThatOnlySaysSoIsAnError) {
  std::string stream;
  append_frame_up_to(stream, FrameType::kOperation, "no LZ4 at all", {}, kCompressed);
  FrameReader reader;
  std::vector<Frame> frames;
  EXPECT_FALSE(reader.feed(stream, frames).ok());
  EXPECT_TRUE(frames.empty());
}

}  // namespace
}  // namespace dvs::wire
