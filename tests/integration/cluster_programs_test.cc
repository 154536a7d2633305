// The C programs of tests/programs on a real cluster: on one node, and with their parts on two and
// three. Each says PASS when all was right.
#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Programs : public ClusterTest {
 protected:
  struct Part {
    std::string node;
    int endpoint;  // 0: it needs none of its own
    std::vector<std::string> argv;
  };

  void SetUp() override {
    ClusterTest::SetUp();
    make_dc("lab");
  }
  void run_all(const std::vector<Part>& parts) {
    std::vector<Process> processes;
    for (Part part : parts) {
      part.argv[0] = binary("../tests/programs/" + part.argv[0]);
      processes.push_back(part.endpoint == 0 ? run("lab", part.node, part.argv)
                                             : run("lab", part.node, part.endpoint, part.argv));
    }
    for (const Process& process : processes) {
      EXPECT_TRUE(wait_log(process, "PASS ", 0, 30s)) << log(process);
    }
  }
};

TEST_F(Programs, Exchange) { run_all({{"n1", 11, {"exchange", "11", "12"}}}); }
TEST_F(Programs, Notify) { run_all({{"n1", 11, {"notify", "11", "12"}}}); }
TEST_F(Programs, Launcher) { run_all({{"n1", 11, {"launcher", "11", "12"}}}); }
TEST_F(Programs, Priv) { run_all({{"n1", 11, {"priv", "11", "12"}}}); }
TEST_F(Programs, Wakeup) { run_all({{"n1", 11, {"wakeup", "11", "12"}}}); }

// The one that copies, and the two between which it copies.
TEST_F(Programs, ThirdPartyWhereverTheyAre) {
  const std::vector<std::array<const char*, 3>> kPlaces = {
      {"n1", "n1", "n1"}, {"n1", "n2", "n2"}, {"n1", "n1", "n2"},
      {"n2", "n1", "n1"}, {"n1", "n2", "n3"},
  };
  int first = 1;
  for (const auto& [master, one, other] : kPlaces) {
    const std::string m = std::to_string(first);
    const std::string a = std::to_string(first + 1);
    const std::string b = std::to_string(first + 2);
    SCOPED_TRACE(std::string(master) + " " + one + " " + other);
    run_all({{one, first + 1, {"holder", a, m}},
             {other, first + 2, {"holder", b, m}},
             {master, first, {"third_party", m, a, b, "300000"}}});
    first += 3;
  }
}

TEST_F(Programs, LatencyHereAndBetweenNodes) {
  run_all(
      {{"n1", 11, {"latency_server", "11"}}, {"n1", 12, {"latency_client", "12", "11", "2000"}}});
  run_all(
      {{"n1", 13, {"latency_server", "13"}}, {"n2", 14, {"latency_client", "14", "13", "500"}}});
}

TEST_F(Programs, LoopsOnOneNode) {
  for (const char* kind : {"send", "sendrec", "notify", "vcopy"}) {
    run_all({{"n1", 0, {"loops", "both", kind, "4", "200", "10"}}});
  }
}

TEST_F(Programs, LoopsBetweenTwoNodes) {
  for (const char* kind : {"send", "sendrec", "notify", "vcopy"}) {
    SCOPED_TRACE(kind);
    run_all({{"n1", 0, {"loops", "servers", kind, "4", "50", "10"}},
             {"n2", 0, {"loops", "clients", kind, "4", "50", "10"}}});
  }
}

}  // namespace
}  // namespace dvs::integration
