#include "container/process_ids.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <climits>
#include <thread>

namespace dvs {
namespace {

std::string name_when_called(const char* name) {
  std::string seen;
  std::thread([&] {
    ::prctl(PR_SET_NAME, name);
    seen = name_of_thread(::gettid());
  }).join();
  return seen;
}

TEST(NameOfThread, IsTheThreadsOwn) {
  EXPECT_EQ(name_when_called("board server"), "board server");
  EXPECT_NE(name_of_thread(::getpid()), "board server");
  EXPECT_EQ(name_when_called("fifteen-bytes-0"), "fifteen-bytes-0");
}

TEST(NameOfThread, CanAlwaysBePrinted) {
  EXPECT_EQ(name_when_called("a\nb\x1b[1m\x7f"), "a?b?[1m?");
  EXPECT_EQ(name_when_called("caf\xc3\xa9\xff"), "caf???") << "also when it is not UTF-8";
}

TEST(NameOfThread, OfNobodyIsEmpty) { EXPECT_EQ(name_of_thread(INT_MAX), ""); }

TEST(NextPid, BeginsWithTheFirstIfNoneIsUsed) {
  EXPECT_EQ(next_pid_beside({}, 16384, 32767), 16384);
  EXPECT_EQ(next_pid_beside({300, 40000}, 16384, 32767), 16384) << "of other nodes";
}

TEST(NextPid, LeavesRoomBehindWhatIsUsed) {
  EXPECT_EQ(next_pid_beside({16385, 16390, 16385}, 16384, 32767), 16390 + 1 + 1024);
}

TEST(NextPid, TakesTheLargestGap) {
  EXPECT_EQ(next_pid_beside({150, 190}, 100, 199), 100) << "in front";
  EXPECT_EQ(next_pid_beside({110, 190}, 100, 199), 110 + 1 + 39) << "between";
  EXPECT_EQ(next_pid_beside({100, 110}, 100, 199), 110 + 1 + 44) << "behind";
}

TEST(NextPid, IsInTheRangeWhateverIsUsed) {
  EXPECT_EQ(next_pid_beside({7, 8}, 7, 8), 7);
  EXPECT_EQ(next_pid_beside({8}, 7, 8), 7);
  EXPECT_EQ(next_pid_beside({7}, 7, 8), 8);
}

}  // namespace
}  // namespace dvs
