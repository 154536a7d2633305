// dvk.hpp by its own means: a region as dvsd makes it, two threads of this test bound as it binds.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <dvk/dvk.hpp>
#include <filesystem>
#include <latch>
#include <thread>

#include "dvk/node_view.h"

namespace {

using namespace std::chrono_literals;

struct Sum {
  int a, b;
};
static_assert(dvk::Payload<Sum>);
static_assert(!dvk::Payload<char[57]>);
static_assert(!std::is_copy_constructible_v<dvk::Endpoint>);

class Region {
 public:
  Region() : path_("/tmp/dvk_hpp_test." + std::to_string(getpid())) {
    region_ = std::move(*dvs::dvk::Region::create(path_, {}));
    ::setenv("DVK_REGION", path_.c_str(), 1);
  }
  ~Region() { std::filesystem::remove(path_); }

  void bind_me(int endpoint) const {
    dvs::dvk::Identity identity;
    identity.endpoint = endpoint;
    identity.incarnation = static_cast<uint64_t>(endpoint);
    identity.epoch = 1;
    identity.kind = dvs::dvk::Kind::kLocal;
    identity.pid = getpid();
    identity.tid = dvk_gettid();
    dvs::dvk::bind(region_, region_.slot_of(endpoint), identity);
  }

 private:
  std::string path_;
  dvs::dvk::Region region_;
};

TEST(DvkHpp, ErrorsHaveTheirNames) {
  EXPECT_STREQ(dvk::error_name(EDVSTIMEDOUT), "EDVSTIMEDOUT");
  EXPECT_STREQ(dvk::error_name(OK), "OK");
  EXPECT_STREQ(dvk::error_name(-9999), "unknown error");
}

TEST(DvkHpp, ARequestIsAnsweredByTypeAndTimeOutsAreErrors) {
  const Region region;
  std::latch bound(2);
  std::thread server([&] {
    region.bind_me(11);
    auto self = dvk::Endpoint::given(1s);
    ASSERT_TRUE(self) << self.error_name();
    bound.arrive_and_wait();
    const auto request = self->receive_request(5s);
    ASSERT_TRUE(request) << request.error_name();
    EXPECT_EQ(request->m_source, 12);
    const auto sum = dvk::payload<Sum>(*request);
    EXPECT_TRUE(self->reply(12, dvk::typed(2, sum.a + sum.b)));
    self->release();
  });
  region.bind_me(12);
  auto self = dvk::Endpoint::given(1s);
  ASSERT_TRUE(self) << self.error_name();
  EXPECT_EQ(self->number(), 12);
  bound.arrive_and_wait();
  const auto answer = self->sendrec(11, dvk::typed(1, Sum{40, 2}), 5s);
  ASSERT_TRUE(answer) << answer.error_name();
  EXPECT_EQ(answer->m_type, 2);
  EXPECT_EQ(dvk::payload<int>(*answer), 42);
  server.join();
  EXPECT_EQ(self->receive(ANY, dvk::kNoWait).error(), EDVSAGAIN);
  EXPECT_EQ(self->receive(ANY, -5s).error(), EDVSAGAIN);
  EXPECT_EQ(self->receive(ANY, 1ms).error(), EDVSTIMEDOUT);
  EXPECT_EQ(self->send(13, dvk::empty(1)).error(), EDVSDSTDIED);
  self->release();  // nobody is here to answer an unbind
}

}  // namespace
