// The checker sees what it is there for.
#include "soak/checker.h"

#include <gtest/gtest.h>

#include <memory>

namespace dvs::soak {
namespace {

constexpr size_t kBytes = 4096;
constexpr uint32_t kClient = 7;

// One server and one client that write what a test has them do.
class Check : public testing::Test {
 protected:
  void SetUp() override {
    checker_.set_server(0, server_.get());
    checker_.add_client(kClient, client_.get());
  }
  // The server takes a request; what it answers.
  Entry take(uint64_t number) {
    Entry entry;
    entry.peer = kClient;
    entry.number = number;
    entry.count = ++count_;
    entry.own = ++own_;
    entry.digest = state_.apply(kClient, number);
    server_->add(entry);
    return entry;
  }
  void report(Entry answer, int rc = OK) {
    answer.peer = 0;
    answer.rc = rc;
    answer.sent_ns = 100;
    answer.answered_ns = 200;
    client_->add(answer);
  }
  void report_failed(uint64_t number, int rc = EDVSTIMEDOUT) {
    Entry entry;
    entry.number = number;
    report(entry, rc);
  }
  Totals read() {
    checker_.read();
    return checker_.totals();
  }

  std::unique_ptr<History> server_ = std::make_unique<History>();
  std::unique_ptr<History> client_ = std::make_unique<History>();
  Checker checker_{1, kBytes};
  State state_{kBytes};
  uint64_t count_ = 0;
  uint64_t own_ = 0;
};

TEST_F(Check, IsContentWithWhatIsAsItMustBe) {
  for (uint64_t number = 1; number <= 300; ++number) report(take(number));
  EXPECT_EQ(read().answered, 300u);
  EXPECT_TRUE(checker_.content()) << checker_.take_violations()[0];
  EXPECT_TRUE(checker_.answered_since(200));
  EXPECT_FALSE(checker_.answered_since(201));
  EXPECT_EQ(server_->lag() + client_->lag(), 0u);
}

TEST_F(Check, LetsARequestThatTimedOutBeTakenOrNot) {
  report_failed(1);
  report(take(2));
  take(3);
  report_failed(3);
  report_failed(4);
  EXPECT_EQ(read().timed_out, 3u);
  take(4);  // late, and in order
  report(take(5));
  EXPECT_EQ(read().timed_out_taken, 2u);
  EXPECT_TRUE(checker_.content()) << checker_.take_violations()[0];
}

TEST_F(Check, SeesADuplicate) {
  report(take(1));
  take(1);
  EXPECT_EQ(read().duplicated, 1u);
}

TEST_F(Check, SeesAnotherOrder) {
  report_failed(1);
  report(take(2));
  take(1);
  EXPECT_EQ(read().reordered, 1u);
}

TEST_F(Check, SeesAnAnswerToWhatWasNeverTaken) {
  Entry answer;
  answer.number = 1;
  report(answer);
  EXPECT_EQ(read().lost, 1u);
}

TEST_F(Check, SeesARequestThatWasPassedOver) {
  report(take(1));
  Entry passed;
  passed.number = 2;
  report(passed);
  report(take(3));
  EXPECT_GE(read().lost, 1u);
}

TEST_F(Check, SeesAStateThatGoesBack) {
  report(take(1));
  const State before = state_;
  report(take(2));
  state_ = before;  // as if a copy from before went on
  --count_;
  --own_;
  report(take(3));
  EXPECT_GE(read().corrupted, 2u) << "both the count and the digest";
}

TEST_F(Check, SeesAWordThatIsNotWhatItWas) {
  report(take(1));
  state_.apply(kClient, 99);
  report(take(2));
  EXPECT_GE(read().corrupted, 1u);
}

TEST_F(Check, SeesAnErrorThatNothingExplains) {
  report_failed(1, EDVSDSTDIED);
  EXPECT_EQ(read().failed, 1u);
  EXPECT_FALSE(checker_.content());
}

TEST_F(Check, KnowsHowLongAClientHasWaited) {
  report_failed(1);
  Entry answer = take(2);
  answer.peer = 0;
  answer.sent_ns = 5'000'100;
  answer.answered_ns = 8'000'100;
  client_->add(answer);
  read();
  EXPECT_DOUBLE_EQ(checker_.take_longest_gap_ms(), 8.0);
  EXPECT_DOUBLE_EQ(checker_.take_longest_gap_ms(), 0.0);
}

}  // namespace
}  // namespace dvs::soak
