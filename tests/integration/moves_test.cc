// A process moves between nodes; whoever works with it sees a delay and nothing else.
#include <spdlog/fmt/fmt.h>

#include <atomic>
#include <regex>
#include <thread>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Moves : public ClusterTest {
 protected:
  // What a finished client has seen.
  double longest_gap_ms(const Process& client) {
    static const std::regex kGap("longest_ms=([0-9.]+)");
    const std::string text = log(client);
    std::smatch found;
    return std::regex_search(text, found, kGap) ? std::stod(found[1]) : 1e9;
  }
};

// Checks every line the spinner wrote: each tick once, in order, computed right, by the same pid.
int check_ticks(const std::string& text, int pid) {
  static const std::regex kLine("tick (\\d+) ([0-9a-f]+) (\\d+)\n");
  uint64_t state = 1;
  int ticks = 0;
  for (std::sregex_iterator it(text.begin(), text.end(), kLine), end; it != end; ++it) {
    for (int i = 0; i < 100'000; ++i) state = state * 6364136223846793005u + 1442695040888963407u;
    ++ticks;
    EXPECT_EQ((*it)[1], std::to_string(ticks));
    EXPECT_EQ((*it)[2], fmt::format("{:x}", state));
    EXPECT_EQ((*it)[3], std::to_string(pid));
    if (testing::Test::HasFailure()) break;
  }
  return ticks;
}

TEST_F(Moves, AComputationThatNeverCallsUs) {
  make_dc("lab");
  const Process spinner = run("lab", "n1", {"spinner"});
  ASSERT_TRUE(wait_log(spinner, "tick 20 "));
  must_move(spinner, "n2");
  const int ticks = check_ticks(log(spinner), spinner.pid);
  EXPECT_GE(ticks, 20) << "what it wrote before must be in its log";
  EXPECT_TRUE(wait_log(spinner, fmt::format("tick {} ", ticks + 20)));
  must_move(spinner, "n1");
  EXPECT_TRUE(wait_log(spinner, fmt::format("tick {} ", ticks + 60)));
  check_ticks(log(spinner), spinner.pid);
  EXPECT_EQ(copies(spinner), 1);
}

TEST_F(Moves, AServerThatThreeNodesSendTo) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  std::vector<Process> clients;
  for (const char* node : {"n1", "n2", "n3"}) {
    clients.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
  }
  for (const Process& client : clients) ASSERT_TRUE(wait_log(client, "going"));
  must_move(server, "n2");
  must_move(server, "n3");
  for (const Process& client : clients) EXPECT_GT(finish_client(client), 20);
  EXPECT_EQ(copies(server), 1);
}

TEST_F(Moves, TenTimesAroundUnderLoad) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process near = run("lab", "n1", {"client", "5", "1", "0", "0"});
  const Process far = run("lab", "n2", {"client", "5", "1", "0", "0"});
  ASSERT_TRUE(wait_log(near, "going"));
  ASSERT_TRUE(wait_log(far, "going"));
  const char* const nodes[] = {"n2", "n3", "n1"};
  for (int i = 0; i < 10; ++i) ASSERT_NO_FATAL_FAILURE(must_move(server, nodes[i % 3]));
  EXPECT_GT(finish_client(near), 100);
  EXPECT_GT(finish_client(far), 100);
  EXPECT_EQ(copies(server), 1);
}

// Each of three operators wants it elsewhere, again and again: one after the other is served, the
// rest is refused, and nobody waits for long.
TEST_F(Moves, ThreeOperatorsWantItElsewhere) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "200"});
  ASSERT_TRUE(wait_log(client, "going"));
  std::vector<std::string> sockets;
  for (const char* name : {"n1", "n2", "n3"}) sockets.push_back(node(name).socket);
  std::atomic<int> committed = 0;
  const auto limit = std::chrono::steady_clock::now() + 30s;
  std::vector<std::thread> operators;
  for (size_t i = 0; i < sockets.size(); ++i) {
    operators.emplace_back([&, i] {
      while (committed < 8 && std::chrono::steady_clock::now() < limit) {
        const Json wish = {{"dc", "lab"}, {"endpoint", 5}, {"target", fmt::format("n{}", i + 1)}};
        auto end = ask(sockets[(i + 1) % 3], "POST", "/v1/migrations", wish);
        if (end.ok() && end->at("migration").at("state") == "committed") ++committed;
      }
    });
  }
  for (std::thread& each : operators) each.join();
  EXPECT_GE(committed, 8);
  expect_nothing_prepared();
  EXPECT_GT(finish_client(client), 100);
  EXPECT_LT(longest_gap_ms(client), 5000.0) << log(client);
  EXPECT_EQ(copies(server), 1);
}

TEST_F(Moves, AClientWhileItsServerAnswers) {
  make_dc("lab");
  run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "0"});
  ASSERT_TRUE(wait_log(client, "going"));
  must_move(client, "n1");
  must_move(client, "n3");
  EXPECT_GT(finish_client(client), 20);
}

TEST_F(Moves, AReceiverThatWaits) {
  make_dc("lab");
  const Process receiver = run("lab", "n1", 5, {"receiver"});
  ASSERT_TRUE(wait_log(receiver, "ready"));
  must_move(receiver, "n2");
  const Process sender = run("lab", "n3", 20, {"sender", "5", "2", "77"});
  EXPECT_TRUE(wait_log(receiver, fmt::format("got 77 from {}", sender.endpoint)));
  EXPECT_TRUE(wait_log(sender, "sent 0"));
  must_move(receiver, "n3");
  run("lab", "n3", 21, {"sender", "5", "2", "78"});
  EXPECT_TRUE(wait_log(receiver, "got 78"));
}

// The client's request was taken; it moves, then its server answers, and it gets that one answer.
TEST_F(Moves, AClientThatWaitsForItsAnswer) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"slow_server"});
  const Process asker = run("lab", "n2", 25, {"asker", "5", "21"});
  ASSERT_TRUE(wait_log(server, "took 21"));
  must_move(asker, "n3");
  run("lab", "n1", 20, {"sender", "5", "3", "0"});
  EXPECT_TRUE(wait_log(asker, "answer 0 43\n"));
  EXPECT_TRUE(wait_log(asker, "then -61\n")) << "a second answer must not come";
  EXPECT_TRUE(wait_log(server, "replied 0"));
}

// The same with the server moving between taking the request and answering it.
TEST_F(Moves, AServerThatOwesAnAnswer) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"slow_server"});
  const Process near = run("lab", "n1", 25, {"asker", "5", "30"});
  ASSERT_TRUE(wait_log(server, "took 30"));
  must_move(server, "n2");
  must_move(near, "n3");
  run("lab", "n1", 20, {"sender", "5", "3", "0"});
  EXPECT_TRUE(wait_log(near, "answer 0 61\n"));
  EXPECT_TRUE(wait_log(near, "then -61\n"));
}

TEST_F(Moves, EightThreadsWithAnEndpointEach) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server", "10", "8"});
  ASSERT_TRUE(wait_log(server, "ready"));
  const Process client = run("lab", "n3", {"client", "10", "8", "0", "0"});
  ASSERT_TRUE(wait_log(client, "going"));
  must_move(server, "n2");
  EXPECT_EQ(place({"lab", 17, 0, ""}).first, "n2") << "its threads' endpoints are there too";
  must_move(server, "n3");
  EXPECT_GT(finish_client(client), 20);
}

TEST_F(Moves, AProcessWithItsChildren) {
  make_dc("lab");
  const Process family = run("lab", "n1", {"family"});
  ASSERT_TRUE(wait_log(family, "round 10\n"));
  must_move(family, "n2");
  const size_t sofar = log(family).size();
  EXPECT_TRUE(wait_log(family, "round ", sofar));
  EXPECT_TRUE(wait_log(family, "round 100\n"));
}

}  // namespace
}  // namespace dvs::integration
