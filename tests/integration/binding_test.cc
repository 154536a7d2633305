// Who gets an endpoint, loses it, names it before it is there, or stands by for it.
#include "caller_fixture.h"

namespace dvs::integration {
namespace {

class Binding : public CallerTest {};

TEST_F(Binding, AnotherProcessGivesAndTakesIt) {
  make_dc("lab");
  const Process server = caller("n1", {"unbind", "getep", "wait4bind", "serve"});
  ASSERT_TRUE(said(server, "unbind", OK));
  EXPECT_TRUE(said(server, "getep", EDVSNOTBIND));
  const std::string bind = fmt::format("lclbind:{}:7", server.pid);
  const Process manager = caller("n1", {bind, bind, "receive", "unbind:7", "wait4unbind:7"});
  EXPECT_TRUE(said(manager, bind, 7));
  EXPECT_TRUE(said(server, "wait4bind", 7)) << "it is woken by the bind";
  const Process seven{"lab", 7, server.pid, "n1"};
  EXPECT_EQ(place(seven), std::make_pair(std::string("n1"), server.pid));
  expect_serves(seven, "n1");
  expect_serves(seven, "n3");
  const Process far = caller("n2", {"wait4unbind:7", "send:7:2:1"});
  caller("n3", {fmt::format("send:{}:2:5", manager.endpoint)});
  EXPECT_TRUE(said(manager, "unbind:7", OK));
  EXPECT_TRUE(said(manager, "wait4unbind:7", OK));
  EXPECT_TRUE(said(far, "wait4unbind:7", OK));
  EXPECT_TRUE(said(far, "send:7:2:1", EDVSDSTDIED));
  // Free for others, on any node.
  expect_serves(run("lab", "n2", 7, {"echo_server"}), "n1");
}

TEST_F(Binding, WhoBindsHimselfHasHisOwnName) {
  make_dc("lab");
  const Process far = caller("n2", {"wait4bindep:7", "has_own_name:7"});
  const Process binder = caller("n1", {fmt::format("has_own_name:{}", next_), "unbind", "rename",
                                       "bind:7", "has_own_name:7"});
  EXPECT_TRUE(said(binder, fmt::format("has_own_name:{}", binder.endpoint), 0));
  EXPECT_TRUE(said(binder, "has_own_name:7", 1));
  EXPECT_TRUE(said(far, "has_own_name:7", 1));
}

TEST_F(Binding, WhatCannotBeBound) {
  make_dc("lab", {"n1", "n2"});
  const Process taken = run("lab", "n1", 7, {"receiver"});
  const Process binder =
      caller("n2", {"bind:7", "bind:99999", "lclbind:1:8", fmt::format("rmtbind:8:{}", id_of("n3")),
                    "rmtbind:8:77", fmt::format("bkupbind:8:{}", id_of("n1")), "unbind:7",
                    "migr_rollback:7"});
  EXPECT_TRUE(said(binder, "bind:7", EDVSSLOTUSED));
  EXPECT_TRUE(said(binder, "bind:99999", EDVSENDPOINT));
  EXPECT_TRUE(said(binder, "lclbind:1:8", EDVSBADPID));
  EXPECT_TRUE(said(binder, fmt::format("rmtbind:8:{}", id_of("n3")), EDVSNODCNODE))
      << "n3 is not in the DC";
  EXPECT_TRUE(said(binder, "rmtbind:8:77", EDVSBADNODEID));
  EXPECT_TRUE(said(binder, fmt::format("bkupbind:8:{}", id_of("n1")), EDVSSLOTUSED))
      << "there is no primary";
  EXPECT_TRUE(said(binder, "unbind:7", EDVSRMTPROC));
  EXPECT_TRUE(said(binder, "migr_rollback:7", EDVSMIGRATE));
  EXPECT_EQ(place(taken).first, "n1");
}

TEST_F(Binding, ASenderWaitsForWhomItHasNamed) {
  make_dc("lab");
  const std::string name = fmt::format("rmtbind:9:{}", id_of("n1"));
  const Process sender = caller("n2", {name, "send:9:2:33"});
  ASSERT_TRUE(said(sender, name, 9));
  const Process receiver = run("lab", "n1", 9, {"receiver"});
  EXPECT_TRUE(wait_log(receiver, fmt::format("got 33 from {}", sender.endpoint)));
  EXPECT_TRUE(said(sender, "send:9:2:33", OK));
}

TEST_F(Binding, ABackupTakesOver) {
  make_dc("lab");
  const Process primary = run("lab", "n1", 5, {"echo_server"});
  expect_serves(primary, "n3");
  // The first one dies before it is needed, and makes room for the next.
  const std::string bind = fmt::format("bkupbind:5:{}", id_of("n1"));
  const Process first = caller("n2", {"unbind", bind, "wait4bindep:8", "exit"});
  ASSERT_TRUE(said(first, bind, 5));
  run("lab", "n2", 8, {"receiver"});
  ASSERT_TRUE(eventually([&] { return copies(first) == 0; }));
  const Process backup = caller("n2", {"unbind", bind, bind, "serve"});
  ASSERT_TRUE(said(backup, bind, 5));
  expect_serves(primary, "n2");  // by the primary, also from the backup's node
  const std::string commit = fmt::format("migr_commit:5:{}", id_of("n2"));
  const Process operator_ = caller("n3", {"migr_start:5", commit});
  EXPECT_TRUE(said(operator_, "migr_start:5", OK));
  EXPECT_TRUE(said(operator_, commit, OK));
  EXPECT_TRUE(
      eventually([&] { return place(primary) == std::make_pair(std::string("n2"), backup.pid); }));
  for (const char* node : {"n1", "n2", "n3"}) expect_serves(primary, node);
}

TEST_F(Binding, AMigrationByHandThatIsTakenBack) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "200"});
  ASSERT_TRUE(wait_log(client, "going"));
  const Process operator_ = caller("n3", {"migr_start:5", "receive", "migr_rollback:5"});
  ASSERT_TRUE(said(operator_, "migr_start:5", OK));
  EXPECT_REFUSED(migrate(server, "n2"), Code::kConflict, "another migration");
  caller("n1", {fmt::format("send:{}:2:1", operator_.endpoint)});
  EXPECT_TRUE(said(operator_, "migr_rollback:5", OK));
  EXPECT_GT(finish_client(client), 10);
  must_move(server, "n2");
  expect_serves(server, "n1");
}

TEST_F(Binding, AfterAStartByHandNobodyIsGivenAnything) {
  make_dc("lab");
  const Process receiver = run("lab", "n1", 5, {"caller", "receive"});
  ASSERT_TRUE(eventually([&] { return state("lab", 5) == "receiving"; }));
  ASSERT_TRUE(said(caller("n3", {"migr_start:5"}), "migr_start:5", OK));
  ASSERT_TRUE(eventually([&] { return state("lab", 5) == "migrating"; }));
  const Process sender = caller("n1", {"send:5:2:7"});
  EXPECT_TRUE(eventually([&] { return state("lab", sender.endpoint) == "sending"; }));
  EXPECT_EQ(log(receiver), "");
  EXPECT_TRUE(said(caller("n2", {"migr_rollback:5"}), "migr_rollback:5", OK));
  EXPECT_TRUE(said(sender, "send:5:2:7", OK));
  EXPECT_TRUE(said(receiver, "receive", 7));
}

TEST_F(Binding, AMigrationByHandEndsWithItsEndpoint) {
  make_dc("lab");
  const Process first = run("lab", "n1", 5, {"echo_server"});
  ASSERT_TRUE(said(caller("n3", {"migr_start:5"}), "migr_start:5", OK));
  signal(first, SIGKILL);
  ASSERT_TRUE(said(caller("n2", {"wait4unbind:5"}), "wait4unbind:5", OK));
  const Process second = run("lab", "n2", 5, {"echo_server"});
  expect_serves(second, "n3");
  EXPECT_TRUE(said(caller("n1", {"migr_rollback:5"}), "migr_rollback:5", EDVSMIGRATE));
  must_move(second, "n1");
}

// Its operations are not taken for its predecessor's.
TEST_F(Binding, WhoTakesOverMayAskLikeAnybody) {
  make_dc("lab");
  run("lab", "n3", 6, {"echo_server"});
  const Process primary = run("lab", "n1", 5, {"caller", "ask:6", "ask:6", "ask:6", "receive"});
  ASSERT_TRUE(wait_log(primary, "ask:6 = 1\nask:6 = 1\nask:6 = 1\n"));
  const std::string bind = fmt::format("bkupbind:5:{}", id_of("n1"));
  const Process backup = caller("n2", {"unbind", bind, "ask:6", "ask:6"});
  ASSERT_TRUE(said(backup, bind, 5));
  const std::string commit = fmt::format("migr_commit:5:{}", id_of("n2"));
  const std::string stranger =
      fmt::format("migr_commit_to:5:{}:{}", id_of("n1"), caller("n1", {"receive"}).pid);
  const Process by = caller("n3", {"migr_start:5", stranger, commit});
  EXPECT_TRUE(said(by, stranger, EDVSBADPID)) << "on the same node";
  EXPECT_TRUE(said(by, commit, OK));
  EXPECT_TRUE(wait_log(backup, "ask:6 = 1\nask:6 = 1\n"));
}

// Each step says what it did, and one that comes twice or for nobody does no harm.
TEST_F(Binding, StepsOfAMigrationByHandAtTheWrongTime) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process other = run("lab", "n2", 6, {"echo_server"});
  const std::string commit = fmt::format("migr_commit:5:{}", id_of("n3"));
  const std::string nobody = fmt::format("migr_commit:9:{}", id_of("n3"));
  const Process first = caller("n2", {"migr_start:9", nobody, commit, "migr_start:5"});
  EXPECT_TRUE(said(first, "migr_start:9", OK)) << "it is not bound";
  EXPECT_TRUE(said(first, nobody, EDVSMIGRATE));
  EXPECT_TRUE(said(first, commit, EDVSMIGRATE)) << "not started";
  ASSERT_TRUE(said(first, "migr_start:5", OK));
  const Process second = caller("n3", {"migr_start:5", commit, "migr_rollback:5", commit});
  EXPECT_TRUE(said(second, "migr_start:5", OK)) << "again, by somebody else";
  EXPECT_TRUE(said(second, commit, EDVSBADPID)) << "nobody waits for it there";
  EXPECT_TRUE(said(second, "migr_rollback:5", OK));
  EXPECT_TRUE(said(second, commit, EDVSMIGRATE)) << "over";
  const Process late = caller("n1", {"migr_rollback:5"});
  EXPECT_TRUE(said(late, "migr_rollback:5", EDVSMIGRATE));
  for (const char* node : {"n1", "n2", "n3"}) expect_serves(server, node);
  expect_serves(other, "n1");
}

}  // namespace
}  // namespace dvs::integration
