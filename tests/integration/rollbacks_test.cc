// A migration that fails at any point leaves exactly one live copy, and nobody who works with the
// process notices more than a delay.
#include <algorithm>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

struct FailingMigration {
  const char* fault;
  const char* armed_on;  // n1 is the source, n2 the target, n3 coordinates
  bool kills_dvsd;       // of the node it is armed on
  const char* outcome;   // "refused", a record's state, or "" when either is right
};

class FailingMigrations : public ClusterTest, public testing::WithParamInterface<FailingMigration> {
 protected:
  // Where the server has to be after the migration.
  std::string expected_place(const Migration& migration) {
    const std::string wanted = GetParam().outcome;
    if (wanted == "refused") {
      EXPECT_FALSE(migration.ok());
      return "n1";
    }
    EXPECT_OK(migration);
    if (!migration.ok()) return "n1";
    const std::string state = migration->at("state");
    EXPECT_TRUE(wanted.empty() || state == wanted) << migration->dump();
    EXPECT_EQ(state == "rolledback", migration->at("reason") != "") << migration->dump();
    return state == "committed" ? "n2" : "n1";
  }
};

TEST_P(FailingMigrations, NobodyLosesAnything) {
  make_dc("lab");
  via_ = "n3";
  const Process server = run("lab", "n1", 5, {"echo_server"});
  std::vector<Process> clients;
  for (const char* node : {"n1", "n2", "n3"}) {
    clients.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
  }
  for (const Process& client : clients) ASSERT_TRUE(wait_log(client, "going"));
  const pid_t dvsd = node(GetParam().armed_on).dvsd_pid;
  arm(GetParam().armed_on, GetParam().fault);

  const std::string expected = expected_place(migrate(server, "n2"));
  if (GetParam().kills_dvsd) await_dvsd(GetParam().armed_on, dvsd);
  EXPECT_TRUE(eventually([&] {
    return place(server) == std::make_pair(expected, server.pid) && copies(server) == 1;
  })) << place(server).first
      << ", " << copies(server) << " copies";
  expect_nothing_prepared();
  for (const Process& client : clients) EXPECT_GT(finish_client(client), 20);
  must_move(server, expected == "n1" ? "n2" : "n1");
  expect_serves(server, "n3");
  EXPECT_EQ(copies(server), 1);
}

INSTANTIATE_TEST_SUITE_P(
    At, FailingMigrations,
    testing::Values(FailingMigration{"preflight", "n2", false, "refused"},
                    FailingMigration{"dump", "n1", false, "rolledback"},
                    FailingMigration{"transfer", "n1", false, "rolledback"},
                    FailingMigration{"restore", "n2", false, "rolledback"},
                    FailingMigration{"die-before-vote", "n2", true, "rolledback"},
                    FailingMigration{"source-dies", "n1", true, ""},
                    FailingMigration{"die-after-decision", "n2", true, "committed"},
                    FailingMigration{"source-dies-after-decision", "n1", true, "committed"}),
    [](const auto& test) {
      std::string name = test.param.fault;
      name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
      return name;
    });

}  // namespace
}  // namespace dvs::integration
