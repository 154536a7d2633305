// The calls that need more than one process of a kind, or dvsd: relay, replicas and backups,
// warnings, notifications from HARDWARE, permission records.
#include <signal.h>
#include <spdlog/fmt/fmt.h>

#include "caller_fixture.h"

namespace dvs::integration {
namespace {

class Calls : public CallerTest {};

TEST_F(Calls, ARequestIsHandedOnToAnotherNode) {
  make_dc("lab");
  run("lab", "n3", 5, {"echo_server"});
  const Process near = caller("n1", {"relay:5"});
  const Process far = caller("n2", {"relay:5"});
  const Process client = caller(
      "n1", {fmt::format("ask:{}", near.endpoint), fmt::format("ask:{}", far.endpoint), "ask:5"});
  for (const Process& relayer : {near, far}) {
    EXPECT_TRUE(said(client, fmt::format("ask:{}", relayer.endpoint), 1));
    EXPECT_TRUE(said(relayer, "relay:5", OK));
  }
  EXPECT_TRUE(said(client, "ask:5", 1)) << "as if it had asked itself";
}

TEST_F(Calls, ARequestHandedOnToNobody) {
  make_dc("lab");
  const Process relayer = caller("n1", {"relay:6", "relay:7"});
  run("lab", "n2", 7, {"spinner"});
  const Process client = caller("n1", {fmt::format("ask:{}", relayer.endpoint)});
  EXPECT_TRUE(said(relayer, "relay:6", EDVSDSTDIED));
  signal(Process{"lab", relayer.endpoint, relayer.pid, "n1"}, SIGKILL);
  EXPECT_TRUE(said(client, fmt::format("ask:{}", relayer.endpoint), EDVSSRCDIED));
}

TEST_F(Calls, ReplicasServeTheirOwnNodes) {
  make_dc("lab");
  const Process first = caller("n1", {"unbind", "replbind:8", "serve"});
  ASSERT_TRUE(said(first, "replbind:8", 8));
  const Process second = caller("n2", {"unbind", "replbind:8", "replbind:8", "serve"});
  ASSERT_TRUE(said(second, "replbind:8", 8));
  EXPECT_TRUE(said(caller("n1", {"ask_pid:8"}), "ask_pid:8", first.pid));
  EXPECT_TRUE(said(caller("n2", {"ask_pid:8"}), "ask_pid:8", second.pid));
  EXPECT_TRUE(said(caller("n3", {"ask_pid:8"}), "ask_pid:8", first.pid));
  // When the first goes, the other takes its place.
  signal(Process{"lab", 8, first.pid, "n1"}, SIGKILL);
  const Process eight{"lab", 8, second.pid, "n2"};
  ASSERT_TRUE(
      eventually([&] { return place(eight) == std::make_pair(std::string("n2"), second.pid); }));
  for (const char* node : {"n1", "n2", "n3"}) {
    EXPECT_TRUE(said(caller(node, {"ask_pid:8"}), "ask_pid:8", second.pid)) << node;
  }
}

TEST_F(Calls, OneOfTwoBackupsTakesOverThenTheOther) {
  make_dc("lab");
  const Process primary = run("lab", "n1", 5, {"echo_server"});
  const std::string bind = fmt::format("bkupbind:5:{}", id_of("n1"));
  const Process second = caller("n2", {"unbind", bind, "serve"});
  const Process third = caller("n3", {"unbind", bind, "serve"});
  ASSERT_TRUE(said(second, bind, 5));
  ASSERT_TRUE(said(third, bind, 5));
  int operator_endpoint = 0;
  for (const Process* backup : {&second, &third}) {
    const std::string commit = fmt::format("migr_commit:5:{}", id_of(backup->node));
    const Process by = caller("n1", {"migr_start:5", commit});
    EXPECT_NE(by.endpoint, operator_endpoint);
    EXPECT_TRUE(said(by, commit, OK));
    EXPECT_TRUE(
        eventually([&] { return place(primary) == std::make_pair(backup->node, backup->pid); }));
    expect_serves(primary, "n1");
    expect_serves(primary, "n3");
  }
}

TEST_F(Calls, WhoWantsToKnowIsToldThatAProcessEnded) {
  ASSERT_OK(
      call("POST", "/v1/dcs",
           {{"name", "lab"}, {"nodes", {"n1", "n2", "n3"}}, {"warn2proc", 9}, {"warnmsg", 77}}));
  dcs_.push_back("lab");
  const Process watcher = run("lab", "n1", 9, {"caller", "receive_type", "receive_source"});
  const Process near = run("lab", "n1", 7, {"spinner"});
  const Process far = run("lab", "n2", 8, {"spinner"});
  signal(near, SIGKILL);
  EXPECT_TRUE(said(watcher, "receive_type", 77));
  signal(far, SIGKILL);
  EXPECT_TRUE(said(watcher, "receive_source", 8));
  EXPECT_TRUE(said(caller("n3", {"wait4unbind:7"}), "wait4unbind:7", OK));
  expect_serves(run("lab", "n3", 7, {"echo_server"}), "n2");
}

TEST_F(Calls, WhoIsToldHearsHowItEnded) {
  constexpr int kTimes = 20;
  ASSERT_OK(call("POST", "/v1/dcs", {{"name", "lab"}, {"nodes", {"n1"}}, {"warn2proc", 9}}));
  dcs_.push_back("lab");
  std::vector<std::string> steps(kTimes, "receive");
  steps.insert(steps.begin(), "caller");
  const Process watcher = run("lab", "n1", 9, steps);
  std::string expected;
  for (int i = 0; i < kTimes; ++i) {
    const Process victim = run("lab", "n1", {"spinner"});
    signal(victim, SIGKILL);
    expected += "receive = 9\n";
    if (!wait_log(watcher, expected)) return;
  }
}

TEST_F(Calls, HardwareNotifiesOnAnyNode) {
  make_dc("lab");
  const Process receiver = run("lab", "n1", 9, {"caller", "receive_source", "receive_type"});
  EXPECT_TRUE(said(caller("n1", {"hdw_notify:9"}), "hdw_notify:9", OK));
  EXPECT_TRUE(said(receiver, "receive_source", HARDWARE));
  EXPECT_TRUE(said(caller("n3", {"unbind", "hdw_notify:9"}), "hdw_notify:9", OK));
  EXPECT_TRUE(said(receiver, "receive_type", NOTIFY_FROM(HARDWARE)));
  EXPECT_TRUE(said(caller("n2", {"hdw_notify:6"}), "hdw_notify:6", EDVSDSTDIED));
  EXPECT_TRUE(said(caller("n2", {"unbind", "bind:-1"}), "bind:-1", EDVSBADPROC));
}

TEST_F(Calls, AUserMayAskAndWhatItIsAllowed) {
  make_dc("lab");
  const Process receiver = run("lab", "n2", 9, {"receiver"});
  run("lab", "n2", 5, {"echo_server"});
  const Process user = run(
      "lab", "n1", {"caller", "send:9:2:41", "receive", "ask:5", "wait4bindep:10", "send:9:2:42"});
  EXPECT_TRUE(said(user, "send:9:2:41", EDVSBADCALL));
  EXPECT_TRUE(said(user, "receive", EDVSBADCALL));
  EXPECT_TRUE(said(user, "ask:5", 1));
  const std::string allow = fmt::format("allow:{}:{}", user.endpoint, DVK_SEND);
  EXPECT_TRUE(said(caller("n2", {allow}), allow, EDVSRMTPROC));
  EXPECT_TRUE(said(caller("n1", {allow}), allow, OK));
  // The record goes with the process.
  must_move(user, "n3");
  run("lab", "n1", 10, {"spinner"});
  EXPECT_TRUE(said(user, "send:9:2:42", OK));
  EXPECT_TRUE(wait_log(receiver, fmt::format("got 42 from {}", user.endpoint)));
}

TEST_F(Calls, WhoMayNotTalkToWhom) {
  make_dc("lab");
  run("lab", "n2", 9, {"receiver"});
  const Process silent =
      run("lab", "n1", 7, {"caller", "deny:9:10", "send:9:2:1", "receive_source"});
  EXPECT_TRUE(said(silent, "send:9:2:1", EDVSTRAPDENIED));
  EXPECT_TRUE(said(run("lab", "n1", 10, {"caller", "send:7:2:1"}), "send:7:2:1", EDVSTRAPDENIED));
  EXPECT_TRUE(said(run("lab", "n3", 11, {"caller", "send:7:2:1"}), "send:7:2:1", OK));
  EXPECT_TRUE(said(silent, "receive_source", 11));
}

// By dvsd, where the system does not let the process itself.
TEST_F(Calls, MemoryThatOnlyAPrivilegedProcessMayRead) {
  make_dc("lab");
  const Process near = caller("n1", {"borrow"});
  const Process far = caller("n2", {"borrow"});
  const std::string lend_near = fmt::format("lend:{}", near.endpoint);
  const std::string lend_far = fmt::format("lend:{}", far.endpoint);
  const Process lender = caller("n1", {lend_near, lend_far});
  EXPECT_TRUE(said(near, "borrow", 4711));
  EXPECT_TRUE(said(lender, lend_near, OK));
  EXPECT_TRUE(said(far, "borrow", 4711));
  // Also of a replica that the directory does not know.
  const Process first = caller("n1", {"unbind", "replbind:8", "serve"});
  ASSERT_TRUE(said(first, "replbind:8", 8));
  const Process second = caller("n2", {"unbind", "replbind:8", "borrow"});
  ASSERT_TRUE(said(second, "replbind:8", 8));
  EXPECT_TRUE(said(caller("n2", {"lend:8"}), "lend:8", OK));
  EXPECT_TRUE(said(second, "borrow", 4711));
}

}  // namespace
}  // namespace dvs::integration
