// The administrative calls (libdvkadm) on a cluster, as a program outside the DCs makes them.
#include <dvk/dvk_admin.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Admin : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    ask_node("n1");
  }
  static void ask_node(const std::string& name) {
    ::setenv("DVS_SOCKET", node(name).socket.c_str(), 1);
  }
  int id_of(const std::string& name) {
    auto nodes = call("GET", "/v1/nodes");
    for (const Json& item : nodes.ok() ? nodes->at("nodes") : Json::array()) {
      if (item.at("name") == name) return item.at("id");
    }
    return -1;
  }
  // A DC of this node, which the test's end removes.
  int init(const char* name) {
    dc_usr_t dc{};
    dc.dc_dcid = -1;
    dc.dc_warn2proc = NONE;
    std::snprintf(dc.dc_name, sizeof dc.dc_name, "%s", name);
    EXPECT_GE(dvk_dc_init(&dc), 0);
    dcs_.push_back(name);
    return dc.dc_dcid;
  }
};

// What a child of the test exits with.
int in_child(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(Admin, EachCallDoneRightAndWrong) {
  const std::string path = binary("../tests/programs/admin");
  EXPECT_EQ(in_child([&] {
              ::execl(path.c_str(), "admin", std::to_string(id_of("n1")).c_str(),
                      std::to_string(id_of("n2")).c_str(), "n2", nullptr);
              return 127;
            }),
            0);
}

// What a user does with a DC of two nodes.
TEST_F(Admin, AProcessRunsOnANodeThatWasAddedAndKeepsIt) {
  const int dcid = init("lab");
  EXPECT_REFUSED(try_run("lab", {{"node", "n2"}, {"argv", {program("echo_server")}}}),
                 Code::kInvalid, "n2");
  ASSERT_EQ(dvk_add_node(dcid, id_of("n2")), OK);
  const Process server = run("lab", "n2", 5, {"echo_server"});
  expect_serves(server, "n1");
  EXPECT_EQ(dvk_del_node(dcid, id_of("n2")), EDVSRSCBUSY);
  expect_serves(server, "n2");
  must_move(server, "n1");
  EXPECT_EQ(dvk_del_node(dcid, id_of("n2")), OK);
  expect_serves(server, "n1");
}

TEST_F(Admin, ADcEndsWithItsProcesses) {
  const int dcid = init("lab");
  ASSERT_EQ(dvk_add_node(dcid, id_of("n2")), OK);
  const Process one = run("lab", "n1", 5, {"receiver"});
  const Process other = run("lab", "n2", 6, {"receiver"});
  ask_node("n2");  // any of its nodes
  ASSERT_EQ(dvk_dc_end(dcid), OK);
  EXPECT_EQ(copies(one), 0);
  EXPECT_EQ(copies(other), 0);
  EXPECT_EQ(dvk_dc_end(dcid), EDVSBADDCID);
  dcs_.clear();
  started_.clear();
}

// The DCs of this node alone go; in the others, this node's part; but not from under processes.
TEST_F(Admin, TheDvsEndsOnOneNode) {
  init("mine");
  const int shared = init("shared");
  const int busy = init("busy");
  for (const int dcid : {shared, busy}) ASSERT_EQ(dvk_add_node(dcid, id_of("n2")), OK);
  const Process server = run("busy", "n1", 5, {"echo_server"});
  EXPECT_EQ(dvk_dvs_end(), EDVSRSCBUSY);
  auto dcs = call("GET", "/v1/dcs");
  ASSERT_OK(dcs);
  ASSERT_EQ(dcs->at("dcs").size(), 2u) << dcs->dump();
  for (const Json& dc : dcs->at("dcs")) {
    const Json left = dc.at("name") == "busy" ? Json{"n1", "n2"} : Json{"n2"};
    EXPECT_EQ(dc.at("nodes"), left) << dc.dump();
  }
  expect_serves(server, "n2");
  must_move(server, "n2");
  EXPECT_EQ(dvk_dvs_end(), OK);
  EXPECT_EQ(dvk_dvs_end(), OK);
  expect_serves(server, "n2");
  dcs_ = {"shared", "busy"};
}

// d_nr_dcs tells programs that no number is as large.
TEST_F(Admin, DvsdGivesNoNumberThatProgramsDoNotExpect) {
  dvs_usr_t dvs{};
  const int n1 = id_of("n1");
  ASSERT_EQ(dvk_dvs_init(n1, &dvs), n1);
  EXPECT_REFUSED(
      call("POST", "/v1/dcs", {{"name", "lab"}, {"nodes", {"n1"}}, {"id", dvs.d_nr_dcs}}),
      Code::kInvalid, "65536");
}

TEST_F(Admin, WhoMayNotOpenTheSocketIsToldSo) {
  ASSERT_EQ(in_child([&] {
              constexpr uid_t kNobody = 65534;
              if (::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) return 2;
              return dvk_dvs_end() == EDVSPRIVILEGES ? 0 : 1;
            }),
            0);
}

TEST_F(Admin, WithoutDvsdNothingIsInitialised) {
  ::setenv("DVS_SOCKET", "/nonexistent/dvsd.sock", 1);
  dvs_usr_t dvs{};
  dc_usr_t dc{};
  std::snprintf(dc.dc_name, sizeof dc.dc_name, "lab");
  EXPECT_EQ(dvk_dvs_init(0, &dvs), EDVSDVSINIT);
  EXPECT_EQ(dvk_dvs_end(), EDVSDVSINIT);
  EXPECT_EQ(dvk_dc_init(&dc), EDVSDVSINIT);
  EXPECT_EQ(dvk_dc_end(0), EDVSDVSINIT);
  EXPECT_EQ(dvk_add_node(0, 0), EDVSDVSINIT);
  EXPECT_EQ(dvk_del_node(0, 0), EDVSDVSINIT);
  EXPECT_EQ(dvk_node_up("n2", 1, 0), EDVSDVSINIT);
  EXPECT_EQ(dvk_node_down(1), EDVSDVSINIT);
}

// A node that is down: no part can be made there, and it counts as gone when its lease has ended.
TEST_F(Admin, ANodeThatIsDown) {
  ASSERT_OK(local::join(dir(), "n4"));
  await_links();
  const int n4 = id_of("n4");
  EXPECT_EQ(dvk_node_up("n4", n4, 0), OK);
  const int dcid = init("lab");
  ASSERT_OK(local::kill_node(dir(), "n4"));
  EXPECT_TRUE(eventually([&] { return state_of("n4") == "down"; }, 20s));
  EXPECT_EQ(dvk_node_up("n4", n4, 0), EDVSNOTCONN);
  EXPECT_EQ(dvk_node_down(n4), OK);
  EXPECT_EQ(dvk_add_node(dcid, n4), EDVSNODEFREE);
  ASSERT_OK(call("DELETE", "/v1/nodes/n4"));
  EXPECT_EQ(dvk_node_up("n4", n4, 0), EDVSBADNODEID);
}

}  // namespace
}  // namespace dvs::integration
