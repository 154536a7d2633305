#include "mover/injection_helper.h"

#include <gtest/gtest.h>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

// Counts for ever.
void count(Stages& stages) {
  stages.reached = 0;
  for (;;) ++stages.value[0];
}

bool still_counts(Child& child) {
  const uint64_t before = child.stages().value[0];
  return child.await([&] { return child.stages().value[0] > before + 1000; });
}

TEST(InjectionHelper, ADescriptorComesAndTheProcessGoesOn) {
  Child child(count);
  ASSERT_TRUE(child.await([&] { return child.stages().reached == 0; }));
  const auto injected = inject_by_helper(TRACER_PROGRAM, child.pid());
  ASSERT_TRUE(injected.ok()) << injected.error().message();
  EXPECT_TRUE(injected->fd.valid());
  EXPECT_GT(injected->stopped_ns, 0);
  EXPECT_TRUE(still_counts(child));
}

TEST(InjectionHelper, SaysWhyNotAsIfItHadBeenDoneHere) {
  const auto missing = inject_by_helper(TRACER_PROGRAM, 1 << 22);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), inject_userfaultfd(1 << 22).error().code());
  EXPECT_EQ(missing.error().message(), inject_userfaultfd(1 << 22).error().message());
  EXPECT_FALSE(inject_by_helper("/nonexistent", ::getpid()).ok());
}

// Done by the caller itself this ends the process within a few dozen times.
TEST(InjectionHelper, WhoAskedMayBeKilledAtAnyMoment) {
  Child child(count);
  ASSERT_TRUE(child.await([&] { return child.stages().reached == 0; }));
  auto dice = test_random();
  for (int i = 0; i < 50; ++i) {
    Child asker([&](Stages& stages) {
      for (stages.reached = 0;;) {
        static_cast<void>(inject_by_helper(TRACER_PROGRAM, child.pid()).ok());
      }
    });
    ASSERT_TRUE(asker.await([&] { return asker.stages().reached == 0; }));
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(dice() % 5000);
    while (std::chrono::steady_clock::now() < until) {
    }
    asker.end();
    ASSERT_TRUE(still_counts(child)) << "after " << i << " askers";
  }
}

}  // namespace
}  // namespace dvs::mover
