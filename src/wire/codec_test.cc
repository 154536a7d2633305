#include "wire/codec.h"

#include <gtest/gtest.h>

#include <limits>

namespace dvs::wire {
namespace {

template <typename T>
void expect_round_trip() {
  for (T value : {std::numeric_limits<T>::min(), T{0}, T{1}, static_cast<T>(0x5a),
                  std::numeric_limits<T>::max()}) {
    Writer writer;
    writer.put(value);
    const std::string bytes = writer.take();
    EXPECT_EQ(bytes.size(), sizeof(T));
    Reader reader(bytes);
    EXPECT_EQ(reader.get<T>(), value);
    EXPECT_TRUE(reader.done());
  }
}

TEST(Codec, IntegersOfEveryWidthComeBack) {
  expect_round_trip<uint8_t>();
  expect_round_trip<int8_t>();
  expect_round_trip<uint16_t>();
  expect_round_trip<int16_t>();
  expect_round_trip<uint32_t>();
  expect_round_trip<int32_t>();
  expect_round_trip<uint64_t>();
  expect_round_trip<int64_t>();
}

TEST(Codec, BytesAreLittleEndian) {
  Writer writer;
  writer.put(uint32_t{0x04030201});
  writer.put(int16_t{-2});
  EXPECT_EQ(writer.take(), std::string("\x01\x02\x03\x04\xfe\xff", 6));
}

TEST(Codec, FieldsComeBackInOrder) {
  Writer writer;
  writer.put(uint8_t{7});
  writer.put_string(std::string("a\0b", 3));
  writer.put_string("");
  writer.put(int64_t{-1});
  writer.put_bytes("tail");
  const std::string bytes = writer.take();
  Reader reader(bytes);
  EXPECT_EQ(reader.get<uint8_t>(), 7);
  EXPECT_EQ(reader.get_string(), std::string_view("a\0b", 3));
  EXPECT_EQ(reader.get_string(), "");
  EXPECT_EQ(reader.get<int64_t>(), -1);
  EXPECT_TRUE(reader.ok());
  EXPECT_FALSE(reader.done());
  EXPECT_EQ(reader.rest(), "tail");
  EXPECT_TRUE(reader.done());
}

TEST(Codec, EveryTruncationIsNoticed) {
  Writer writer;
  writer.put(uint16_t{1});
  writer.put_string("hello");
  writer.put(uint64_t{2});
  const std::string bytes = writer.take();
  for (size_t size = 0; size < bytes.size(); ++size) {
    Reader reader(std::string_view(bytes).substr(0, size));
    reader.get<uint16_t>();
    reader.get_string();
    EXPECT_EQ(reader.get<uint64_t>(), 0u) << size;
    EXPECT_FALSE(reader.ok()) << size;
  }
}

TEST(Codec, ReadingPastTheEndStaysAnError) {
  Reader reader("\x01\x02\x03");
  EXPECT_EQ(reader.get<uint32_t>(), 0u);
  EXPECT_EQ(reader.get<uint8_t>(), 0) << "nothing may be read after a failure";
  EXPECT_EQ(reader.get_bytes(0), "");
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.done());
}

TEST(Codec, StringLengthsAreNotBelieved) {
  Writer writer;
  writer.put(std::numeric_limits<uint32_t>::max());
  writer.put_bytes("short");
  const std::string bytes = writer.take();
  Reader reader(bytes);
  EXPECT_EQ(reader.get_string(), "");
  EXPECT_FALSE(reader.ok());
}

}  // namespace
}  // namespace dvs::wire
