#include <gtest/gtest.h>
#include <pty.h>

#include "cli_fixture.h"

namespace dvs::cli {
namespace {

const char* const kRecord = R"({"id": "m-17", "dc": "DC0", "endpoints": [11], "task": "t5",
    "source": "n1", "target": "n2", "coordinator": "n1", "state": "committed", "reason": "",
    "started_ns": 1700000000000000000, "ended_ns": 1700000000034500000, "migration_ms": 34.46,
    "transfer_ms": 8.0, "frozen_ms": 12.0, "image_bytes": 2621440, "pid": 301,
    "phases": {"preflight": 1.0, "freeze": 0.3, "dump": 10.0, "transfer": 8.0, "restore": 11.2,
               "decide": 1.5, "resume": 2.5}})";

class CliMigrateTest : public CliTest {
 protected:
  // A migration that ends with this record.
  void migration(const std::string& record) {
    handle("POST", "/v1/migrations", [record](HttpRequest, Reply reply) {
      reply->event({{"event", "phase"}, {"phase", "preflight"}, {"t_ms", 0.0}});
      reply->event({{"event", "phase"}, {"phase", "transfer"}, {"t_ms", 11.25}});
      reply->event({{"event", "progress"}, {"sent", 1048576}, {"total", 2621440}});
      reply->event({{"event", "end"}, {"migration", Json::parse(record)}});
      reply->end_events();
    });
  }
  static std::string changed(const std::string& key, const Json& value) {
    Json record = Json::parse(kRecord);
    record[key] = value;
    return record.dump();
  }
};

TEST_F(CliMigrateTest, TellsEachPhaseAndWhatItTook) {
  migration(kRecord);
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2", "--timeout", "2.5"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out,
            "      0.0 ms  preflight\n"
            "     11.2 ms  transfer\n"
            "DC0/11 runs on n2 now: migration m-17 took 34.5 ms, frozen for 12.0 ms.\n"
            "  preflight        1.0 ms\n"
            "  freeze           0.3 ms\n"
            "  dump            10.0 ms\n"
            "  transfer         8.0 ms\n"
            "  restore         11.2 ms\n"
            "  decide           1.5 ms\n"
            "  resume           2.5 ms\n"
            "  total           34.5 ms\n"
            "  frozen          12.0 ms\n"
            "  image           2.5 MiB\n");
  EXPECT_EQ(request_.body, Json::parse(R"({"dc": "DC0", "endpoint": 11, "target": "n2",
                                           "algorithm": "auto", "max_downtime_ms": 10,
                                           "patience_ms": 30000, "compress": "auto",
                                           "timeout_ms": 2500, "on_timeout": "cancel"})"));
}

TEST_F(CliMigrateTest, TellsWhatFollowedAndWhoKeptIt) {
  Json record = Json::parse(kRecord);
  record.update(Json::parse(R"({"algorithm": "file-server", "why": "as asked for",
                                "memory": "here", "memory_bytes": 1048576, "owed_bytes": 8388608,
                                "faults": 120, "fault_p99_ms": 0.75})"));
  migration(to_text(record));
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2", "--algorithm", "file-server",
                        "--file-server", "n3", "--patience", "2", "--compress", "zstd"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.out.find("  on demand       8.0 MiB\n"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("  faults              120  (99 % within 0.8 ms)\n"), std::string::npos)
      << run.out;
  EXPECT_EQ(request_.body.at("algorithm"), "file-server");
  EXPECT_EQ(request_.body.at("file_server"), "n3");
  EXPECT_EQ(request_.body.at("patience_ms"), 2000);
  EXPECT_EQ(request_.body.at("compress"), "zstd");
  EXPECT_EQ(dvs({"migrate", "DC0/11", "--to", "n2", "--compress", "gzip"}).status, 2);
}

TEST_F(CliMigrateTest, MemoryThatWasLostIsAFailureOfItsOwn) {
  Json record = Json::parse(kRecord);
  record.update({{"memory", "lost"}, {"reason", "it was ended: no page came for 1500 ms"}});
  migration(to_text(record));
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2"});
  EXPECT_EQ(run.status, 7);
  EXPECT_NE(run.err.find("no page came for 1500 ms"), std::string::npos) << run.err;
  EXPECT_EQ(run.out.find("runs on n2 now"), std::string::npos) << run.out;
}

TEST_F(CliMigrateTest, TellsHowCopyingGoesAndWhyItEnded) {
  Json record = Json::parse(kRecord);
  record.update(Json::parse(R"({"algorithm": "pre-copy", "memory_bytes": 67108864,
                                "why": "copied ahead; frozen after 2 rounds: it is idle"})"));
  record["phases"]["copy"] = 61.9;
  handle("POST", "/v1/migrations", [record](HttpRequest, Reply reply) {
    reply->event(Json::parse(R"({"event": "round", "t_ms": 40.0, "round": 2,
        "memory_bytes": 67108864, "changed_bytes": 1048576, "sent_bytes": 1048576,
        "changed_bytes_per_second": 26214400, "bytes_per_second": 1073741824,
        "expected_bytes": 524288, "expected_downtime_ms": 0.5})"));
    reply->event({{"event", "end"}, {"migration", record}});
    reply->end_events();
  });
  const auto run =
      dvs({"migrate", "DC0/11", "--to", "n2", "--algorithm", "pre-copy", "--max-downtime", "5",
           "--bandwidth", "100MiB", "--timeout", "9", "--on-timeout", "force"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_NE(run.out.find("     40.0 ms  round 2: 1.0 MiB of 64.0 MiB changed, 25.0 MiB/s; sends "
                         "1.0 GiB/s; down for 0 ms if stopped now\n"),
            std::string::npos)
      << run.out;
  EXPECT_NE(run.out.find("  copy            61.9 ms\n"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("  pre-copy: copied ahead; frozen after 2 rounds: it is idle\n"),
            std::string::npos)
      << run.out;
  EXPECT_EQ(request_.body.at("algorithm"), "pre-copy");
  EXPECT_EQ(request_.body.at("max_downtime_ms"), 5);
  EXPECT_EQ(request_.body.at("bandwidth"), 100 << 20);
  EXPECT_EQ(request_.body.at("on_timeout"), "force");
}

TEST_F(CliMigrateTest, WatchFollowsUntilTheEnd) {
  auto asked = std::make_shared<int>(0);
  handle("GET", "/v1/migrations/{}", [asked](HttpRequest, Reply reply) {
    Json record = Json::parse(kRecord);
    if (++*asked < 3) {
      record["state"] = "copying";
      record["progress"] = {{"phase", "copy"}, {"sent", *asked * 1'048'576}, {"total", 4'194'304}};
    }
    reply->reply(record);
  });
  // Not on a terminal: a line of JSON per change, asked for or not.
  for (const bool json : {false, true}) {
    *asked = 0;
    const auto run =
        json ? dvs({"migration", "watch", "m-17", "--json"}) : dvs({"migration", "watch", "m-17"});
    EXPECT_EQ(run.status, 0) << run.err;
    std::istringstream lines(run.out);
    std::vector<std::string> states;
    for (std::string line; std::getline(lines, line);) {
      states.push_back(Json::parse(line).at("state").get<std::string>());
    }
    EXPECT_EQ(states, (std::vector<std::string>{"copying", "copying", "committed"}));
  }
}

TEST_F(CliMigrateTest, WatchingMemoryThatIsLostFails) {
  Json record = Json::parse(kRecord);
  record.update({{"memory", "lost"}, {"reason", "no page came"}});
  answer("GET", "/v1/migrations/{}", record.dump());
  const auto run = dvs({"migration", "watch", "m-17"});
  EXPECT_EQ(run.status, 7);
  EXPECT_NE(run.err.find("no page came"), std::string::npos) << run.err;
}

TEST_F(CliMigrateTest, CancelSaysWhereItRuns) {
  Json record = Json::parse(kRecord);
  record["state"] = "rolledback";
  answer("POST", "/v1/migrations/{}/cancel", record.dump());
  const auto run = dvs({"migration", "cancel", "m-17"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "Migration m-17 is canceled: 11 runs on n1 as before.\n");
  refuse("POST", "/v1/migrations/{}/cancel", Error(Code::kConflict, "it has ended already"));
  EXPECT_EQ(dvs({"migration", "cancel", "m-17"}).status, 3);
}

TEST_F(CliMigrateTest, JsonIsTheEvents) {
  migration(kRecord);
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2", "--json"});
  EXPECT_EQ(run.status, 0);
  std::istringstream lines(run.out);
  std::vector<std::string> events;
  for (std::string line; std::getline(lines, line);) {
    events.push_back(Json::parse(line).at("event").get<std::string>());
  }
  EXPECT_EQ(events, (std::vector<std::string>{"phase", "phase", "progress", "end"}));
}

TEST_F(CliMigrateTest, OnATerminalOneLineIsRedrawn) {
  migration(kRecord);
  int master = -1, slave = -1;
  ASSERT_EQ(::openpty(&master, &slave, nullptr, nullptr, nullptr), 0);
  const UniqueFd master_fd(master);
  UniqueFd slave_fd(slave);
  ChildOptions options;
  options.argv = {bin_dir_ + "/dvs", "migrate", "DC0/11", "--to", "n2"};
  options.env = {"DVS_SOCKET=" + socket_};
  options.stdout_fd = slave;
  options.timeout = std::chrono::seconds(30);
  const auto result = run_child_blocking(options);
  ASSERT_TRUE(result.ok() && result->ok());
  slave_fd.reset();
  char text[4096] = {};
  std::string out;
  for (ssize_t n; (n = ::read(master, text, sizeof(text))) > 0;) out.append(text, size_t(n));
  EXPECT_NE(out.find("\r\033[KDC0/11 -> n2  11.2 ms  transfer  1.0 MiB of 2.5 MiB"),
            std::string::npos)
      << out;
  EXPECT_NE(out.find("\r\033[KDC0/11 runs on n2 now"), std::string::npos) << out;
}

TEST_F(CliMigrateTest, ARollbackExitsWith4) {
  Json record = Json::parse(changed("state", "rolledback"));
  record["reason"] = "n2 has no room: 1 MiB free on /run";
  migration(record.dump());
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2"});
  EXPECT_EQ(run.status, 4);
  EXPECT_EQ(run.err,
            "dvs: DC0/11 was not migrated to n2: n2 has no room: 1 MiB free on /run. "
            "It runs on n1 as before (migration m-17, rolled back).\n");
}

TEST_F(CliMigrateTest, ARefusalExitsWith3) {
  refuse("POST", "/v1/migrations",
         Error(Code::kInvalid, "node 'n9' is not part of DC0 (its nodes: n1, n2, n3)"));
  const auto run = dvs({"migrate", "DC0/11", "--to", "n9"});
  EXPECT_EQ(run.status, 3);
  EXPECT_EQ(run.out, "");
  EXPECT_EQ(run.err,
            "dvs: cannot migrate DC0/11: node 'n9' is not part of DC0 (its nodes: n1, n2, n3)\n");
}

TEST_F(CliMigrateTest, AnUnfinishedOrUnreadableRecordExitsWith5) {
  migration(changed("state", "active"));
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2"});
  EXPECT_EQ(run.status, 5);
  EXPECT_NE(run.err.find("`dvs migration show m-17`"), std::string::npos) << run.err;
  migration("7");
  EXPECT_EQ(dvs({"migrate", "DC0/11", "--to", "n2"}).status, 5);
}

TEST_F(CliMigrateTest, ADaemonThatDiesInTheMiddleExitsWith5) {
  handle("POST", "/v1/migrations", [this](HttpRequest, Reply reply) {
    reply->event({{"event", "phase"}, {"phase", "freeze"}, {"t_ms", 1.0}});
    boost::asio::post(executor_, [reply] {});  // dropped in the middle of the stream
  });
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2"});
  EXPECT_EQ(run.status, 5);
  EXPECT_NE(run.err.find("the outcome is unknown"), std::string::npos) << run.err;
  EXPECT_NE(run.err.find("`dvs migration ls`"), std::string::npos) << run.err;
}

TEST_F(CliMigrateTest, AFailureInTheMiddleExitsWith5) {
  handle("POST", "/v1/migrations", [](HttpRequest, Reply reply) {
    reply->event({{"event", "phase"}, {"phase", "decide"}, {"t_ms", 30.0}});
    reply->fail(Error(Code::kUnavailable, "etcd does not answer"));
  });
  const auto run = dvs({"migrate", "DC0/11", "--to", "n2"});
  EXPECT_EQ(run.status, 5);
  EXPECT_NE(run.err.find("etcd does not answer"), std::string::npos) << run.err;
}

TEST_F(CliMigrateTest, MigrationsAreListedAndShown) {
  answer("GET", "/v1/migrations", std::string(R"({"migrations": [)") + kRecord + "]}");
  EXPECT_EQ(dvs({"migration", "ls"}).out,
            "ID    STARTED              DC   ENDPOINTS  SOURCE  TARGET  STATE      TOTAL    FROZEN"
            "   REASON\n"
            "m-17  2023-11-14 22:13:20  DC0  11         n1      n2      committed  34.5 ms  12.0 ms"
            "  -\n");
  answer("GET", "/v1/migrations/{}", kRecord);
  const auto run = dvs({"migration", "show", "m-17"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(request_.params, (std::vector<std::string>{"m-17"}));
  EXPECT_NE(run.out.find("State        committed\n"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("Started      2023-11-14 22:13:20\n"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("  restore         11.2 ms\n"), std::string::npos) << run.out;
}

}  // namespace
}  // namespace dvs::cli
