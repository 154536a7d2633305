#include "wire/frame.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <chrono>

#include "wire/codec.h"

namespace dvs::wire {
namespace {

std::vector<Frame> sample_frames() {
  return {{FrameType::kHello, Bytes(R"({"node":1})")},
          {FrameType::kPing, {}},
          {FrameType::kControl, Bytes(std::string("\0\xff\x31", 3))},
          {FrameType::kOperation, Bytes(std::string(300, 'o'))},
          {FrameType::kPing, {}}};
}

std::string encode(const std::vector<Frame>& frames) {
  std::string stream;
  for (const auto& frame : frames) append_frame(stream, frame.type, frame.body.view());
  return stream;
}

// True when `got` is the beginning of `sent`, or all of it.
bool is_prefix(const std::vector<Frame>& got, const std::vector<Frame>& sent) {
  if (got.size() > sent.size()) return false;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].type != sent[i].type || got[i].body.view() != sent[i].body.view()) return false;
  }
  return true;
}

// A header whose own checksum is right, whatever its fields say.
std::string header(uint32_t magic, uint8_t version, uint8_t type, uint16_t flags, uint32_t size) {
  Writer fields;
  fields.put(magic);
  fields.put(version);
  fields.put(type);
  fields.put(flags);
  fields.put(size);
  fields.put(static_cast<uint32_t>(XXH3_64bits("", 0)));  // of an empty body
  const std::string checked = fields.take();
  Writer all;
  all.put_bytes(checked);
  all.put(static_cast<uint32_t>(XXH3_64bits(checked.data(), checked.size())));
  return all.take();
}

// Feeds `bytes` to a new reader and returns what it complained about; "" for nothing.
std::string complaint(std::string_view bytes, size_t max_body = kMaxBody) {
  FrameReader reader(max_body);
  std::vector<Frame> frames;
  const Status status = reader.feed(bytes, frames);
  EXPECT_TRUE(frames.empty() || status.ok());
  if (status.ok()) return "";
  EXPECT_EQ(status.error().code(), Code::kCorrupt);
  return status.error().message();
}

TEST(Frame, HeaderLayoutIsTheDocumentedOne) {
  EXPECT_EQ(encode_frame(FrameType::kPing, ""), header(kMagic, 1, 2, 0, 0));
  const std::string frame = encode_frame(FrameType::kControl, "{}");
  EXPECT_EQ(frame.size(), kHeaderSize + 2);
  EXPECT_EQ(frame.substr(0, 12), std::string("DVS1\x01\x03\0\0\x02\0\0\0", 12));
  EXPECT_EQ(frame.substr(kHeaderSize), "{}");
}

TEST(Frame, StreamCutAtEveryPairOfPositionsGivesTheSameFrames) {
  const auto sent = sample_frames();
  const std::string stream = encode(sent);
  const std::string_view view = stream;
  for (size_t first = 0; first <= stream.size(); ++first) {
    for (size_t second = first; second <= stream.size(); ++second) {
      FrameReader reader;
      std::vector<Frame> got;
      ASSERT_TRUE(reader.feed(view.substr(0, first), got).ok());
      ASSERT_TRUE(reader.feed(view.substr(first, second - first), got).ok());
      ASSERT_TRUE(reader.feed(view.substr(second), got).ok());
      ASSERT_EQ(got.size(), sent.size()) << "cut at " << first << " and " << second;
      ASSERT_TRUE(is_prefix(got, sent)) << "cut at " << first << " and " << second;
    }
  }
}

TEST(Frame, FramesComeOutAsSoonAsTheirLastByteIsThere) {
  const auto sent = sample_frames();
  FrameReader reader;
  std::vector<Frame> got;
  for (size_t i = 0; i < sent.size(); ++i) {
    for (char byte : encode_frame(sent[i].type, sent[i].body.view())) {
      ASSERT_EQ(got.size(), i);
      ASSERT_TRUE(reader.feed({&byte, 1}, got).ok());
    }
    ASSERT_EQ(got.size(), i + 1);
  }
  EXPECT_TRUE(is_prefix(got, sent));
}

TEST(Frame, ABodyReceivedInPlaceIsTheSame) {
  const auto sent = sample_frames();
  const std::string stream = encode(sent);
  FrameReader reader;
  std::vector<Frame> got;
  for (std::string_view rest = stream; !rest.empty();) {
    const auto room = reader.lacking();
    const size_t count = room.empty() ? 1 : std::min<size_t>({room.size(), rest.size(), 7});
    if (!room.empty()) std::copy_n(rest.data(), count, room.data());
    const Status status =
        room.empty() ? reader.feed(rest.substr(0, 1), got) : reader.received(count, got);
    ASSERT_TRUE(status.ok());
    rest.remove_prefix(count);
  }
  EXPECT_EQ(got.size(), sent.size());
  EXPECT_TRUE(is_prefix(got, sent));
}

TEST(Frame, ABodyInTwoPartsIsTheSame) {
  const std::string head = "head";
  const std::string bulk(1000, 'b');
  std::string parts;
  append_frame_up_to(parts, FrameType::kImage, head, bulk);
  EXPECT_EQ(parts + bulk, encode_frame(FrameType::kImage, head + bulk));
}

TEST(Frame, ATruncatedStreamGivesOnlyWholeFrames) {
  const auto sent = sample_frames();
  const std::string stream = encode(sent);
  for (size_t size = 0; size < stream.size(); ++size) {
    FrameReader reader;
    std::vector<Frame> got;
    ASSERT_TRUE(reader.feed(std::string_view(stream).substr(0, size), got).ok());
    ASSERT_LT(got.size(), sent.size());
    ASSERT_TRUE(is_prefix(got, sent));
  }
}

// The property that keeps a damaged stream from doing harm: whatever single byte is changed, in
// whatever way, the reader yields a prefix of what was sent and never anything else.
TEST(Frame, NoFlippedByteYieldsAWrongFrame) {
  const auto sent = sample_frames();
  const std::string stream = encode(sent);
  for (size_t position = 0; position < stream.size(); ++position) {
    for (int mask = 1; mask < 256; ++mask) {
      std::string damaged = stream;
      damaged[position] = static_cast<char>(damaged[position] ^ mask);
      FrameReader reader;
      std::vector<Frame> got;
      const Status status = reader.feed(damaged, got);
      ASSERT_FALSE(status.ok()) << "byte " << position << " mask " << mask;
      ASSERT_LT(got.size(), sent.size());
      ASSERT_TRUE(is_prefix(got, sent)) << "byte " << position << " mask " << mask;
    }
  }
}

TEST(Frame, NoRemovedOrDoubledByteYieldsAWrongFrame) {
  const auto sent = sample_frames();
  const std::string stream = encode(sent);
  for (size_t position = 0; position < stream.size(); ++position) {
    for (const std::string& damaged : {std::string(stream).erase(position, 1),
                                       std::string(stream).insert(position, 1, stream[position])}) {
      FrameReader reader;
      std::vector<Frame> got;
      (void)reader.feed(damaged, got);
      ASSERT_TRUE(is_prefix(got, sent)) << "byte " << position;
    }
  }
}

TEST(Frame, EachFaultIsNamed) {
  EXPECT_NE(complaint("GET / HTTP/1.1\r\nHost: x\r\n").find("not a frame"), std::string::npos);
  EXPECT_NE(complaint(header(0x32535644, 1, 2, 0, 0)).find("magic"), std::string::npos);
  EXPECT_NE(complaint(header(kMagic, 2, 2, 0, 0)).find("version 2"), std::string::npos);
  EXPECT_NE(complaint(header(kMagic, 1, 0, 0, 0)).find("type 0"), std::string::npos);
  EXPECT_NE(complaint(header(kMagic, 1, 99, 0, 0)).find("type 99"), std::string::npos);
  EXPECT_NE(complaint(header(kMagic, 1, 2, 2, 0)).find("flags"), std::string::npos);
  std::string bad_length = encode_frame(FrameType::kImage, "x");
  bad_length[8] = 2;
  EXPECT_NE(complaint(bad_length).find("header with a wrong checksum"), std::string::npos);
  std::string bad_body = encode_frame(FrameType::kImage, "x");
  bad_body.back() = 'y';
  EXPECT_NE(complaint(bad_body).find("body with a wrong checksum"), std::string::npos);
}

TEST(Frame, LengthsAreLimited) {
  EXPECT_EQ(complaint(header(kMagic, 1, 5, 0, kMaxBody)), "");
  EXPECT_NE(complaint(header(kMagic, 1, 5, 0, kMaxBody + 1)).find("4194305 bytes"),
            std::string::npos);
  EXPECT_NE(complaint(header(kMagic, 1, 5, 0, UINT32_MAX)), "");
  EXPECT_EQ(complaint(encode_frame(FrameType::kHello, "1234"), 4), "");
  EXPECT_NE(complaint(encode_frame(FrameType::kHello, "12345"), 4), "");
}

TEST(Frame, AFaultIsFinalAndKeepsTheFramesBefore) {
  const std::string good = encode_frame(FrameType::kControl, "a");
  FrameReader reader;
  std::vector<Frame> frames;
  const Status first = reader.feed(good + std::string(kHeaderSize, 'x') + good, frames);
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(frames.size(), 1u);
  const Status second = reader.feed(good, frames);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message(), first.error().message());
  EXPECT_EQ(frames.size(), 1u);
}

// Small pieces of big frames and many small frames in one piece must both cost linear time: what a
// quadratic reader does with these takes minutes.
TEST(Frame, CostIsLinear) {
  const auto begin = std::chrono::steady_clock::now();
  FrameReader reader;
  std::vector<Frame> frames;
  const std::string big = encode_frame(FrameType::kImage, std::string(kMaxBody, 'p'));
  for (size_t at = 0; at < big.size(); at += 64) {
    ASSERT_TRUE(reader.feed(std::string_view(big).substr(at, 64), frames).ok());
  }
  ASSERT_EQ(frames.size(), 1u);
  EXPECT_EQ(frames[0].body.size(), kMaxBody);
  std::string small;
  for (int i = 0; i < 200'000; ++i) append_frame(small, FrameType::kPing, "");
  ASSERT_TRUE(reader.feed(small, frames).ok());
  EXPECT_EQ(frames.size(), 200'001u);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

}  // namespace
}  // namespace dvs::wire
