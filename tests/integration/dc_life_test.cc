// DCs and nodes come, grow, shrink and go.
#include <signal.h>

#include <set>
#include <thread>

#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class DcLife : public ClusterTest {};

TEST_F(DcLife, ExtendedAndShrunk) {
  make_dc("lab", {"n1"});
  const Process server = run("lab", "n1", 5, {"echo_server"});
  EXPECT_REFUSED(migrate(server, "n2"), Code::kInvalid, "n2");
  ASSERT_OK(call("POST", "/v1/dcs/lab/nodes", {{"node", "n2"}}));
  must_move(server, "n2");
  expect_serves(server, "n1");
  EXPECT_REFUSED(call("DELETE", "/v1/dcs/lab/nodes/n2"), Code::kConflict, "n2");
  must_move(server, "n1");
  ASSERT_OK(call("DELETE", "/v1/dcs/lab/nodes/n2"));
  EXPECT_REFUSED(migrate(server, "n2"), Code::kInvalid, "n2");
  expect_serves(server, "n1");
}

// Its containers end and begin, one after the other.
TEST_F(DcLife, ANodeIsRemovedAndAddedAtOnce) {
  make_dc("lab");
  for (int i = 0; i < 10; ++i) {
    ASSERT_OK(call("DELETE", "/v1/dcs/lab/nodes/n1"));
    ASSERT_OK(call("POST", "/v1/dcs/lab/nodes", {{"node", "n1"}}));
  }
  expect_serves(run("lab", "n1", 5, {"echo_server"}), "n2");
  ASSERT_OK(call("DELETE", "/v1/dcs/lab/nodes/n3"));
}

TEST_F(DcLife, RemovedOnlyWhenEmptyUnlessForced) {
  make_dc("lab");
  run("lab", "n1", 7, {"receiver"});
  EXPECT_REFUSED(call("DELETE", "/v1/dcs/lab"), Code::kConflict, "lab");
  ASSERT_OK(call("DELETE", "/v1/dcs/lab?force=1"));
  EXPECT_REFUSED(call("GET", "/v1/processes?dc=lab"), Code::kNotFound, "lab");
  ASSERT_OK(call("POST", "/v1/dcs", {{"name", "lab"}, {"nodes", {"n1", "n2"}}}));
  expect_serves(run("lab", "n1", 5, {"echo_server"}), "n2");
}

// The next dvsd of that node finds a part of a DC that there is no more.
TEST_F(DcLife, WhatIsRemovedWhileADvsdIsAwayIsGoneWhenItIsBack) {
  make_dc("lab");
  const Process server = run("lab", "n2", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(server, "ready"));
  const std::vector<pid_t> pids = host_pids(server);
  ASSERT_EQ(pids.size(), 1u);
  const pid_t dvsd = node("n2").dvsd_pid;
  ASSERT_EQ(::kill(dvsd, SIGSTOP), 0);
  Result<Json> removed(Error(Code::kInternal, "not asked yet"));
  std::thread removal([&] { removed = call("DELETE", "/v1/dcs/lab?force=1"); });
  EXPECT_TRUE(eventually([&] { return !call("GET", "/v1/processes?dc=lab").ok(); }));
  ASSERT_EQ(::kill(dvsd, SIGKILL), 0);
  await_dvsd("n2", dvsd);
  removal.join();
  EXPECT_OK(removed) << "the removal waits for it";
  EXPECT_TRUE(eventually([&] { return ::kill(pids[0], 0) != 0; })) << "the process runs on";
  ASSERT_OK(call("POST", "/v1/dcs", {{"name", "lab"}, {"nodes", {"n1", "n2"}}}));
  expect_serves(run("lab", "n2", 5, {"echo_server"}), "n1");
}

TEST_F(DcLife, ProcessIdsAreUniqueAndOthersCannotBeSeen) {
  make_dc("lab");
  make_dc("other");
  std::set<int> pids;
  int endpoint = 10;
  for (const char* node : {"n1", "n2", "n3", "n1", "n2", "n3"}) {
    pids.insert(run("lab", node, endpoint++, {"receiver"}).pid);
  }
  EXPECT_EQ(pids.size(), 6u);
  const Process stranger = run("other", "n1", {"spinner"});
  auto ls = try_run(
      "lab", {{"node", "n1"},
              {"argv", {"/bin/sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo end"}}});
  ASSERT_OK(ls);
  const Process list{"lab", ls->at("endpoint"), ls->at("pid"), "n1"};
  ASSERT_TRUE(wait_log(list, "end"));
  EXPECT_NE(log(list).find("receiver"), std::string::npos);
  EXPECT_EQ(log(list).find("spinner"), std::string::npos) << log(list);
  EXPECT_EQ(log(list).find("dvsd"), std::string::npos) << log(list);
}

TEST_F(DcLife, ANodeJoinsDiesAndLeaves) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "500"});
  ASSERT_OK(local::join(dir(), "n4"));
  await_links();
  ASSERT_OK(call("POST", "/v1/dcs/lab/nodes", {{"node", "n4"}}));
  must_move(server, "n4");
  must_move(server, "n3");
  expect_serves(server, "n4");
  run("lab", "n4", 7, {"receiver"});
  ASSERT_OK(local::kill_node(dir(), "n4"));
  auto refused = migrate(server, "n4");
  ASSERT_FALSE(refused.ok() && refused->at("state") == "committed") << "to a dead node";
  EXPECT_EQ(place(server).first, "n3");
  EXPECT_TRUE(eventually([&] { return state_of("n4") == "down"; }, 20s)) << "its lease must end";
  EXPECT_REFUSED(migrate(server, "n4"), Code::kUnavailable, "n4");
  ASSERT_OK(call("DELETE", "/v1/dcs/lab/nodes/n4"));
  ASSERT_OK(call("DELETE", "/v1/nodes/n4"));
  EXPECT_GT(finish_client(client), 20);
  started_.pop_back();  // nobody is left who could show its log
}

}  // namespace
}  // namespace dvs::integration
