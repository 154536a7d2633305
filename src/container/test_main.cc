// The container tests' own main(): also a program to be started inside containers, as a probe.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>
#include <thread>

namespace {

// Prints the two clocks that a time namespace shifts, in nanoseconds.
int print_clocks() {
  for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_BOOTTIME}) {
    timespec now;
    ::clock_gettime(clock, &now);
    std::printf("%lld ", now.tv_sec * 1'000'000'000LL + now.tv_nsec);
  }
  return 0;
}

int wait_with_two_threads() {
  std::thread second([] { ::pause(); });
  std::puts("two");
  std::fflush(stdout);
  ::pause();
  return 0;
}

// Nothing that the tests mount or leave behind touches the machine.
class OwnNode : public testing::Environment {
 public:
  void SetUp() override {
    ASSERT_EQ(::unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
    ASSERT_EQ(::mount("tmpfs", "/run", "tmpfs", 0, nullptr), 0);
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  }
};

}  // namespace

int main(int argc, char** argv) {
  const std::string_view probe = argc > 1 ? argv[1] : "";
  if (probe == "clocks") return print_clocks();
  if (probe == "threads") return wait_with_two_threads();
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new OwnNode);
  return RUN_ALL_TESTS();
}
