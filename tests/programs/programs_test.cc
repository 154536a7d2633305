// The C programs on one node, without a cluster. Their exit status tells.
#include <gtest/gtest.h>

#include "support/one_node.h"

namespace {

using dvs::testing::OneNode;

class Programs : public testing::Test {
 protected:
  // Each command is started at once; all must end well.
  void run(const std::vector<std::vector<std::string>>& commands) {
    std::vector<pid_t> pids;
    for (std::vector<std::string> argv : commands) {
      argv[0] = std::string(std::getenv("DVS_BUILD_DIR")) + "/tests/programs/" + argv[0];
      pids.push_back(OneNode::instance().start_program(argv));
    }
    for (const pid_t pid : pids) EXPECT_EQ(OneNode::instance().finish(pid), 0);
  }
};

TEST_F(Programs, Compat) { run({{"compat", "11"}}); }
TEST_F(Programs, Exchange) { run({{"exchange", "11", "12"}}); }
TEST_F(Programs, Notify) { run({{"notify", "11", "12"}}); }
TEST_F(Programs, Launcher) { run({{"launcher", "11", "12"}}); }
TEST_F(Programs, Priv) { run({{"priv", "11", "12"}}); }
TEST_F(Programs, Wakeup) { run({{"wakeup", "11", "12"}}); }
TEST_F(Programs, ThirdParty) {
  run({{"holder", "11", "13"},
       {"holder", "12", "13"},
       {"third_party", "13", "11", "12", "300000"}});
}
TEST_F(Programs, Latency) {
  run({{"latency_server", "11"}, {"latency_client", "12", "11", "2000"}});
}
TEST_F(Programs, Loops) {
  run({{"loops", "both", "send", "4", "500", "10"}});
  run({{"loops", "both", "sendrec", "4", "500", "10"}});
  run({{"loops", "both", "notify", "4", "500", "10"}});
  run({{"loops", "both", "vcopy", "4", "50", "10"}});
}

// Wrong use is told, and is not taken for success.
TEST_F(Programs, UsageAndFailureHaveTheirExitStatus) {
  OneNode& node = OneNode::instance();
  const std::string dir = std::string(std::getenv("DVS_BUILD_DIR")) + "/tests/programs/";
  EXPECT_EQ(node.finish(node.start_program({dir + "loops"})), 2);
  EXPECT_EQ(node.finish(node.start_program({dir + "loops", "both", "fly", "1", "1", "10"})), 2);
  node.bind(11, 1);
  EXPECT_EQ(node.finish(node.start_program({dir + "notify", "11", "12"})), 1);
  node.unbind(11);
}

}  // namespace
