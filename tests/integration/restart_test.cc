// dvsd ends and is started again: processes, their messages and their logs outlive it.
#include <signal.h>
#include <spdlog/fmt/fmt.h>

#include <chrono>
#include <thread>

#include "base/file.h"
#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Restart : public ClusterTest {};

TEST_F(Restart, LocalIpcNeverStops) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n1", {"client", "5", "1", "0", "200"});
  ASSERT_TRUE(wait_log(client, "going"));
  const std::string file = log_file(client);
  ASSERT_NE(file, "");
  const pid_t dvsd = node("n1").dvsd_pid;
  ASSERT_EQ(::kill(dvsd, SIGSTOP), 0);
  const size_t before = read_file(file)->size();
  EXPECT_TRUE(eventually([&] {
    return read_file(file)->find("\nat ", before + 40) != std::string::npos;
  })) << "no progress while dvsd is away";
  ASSERT_EQ(::kill(dvsd, SIGKILL), 0);
  await_dvsd("n1", dvsd);
  EXPECT_EQ(place(server), std::make_pair(std::string("n1"), server.pid));
  must_move(server, "n2");
  EXPECT_GT(finish_client(client), 200);
}

TEST_F(Restart, EveryNodeInTurnUnderLoad) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  std::vector<Process> clients;
  for (const char* node : {"n1", "n2", "n3"}) {
    clients.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
  }
  for (const Process& client : clients) ASSERT_TRUE(wait_log(client, "going"));
  for (const char* node : {"n1", "n2", "n3"}) restart_dvsd(node);
  EXPECT_EQ(processes("lab").size(), 4u);
  for (const Process& client : clients) EXPECT_GT(finish_client(client), 20);
  must_move(server, "n3");
  expect_serves(server, "n1");
}

// The cluster takes a node for dead whose dvsd is silent; when it is back its processes are too.
TEST_F(Restart, ANodeThatWasGivenUpBindsItsProcessesAgain) {
  make_dc("lab");
  const Process server = run("lab", "n2", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "500"});
  ASSERT_TRUE(wait_log(client, "going"));
  finish_client(client);
  const pid_t dvsd = node("n2").dvsd_pid;
  ASSERT_EQ(::kill(dvsd, SIGSTOP), 0);
  EXPECT_TRUE(eventually([&] { return state_of("n2") == "down"; }, 30s));
  ASSERT_EQ(::kill(dvsd, SIGCONT), 0);
  EXPECT_TRUE(
      eventually([&] { return place(server) == std::make_pair(std::string("n2"), server.pid); }));
  EXPECT_TRUE(wait_log(server, "bound again"));
  await_links();
  expect_serves(server, "n1");
  must_move(server, "n3");
  expect_serves(server, "n2");
}

// Both nodes of a request that was taken and not answered.
TEST_F(Restart, ARequestInFlightIsAnsweredOnce) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"slow_server"});
  const Process asker = run("lab", "n2", 25, {"asker", "5", "21"});
  ASSERT_TRUE(wait_log(server, "took 21"));
  restart_dvsd("n1");
  restart_dvsd("n2");
  run("lab", "n3", 20, {"sender", "5", "3", "0"});
  EXPECT_TRUE(wait_log(asker, "answer 0 43\n"));
  EXPECT_TRUE(wait_log(asker, "then -61\n"));
}

TEST_F(Restart, WhatAProcessWroteMeanwhileIsInItsLog) {
  make_dc("lab");
  const Process spinner = run("lab", "n2", {"spinner"});
  ASSERT_TRUE(wait_log(spinner, "tick 5 "));
  restart_dvsd("n2");
  const std::string text = log(spinner);
  for (int tick = 1; tick <= 6; ++tick) {
    EXPECT_NE(text.find(fmt::format("tick {} ", tick)), std::string::npos) << tick;
  }
  must_move(spinner, "n1");
  EXPECT_EQ(log(spinner).compare(0, text.size(), text), 0) << "the log changed";
}

// A migration whose START could not be written is answered soon, whatever time it is allowed.
TEST_F(Restart, EtcdIsAwayWhenAMigrationBegins) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(server, "ready"));
  ASSERT_OK(local::stop_etcd(dir()));
  std::thread back([] {
    std::this_thread::sleep_for(500ms);
    EXPECT_OK(local::start_etcd(dir()));
  });
  const auto began = std::chrono::steady_clock::now();
  how_ = {{"algorithm", "pre-copy"}};
  const auto end = migrate(server, "n2");
  back.join();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 15s);
  ASSERT_OK(end);
  EXPECT_EQ(end->at("state"), "committed");
}

// A dvsd that dies while its node is taken for dead: the next one binds the processes again.
TEST_F(Restart, ADvsdThatDiesAfterItsLeaseBindsItsProcessesAgain) {
  make_dc("lab");
  const Process server = run("lab", "n2", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(server, "ready"));
  const pid_t dvsd = node("n2").dvsd_pid;
  ASSERT_EQ(::kill(dvsd, SIGSTOP), 0);
  EXPECT_TRUE(eventually([&] { return state_of("n2") == "down"; }, 30s));
  ASSERT_EQ(::kill(dvsd, SIGKILL), 0);
  await_dvsd("n2", dvsd);
  EXPECT_TRUE(
      eventually([&] { return place(server) == std::make_pair(std::string("n2"), server.pid); }));
  expect_serves(server, "n1");
}

// What was born there, and lives elsewhere, can come back: its id is not given to another one.
TEST_F(Restart, ANodeThatWasOffGivesOtherProcessIds) {
  make_dc("lab");
  const Process first = run("lab", "n1", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(first, "ready"));
  must_move(first, "n2");
  via_ = "n3";
  power_off("n1");
  power_on("n1");
  const Process second = run("lab", "n1", 6, {"echo_server"});
  EXPECT_GT(second.pid, first.pid + 1000) << "nor those of its children";
  must_move(first, "n1");
  expect_serves(first, "n2");
}

// The process has gone on from where it went when the dvsd that let it go comes back: the frozen
// copy that was left does not run.
TEST_F(Restart, ACopyThatWasLeftBehindDoesNotRun) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(server, "ready"));
  const pid_t dvsd = node("n1").dvsd_pid;
  via_ = "n3";
  arm("n1", "source-dies-committed", true);  // it stops there
  how_ = {{"algorithm", "total-copy"}};
  must_move(server, "n2");
  must_move(server, "n3");
  ASSERT_EQ(::kill(dvsd, SIGKILL), 0);
  await_dvsd("n1", dvsd);
  EXPECT_TRUE(eventually([&] { return copies(server) == 1; })) << copies(server);
  EXPECT_EQ(place(server).first, "n3");
  expect_serves(server, "n2");
}

// What was prepared for a migration that never began is in nobody's way.
TEST_F(Restart, ACoordinatorDiesBeforeItsMigrationBegins) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  ASSERT_TRUE(wait_log(server, "ready"));
  const pid_t dvsd = node("n3").dvsd_pid;
  arm("n3", "coordinator-dies-checked");
  via_ = "n3";
  EXPECT_FALSE(migrate(server, "n2").ok());
  await_dvsd("n3", dvsd);
  via_ = "n1";
  must_move(server, "n2");
  must_move(server, "n3");
}

}  // namespace
}  // namespace dvs::integration
