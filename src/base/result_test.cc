#include "base/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace dvs {
namespace {

Result<int> half(int number) {
  if (number % 2 != 0) return Error(Code::kInvalid, "odd");
  return number / 2;
}

Result<int> quarter(int number) {
  DVS_ASSIGN(const int first, half(number));
  DVS_ASSIGN(const int second, half(first));
  return second;
}

Status check_even(int number) {
  DVS_TRY(half(number));
  return {};
}

TEST(Result, HoldsAValueOrAnError) {
  auto good = half(4);
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(*good, 2);
  auto bad = half(3);
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), Code::kInvalid);
}

TEST(Result, MacrosPassTheFirstErrorOn) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).error().message(), "odd");
  EXPECT_TRUE(check_even(2).ok());
  EXPECT_EQ(check_even(1).error().code(), Code::kInvalid);
}

TEST(Result, CarriesMoveOnlyValues) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 5);
}

TEST(Error, ContextGoesInFrontAndKeepsTheCode) {
  const auto error = Error(Code::kNotFound, "no such node").context("cannot migrate");
  EXPECT_EQ(error.message(), "cannot migrate: no such node");
  EXPECT_EQ(error.code(), Code::kNotFound);
}

TEST(Error, ErrnoChoosesTheCode) {
  const auto error = errno_error("cannot open x", ENOENT);
  EXPECT_EQ(error.code(), Code::kNotFound);
  EXPECT_EQ(error.message(), "cannot open x: No such file or directory");
  EXPECT_EQ(errno_error("", EACCES).code(), Code::kDenied);
  EXPECT_EQ(errno_error("", ENOSPC).code(), Code::kNoSpace);
  EXPECT_EQ(errno_error("", EIO).code(), Code::kInternal);
}

// The numbers and words go over the wire: this fails when one changes.
TEST(Code, WordsAndNumbersAreFixed) {
  const std::pair<int, const char*> expected[] = {
      {1, "invalid"},     {2, "not_found"}, {3, "conflict"}, {4, "unavailable"}, {5, "timeout"},
      {6, "unsupported"}, {7, "corrupt"},   {8, "denied"},   {9, "no_space"},    {10, "internal"}};
  for (const auto& [number, word] : expected) {
    EXPECT_EQ(code_name(static_cast<Code>(number)), word);
    EXPECT_EQ(static_cast<int>(code_from_name(word)), number);
  }
  EXPECT_EQ(code_from_name("from a later version"), Code::kInternal);
}

}  // namespace
}  // namespace dvs
