// The key-value store of examples/kv is moved while clients use it and check every answer:
// messages, and values up to 64 KB that are copied between the processes.
#include <signal.h>

#include <regex>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class KvMoves : public ClusterTest {
 protected:
  static constexpr int kServer = 20;

  Process start_server(const std::string& node) {
    const Process server = run("lab", node, kServer, {binary("kv-server")});
    EXPECT_TRUE(wait_log(server, "serves at endpoint 20"));
    return server;
  }
  Process start_soak(const std::string& node, int seed) {
    return run("lab", node, {binary("kv-client"), "soak", "--seed", std::to_string(seed)});
  }
  // Waits until the client has made some more requests.
  void await_progress(const Process& client) {
    ASSERT_TRUE(wait_log(client, "at ", log(client).size()));
  }
  // Stops it; returns how often it has counted up.
  uint64_t finish_soak(const Process& client) {
    EXPECT_GT(finish_client(client), 100);
    static const std::regex kSwaps("swaps=(\\d+)");
    const std::string text = log(client);
    std::smatch found;
    return std::regex_search(text, found, kSwaps) ? std::stoull(found[1]) : 0;
  }
  std::string ask_tool(const std::string& node, std::vector<std::string> args) {
    args.insert(args.begin(), binary("kv-client"));
    const Process tool = run("lab", node, std::move(args));
    EXPECT_TRUE(wait_log(tool, "\n"));
    return log(tool);
  }
};

TEST_F(KvMoves, TheServerBetweenTwoNodesUnderLoad) {
  make_dc("lab", {"n1", "n2"});
  const Process server = start_server("n1");
  const Process near = start_soak("n1", 1);
  const Process far = start_soak("n2", 2);
  const char* const nodes[] = {"n2", "n1"};
  for (int i = 0; i < 6; ++i) {
    ASSERT_NO_FATAL_FAILURE(await_progress(near));
    ASSERT_NO_FATAL_FAILURE(await_progress(far));
    ASSERT_NO_FATAL_FAILURE(must_move(server, nodes[i % 2]));
  }
  await_progress(near);
  await_progress(far);
  const uint64_t counted = finish_soak(near) + finish_soak(far);
  EXPECT_GT(counted, 10u);
  EXPECT_EQ(ask_tool("n2", {"get", "soak-counter"}), std::to_string(counted) + "\n")
      << "each compare-and-swap was done once";
  EXPECT_EQ(copies(server), 1);
}

// Its buffers move with the client: what the server copies meanwhile arrives where it is.
TEST_F(KvMoves, AClientUnderLoad) {
  make_dc("lab");
  start_server("n1");
  const Process client = start_soak("n2", 3);
  for (const char* node : {"n1", "n3", "n2"}) {
    ASSERT_NO_FATAL_FAILURE(await_progress(client));
    ASSERT_NO_FATAL_FAILURE(must_move(client, node));
  }
  await_progress(client);
  const uint64_t counted = finish_soak(client);
  EXPECT_EQ(ask_tool("n3", {"get", "soak-counter"}), std::to_string(counted) + "\n");
}

}  // namespace
}  // namespace dvs::integration
