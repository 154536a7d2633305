#include <gtest/gtest.h>

#include <dvk/dvk.hpp>
#include <memory>
#include <string>

namespace {

using dvk::Expected;
using dvk::Failure;
using dvk::Status;

// Everything that needs no memory is done by the compiler.
constexpr Expected<int> half(int n) {
  if (n % 2 != 0) return Failure(EDVSBADVALUE);
  return n / 2;
}
static_assert(half(8).and_then(half).and_then(half).value() == 1);
static_assert(half(6).and_then(half).error() == EDVSBADVALUE);
static_assert(half(3).and_then(half).value_or(-1) == -1);
static_assert(*half(8).transform([](int n) { return n + 0.5; }) == 4.5);
static_assert(half(8).error() == OK && half(8) && !half(7));
static_assert(Status().and_then([] { return half(4); }).value() == 2);
static_assert(Status(Failure(EDVSBUSY)).transform([] { return 1; }).error() == EDVSBUSY);
static_assert(half(2).transform([](int) {}).has_value());

static_assert(std::is_convertible_v<const char*, Expected<std::string>>);
static_assert(!std::is_convertible_v<int, Expected<std::unique_ptr<int>>>);
static_assert(!std::is_convertible_v<std::string, Expected<int>>);
static_assert(!std::is_convertible_v<Expected<int>, Expected<bool>>, "not by operator bool");
static_assert(!std::is_copy_constructible_v<Expected<std::unique_ptr<int>>>);

TEST(Expected, HoldsWhatCanOnlyBeMoved) {
  Expected<std::unique_ptr<int>> held = std::make_unique<int>(5);
  EXPECT_EQ(**held, 5);
  auto longer = std::move(held).transform([](std::unique_ptr<int> p) {
    *p += 1;
    return p;
  });
  const std::unique_ptr<int> taken = std::move(longer).value();
  EXPECT_EQ(*taken, 6);
  Expected<std::unique_ptr<int>> none = Failure(EDVSBUSY);
  EXPECT_EQ(std::move(none).value_or(nullptr), nullptr);
}

TEST(Expected, AFailureGoesThroughUnchangedAndNothingIsCalled) {
  const Expected<int> failed = Failure(7, dvk::Origin::kServer);
  bool called = false;
  const auto next = failed.transform([&](int) { called = true; }).and_then([&]() -> Status {
    called = true;
    return {};
  });
  EXPECT_EQ(failed.and_then(half).failure(), failed.failure());
  EXPECT_FALSE(called);
  EXPECT_EQ(next.error(), 7);
  EXPECT_TRUE(next.from_server());
  EXPECT_EQ(next.failure(), failed.failure());
  EXPECT_FALSE(Expected<int>(Failure(7)).from_server());
}

TEST(Expected, LooksLikeAPointerToItsValue) {
  Expected<std::string> text = "abc";
  EXPECT_EQ(text->size(), 3u);
  text->push_back('d');
  EXPECT_EQ(*text, "abcd");
  text = Failure(EDVSTIMEDOUT);
  EXPECT_FALSE(text);
  EXPECT_STREQ(text.error_name(), "EDVSTIMEDOUT");
}

TEST(ExpectedDeathTest, AValueThatIsNotThereEndsTheProgramWithTheReason) {
  Expected<int> failed = Failure(EDVSTIMEDOUT);
  EXPECT_DEATH((void)*failed, "the value of an Expected that has none .-61, EDVSTIMEDOUT");
  EXPECT_DEATH(Status(Failure(EDVSBUSY)).value(), "EDVSBUSY");
  EXPECT_DEATH((void)Expected<int>(1).failure(), "the failure of an Expected that has a value");
  EXPECT_DEATH((void)Failure(OK), "OK is no failure");
}

TEST(ErrorName, KnowsTheDvksErrorsAndTellsThemFromTheApplications) {
  EXPECT_STREQ(dvk::error_name(OK), "OK");
  EXPECT_STREQ(dvk::error_name(EDVSTIMEDOUT), "EDVSTIMEDOUT");
  EXPECT_STREQ(dvk::error_name(3), "error of the application");
  EXPECT_STREQ(dvk::error_name(-9999), "unknown error");
}

}  // namespace
