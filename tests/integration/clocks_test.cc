// Nodes booted at different times; a DC has one clock.
#include <csignal>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Clocks : public ClusterTest {
 protected:
  static void SetUpTestSuite() {
    local::UpOptions options;
    options.clock_offsets_s = {0, 4000, 100};
    start_cluster(options);
  }
};

TEST_F(Clocks, GoOnEvenlyForAProcessThatMoves) {
  make_dc("lab");
  const Process watcher = run("lab", "n1", {"clock_watcher"});
  ASSERT_TRUE(wait_log(watcher, "look 50"));
  for (const char* node : {"n2", "n3", "n1", "n3", "n2"}) {
    must_move(watcher, node);
    wait_log(watcher, "look", log(watcher).size());
  }
  signal(watcher, SIGTERM);
  EXPECT_TRUE(wait_log(watcher, "done jumps=0"));
}

// A deadline set before a migration keeps its meaning after it.
TEST_F(Clocks, ADeadlineKeepsItsMeaning) {
  make_dc("lab");
  const Process waiter = run("lab", "n2", 5, {"waiter", "700"});
  ASSERT_TRUE(wait_log(waiter, "waiting"));
  must_move(waiter, "n1");
  ASSERT_TRUE(wait_log(waiter, "receive -61 after "));
  const std::string text = log(waiter);
  const int ms = std::stoi(text.substr(text.find("after ") + 6));
  EXPECT_GE(ms, 699);
  EXPECT_LT(ms, 3000);
}

}  // namespace
}  // namespace dvs::integration
