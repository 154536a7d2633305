#include "wire/operation.h"

#include <gtest/gtest.h>

namespace dvs::wire {
namespace {

Operation full(OperationType type) {
  Operation operation;
  operation.type = type;
  operation.dcid = 3;
  operation.slot = 70;
  operation.incarnation = 0x1122334455667788;
  operation.number = 0xffff00000001;
  operation.kind = 2;
  operation.peer = -7;
  operation.peer_incarnation = 99;
  operation.epoch = 12;
  operation.rc = -109;
  operation.home_epoch = 13;
  operation.step = 14;
  operation.offset = 1u << 20;
  operation.address = 0x7fffdeadbeef;
  operation.length = 4096;
  operation.value = -5;
  operation.m.m_type = 42;
  operation.data = Bytes(std::string("a\0b", 3));
  return operation;
}

class OperationTest : public testing::TestWithParam<int> {
 protected:
  const OperationType type_ = static_cast<OperationType>(GetParam());
};

TEST_P(OperationTest, EncodesToTheSameAgain) {
  const std::string bytes = encode_operation(full(type_));
  const auto decoded = decode_operation(Bytes(bytes));
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(encode_operation(*decoded), bytes);
  EXPECT_EQ(decoded->slot, 70u);
  EXPECT_EQ(decoded->number, 0xffff00000001u);
}

TEST_P(OperationTest, IsRefusedWhenCutShortOrTooLong) {
  const std::string bytes = encode_operation(full(type_));
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto decoded = decode_operation(Bytes(std::string_view(bytes).substr(0, size)));
    ASSERT_FALSE(decoded.ok()) << size;
    EXPECT_EQ(decoded.error().code(), Code::kCorrupt);
  }
  EXPECT_FALSE(decode_operation(Bytes(bytes + "x")).ok());
}

INSTANTIATE_TEST_SUITE_P(AllTypes, OperationTest, testing::Range(1, 11));

TEST(OperationTypeTest, AnUnknownTypeIsRefused) {
  std::string bytes = encode_operation(full(OperationType::kRetry));
  for (int type : {0, 11, 255}) {
    bytes[0] = static_cast<char>(type);
    EXPECT_FALSE(decode_operation(Bytes(bytes)).ok());
  }
}

}  // namespace
}  // namespace dvs::wire
