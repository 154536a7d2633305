// What a DC can do to its node and to the other DCs there: nothing, whatever its processes try.
#include <spdlog/fmt/fmt.h>

#include <cstdlib>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Isolation : public ClusterTest {
 protected:
  int id_of_dc(const std::string& name) {
    auto list = call("GET", "/v1/dcs");
    EXPECT_OK(list);
    for (const Json& dc : list.ok() ? list->at("dcs") : Json::array()) {
      if (dc.at("name") == name) return dc.at("id");
    }
    ADD_FAILURE() << "there is no DC " << name;
    return -1;
  }
  // Of the node's processes, the one that runs in the DC as this one.
  int id_on_node(const Process& process) {
    const auto names = list_dir("/proc");
    EXPECT_OK(names);
    for (const std::string& name : names.ok() ? *names : std::vector<std::string>{}) {
      const auto status = read_file("/proc/" + name + "/status");
      if (status.ok() &&
          status->find("\t" + std::to_string(process.pid) + "\n") != std::string::npos &&
          status->rfind("Name:\treceiver\n", 0) == 0) {
        return std::stoi(name);
      }
    }
    return -1;
  }
  static uint64_t seed() {
    const char* text = std::getenv("DVS_SEED");
    const uint64_t seed =
        text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device()();
    std::cerr << "DVS_SEED=" << seed << "\n";
    return seed;
  }
};

// One DC's processes write nonsense into their regions; the other DC on the same nodes, and the
// daemons, do not notice.
TEST_F(Isolation, AVandalHarmsItsOwnDcOnly) {
  const uint64_t first = seed();
  make_dc("bad");
  make_dc("good");
  std::map<std::string, pid_t> daemons;
  for (const char* name : {"n1", "n2", "n3"}) daemons[name] = node(name).dvsd_pid;
  const Process near = run("good", "n1", 1, {"echo_server"});
  const Process far = run("good", "n2", 2, {"echo_server"});
  uint64_t number = first;
  int endpoint = 3;
  for (const char* name : {"n1", "n2"}) {
    run("bad", name, endpoint++, {"echo_server"});
    const Process vandal = run("bad", name, {"vandal", std::to_string(number++)});
    ASSERT_TRUE(wait_log(vandal, "at work"));
  }
  constexpr int kRequests = 3000;
  std::vector<Process> clients;
  for (const Process& server : {near, far}) {
    for (const char* name : {"n1", "n2", "n3"}) {
      clients.push_back(
          run("good", name,
              {"client", std::to_string(server.endpoint), "1", std::to_string(kRequests), "500"}));
    }
  }
  for (const Process& client : clients) {
    EXPECT_TRUE(wait_log(client, fmt::format("done requests={} errors=0", kRequests), 0, 60s));
  }
  must_move(near, "n3");
  for (const auto& [name, pid] : daemons) {
    EXPECT_EQ(node(name).dvsd_pid, pid) << "dvsd of " << name << " was restarted";
    EXPECT_OK(ask(node(name).socket, "GET", "/v1/nodes", nullptr));
  }
  EXPECT_OK(call("DELETE", "/v1/dcs/bad?force=1"));
  dcs_.erase(dcs_.begin());
}

TEST_F(Isolation, AnIntruderReachesNothing) {
  make_dc("theirs", {"n1"});
  make_dc("mine", {"n1"});
  const Process victim = run("theirs", "n1", 10, {"receiver"});
  const Process intruder = run("mine", "n1", 11,
                               {"intruder", std::to_string(id_on_node(victim)), "theirs",
                                std::to_string(id_of_dc("theirs"))});
  ASSERT_TRUE(wait_log(intruder, "all tried", 0, 30s));
  const std::string said = log(intruder);
  EXPECT_EQ(said.find("REACHED"), std::string::npos) << said;
  EXPECT_NE(said.find("uncover: refused"), std::string::npos) << said;
}

// The daemons read and write a DC's logs, which its programs can replace by anything.
TEST_F(Isolation, ALogIsNoWindowToTheNode) {
  make_dc("mine", {"n1", "n2"});
  const Process thief = run("mine", "n1",
                            {"/bin/sh", "-c",
                             "cd /run/dvs/dc/logs; for f in *; do ln -sf /etc/passwd $f; done; "
                             "ln -sf /etc/passwd ../exits; while :; do sleep 1; done"});
  const std::string exits = path_on("n1", "/run/dvs/dcs/mine/shared/exits");
  ASSERT_TRUE(eventually([&] { return std::filesystem::is_symlink(exits); }));
  EXPECT_EQ(log(thief).find("root:"), std::string::npos);
  EXPECT_REFUSED(
      call("GET", "/v1/dcs/mine/endpoints/" + std::to_string(thief.endpoint) + "/logs?offset=0"),
      Code::kInternal, "cannot open");
  const auto moved = migrate(thief, "n2");
  ASSERT_OK(moved);
  EXPECT_EQ(moved->at("state"), "rolledback") << moved->dump();
}

}  // namespace
}  // namespace dvs::integration
