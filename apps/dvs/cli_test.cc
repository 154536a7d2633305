#include <gtest/gtest.h>

#include "base/base64.h"
#include "cli_fixture.h"

namespace dvs::cli {
namespace {

TEST_F(CliTest, NodesAreAnAlignedTable) {
  answer("GET", "/v1/nodes", R"({"nodes": [
      {"name": "n1", "id": 0, "state": "up", "address": "10.0.0.1", "port": 7100, "link": "self",
       "dcs": ["DC0", "big"]},
      {"name": "node-twelve", "id": 11, "state": "down", "address": "10.0.0.112", "port": 7100,
       "link": "down", "dcs": []}]})");
  const auto run = dvs({"node", "ls"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.err, "");
  EXPECT_EQ(run.out,
            "NODE         ID  STATE  LINK  ADDRESS     PORT  DCS\n"
            "n1           0   up     self  10.0.0.1    7100  DC0,big\n"
            "node-twelve  11  down   down  10.0.0.112  7100  -\n");
}

TEST_F(CliTest, JsonIsWhatDvsdSaid) {
  const std::string facts = R"({"dcs":[{"bound":3,"endpoints":1024,"name":"DC0"}]})";
  answer("GET", "/v1/dcs", facts);
  EXPECT_EQ(dvs({"dc", "ls", "--json"}).out, facts + "\n");
  EXPECT_EQ(dvs({"--json", "dc", "ls"}).out, facts + "\n");
}

TEST_F(CliTest, OddAnswersPrintAsDashes) {
  answer("GET", "/v1/processes", R"({"processes": [
      {"dc": "DC0", "endpoint": null, "pid": {}, "command": "evil\u001b[2J"}, 7]})");
  const auto run = dvs({"ps"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out,
            "DC   ENDPOINT  NODE  STATE  KIND  PID  TID  EPOCH  TASK  COMMAND\n"
            "DC0  -         -     -      -     -    -    -      -     evil?[2J\n"
            "-    -         -     -      -     -    -    -      -     -\n");
  answer("GET", "/v1/dcs", "[]");
  EXPECT_EQ(dvs({"dc", "ls"}).out, "No DCs. Create one with `dvs dc create`.\n");
}

TEST_F(CliTest, CreatesADcOnSomeNodes) {
  answer("POST", "/v1/dcs", R"({"name": "DC0", "nodes": ["n1", "n2"]})");
  const auto run = dvs({"dc", "create", "DC0", "--nodes", "n1,n2", "--endpoints", "4096"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "DC0 spans n1,n2.\n");
  EXPECT_EQ(request_.body,
            Json::parse(R"({"name": "DC0", "nodes": ["n1", "n2"], "endpoints": 4096})"));
}

TEST_F(CliTest, ResizesAndRemovesDcs) {
  answer("POST", "/v1/dcs/{}/nodes", R"({"name": "DC0", "nodes": ["n1", "n4"]})");
  EXPECT_EQ(dvs({"dc", "extend", "DC0", "n4"}).out, "DC0 spans n1,n4.\n");
  EXPECT_EQ(request_.body, (Json{{"node", "n4"}}));
  answer("DELETE", "/v1/dcs/{}/nodes/{}", R"({"name": "DC0", "nodes": ["n1"]})");
  EXPECT_EQ(dvs({"dc", "shrink", "DC0", "n4"}).out, "DC0 spans n1.\n");
  EXPECT_EQ(request_.params, (std::vector<std::string>{"DC0", "n4"}));
  answer("DELETE", "/v1/dcs/{}", "{}");
  EXPECT_EQ(dvs({"dc", "rm", "DC0", "--force"}).status, 0);
  EXPECT_EQ(request_.query["force"], "1");
}

TEST_F(CliTest, ANodeLeaves) {
  answer("DELETE", "/v1/nodes/{}", "{}");
  EXPECT_EQ(dvs({"node", "leave", "n3"}).out, "n3 has left the cluster.\n");
  EXPECT_EQ(request_.params, (std::vector<std::string>{"n3"}));
}

TEST_F(CliTest, RunPassesTheCommandUntouched) {
  answer("POST", "/v1/dcs/{}/processes",
         R"({"dc": "DC0", "endpoint": 11, "pid": 301, "node": "n1", "task": "t5"})");
  const auto run = dvs({"run",   "--dc",  "DC0",       "--node", "n1",    "--endpoint", "11",
                        "--env", "A=b=c", "--env",     "D=",     "--cwd", "/tmp",       "--",
                        "sh",    "-c",    "ls --json", "--",     "-x",    "--help",     "ps"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "DC0/11 runs on n1, pid 301, task t5\n");
  EXPECT_EQ(request_.body, Json::parse(R"({"node": "n1", "endpoint": 11, "env": ["A=b=c", "D="],
      "cwd": "/tmp", "argv": ["sh", "-c", "ls --json", "--", "-x", "--help", "ps"]})"));
}

TEST_F(CliTest, KillSendsTheSignalsNumber) {
  answer("POST", "/v1/dcs/{}/endpoints/{}/kill", "{}");
  const std::vector<std::pair<std::string, int>> signals = {
      {"KILL", 9}, {"SIGUSR1", 10}, {"15", 15}, {"40", 40}};
  for (const auto& [name, number] : signals) {
    EXPECT_EQ(dvs({"kill", "DC0/11", "--signal", name}).status, 0) << name;
    EXPECT_EQ(request_.body, (Json{{"signal", number}}));
  }
  EXPECT_EQ(dvs({"kill", "DC0/11"}).status, 0);
  EXPECT_EQ(request_.body, (Json{{"signal", 15}}));
  EXPECT_EQ(request_.params, (std::vector<std::string>{"DC0", "11"}));
}

// ---- logs --------------------------------------------------------------------------------------

class CliLogsTest : public CliTest {
 protected:
  // A log given in pieces of at most `piece` bytes; the process ends once all of it was read and
  // `polls` more answers were given.
  void serve(std::string log, size_t piece, int polls = 0) {
    polls_ = polls;
    handle("GET", "/v1/dcs/{}/endpoints/{}/logs", [this, log, piece](HttpRequest request, Reply r) {
      const size_t offset = std::stoul(request.query["offset"]);
      const std::string data = log.substr(std::min(offset, log.size()), piece);
      Json json = {{"offset", offset},
                   {"data", request.query["encoding"] == "base64" ? base64_encode(data) : data},
                   {"end", offset + data.size()},
                   {"node", "n1"},
                   {"running", true}};
      if (data.empty() && polls_-- <= 0) {
        json["running"] = false;
        json["exit"] = 3;
      }
      r->reply(json);
    });
  }
  std::atomic<int> polls_{0};
};

TEST_F(CliLogsTest, PrintsAllOfIt) {
  serve("one\ntwo\nthree\n", 5, 1000);
  const auto run = dvs({"logs", "DC0/11"});
  EXPECT_EQ(run.status, 0) << run.err;
  EXPECT_EQ(run.out, "one\ntwo\nthree\n");
}

TEST_F(CliLogsTest, PrintsEveryByteAsItIs) {
  std::string bytes;
  for (int i = 1; i < 256; ++i) bytes += static_cast<char>(i);
  bytes += "caf\u00e9";
  serve(bytes, 3);
  EXPECT_EQ(dvs({"logs", "DC0/11"}).out, bytes);
}

TEST_F(CliLogsTest, TailCountsLinesAcrossPieces) {
  serve("one\ntwo\nthree\n", 5);
  EXPECT_EQ(dvs({"logs", "DC0/11", "--tail", "2"}).out, "two\nthree\n");
  EXPECT_EQ(dvs({"logs", "DC0/11", "--tail", "1"}).out, "three\n");
  EXPECT_EQ(dvs({"logs", "DC0/11", "--tail", "99"}).out, "one\ntwo\nthree\n");
  EXPECT_EQ(dvs({"logs", "DC0/11", "--tail", "0"}).out, "");
  serve("one\n\nunfinished", 4);
  EXPECT_EQ(dvs({"logs", "DC0/11", "--tail", "2"}).out, "\nunfinished");
}

TEST_F(CliLogsTest, FollowsUntilTheProcessEnds) {
  serve("one\ntwo\n", 4, 2);
  const auto run = dvs({"logs", "DC0/11", "-f"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out, "one\ntwo\n");
  EXPECT_EQ(run.err, "dvs: DC0/11 has ended (3)\n");
}

// ---- exit statuses -----------------------------------------------------------------------------

TEST_F(CliTest, BadCommandLinesExitWith2AndSayWhereHelpIs) {
  const std::vector<std::vector<std::string>> lines = {
      {},
      {"frobnicate"},
      {"node"},
      {"ps", "--nonsense"},
      {"ps", "extra"},
      {"dc", "create", "DC0"},
      {"dc", "create", "a/b", "--nodes", "n1"},
      {"dc", "create", "sixteen-letters-", "--nodes", "n1"},
      {"run", "--dc", "DC0", "--node", "n1"},
      {"run", "--dc", "DC0", "--node", "n1", "--"},
      {"run", "--dc", "DC0", "--node", "n1", "--env", "novalue", "--", "ls"},
      {"run", "--dc", "DC0", "--node", "n1", "--endpoint", "-1", "--", "ls"},
      {"migrate", "DC0", "--to", "n2"},
      {"migrate", "DC0/", "--to", "n2"},
      {"migrate", "DC0/-3", "--to", "n2"},
      {"migrate", "DC0/1x", "--to", "n2"},
      {"migrate", "DC0/99999999999999999999", "--to", "n2"},
      {"migrate", "/1", "--to", "n2"},
      {"migrate", "DC0/1"},
      {"migrate", "DC0/1", "--to", "n2", "--timeout", "0"},
      {"kill", "DC0/1", "--signal", "NOPE"},
      {"kill", "DC0/1", "--signal", "65"},
      {"logs", "DC0/1", "--tail", "-1"},
      {"migration", "show"},
      {"up", "--nodes", "0"},
      {"node", "join", "n 1"}};
  for (const auto& line : lines) {
    const auto run = dvs(line);
    EXPECT_EQ(run.status, 2) << Json(line);
    EXPECT_EQ(run.out, "") << Json(line);
    EXPECT_EQ(run.err.substr(0, 5), "dvs: ") << Json(line);
    EXPECT_NE(run.err.find("--help`.\n"), std::string::npos) << run.err;
  }
  EXPECT_NE(dvs({"dc", "create"}).err.find("See `dvs dc create --help`."), std::string::npos);
}

TEST_F(CliTest, EveryCommandHasHelpWithExamples) {
  const std::vector<std::vector<std::string>> commands = {{"node", "ls"},
                                                          {"node", "join"},
                                                          {"node", "leave"},
                                                          {"dc", "create"},
                                                          {"dc", "ls"},
                                                          {"dc", "rm"},
                                                          {"dc", "extend"},
                                                          {"dc", "shrink"},
                                                          {"run"},
                                                          {"ps"},
                                                          {"logs"},
                                                          {"kill"},
                                                          {"check"},
                                                          {"migrate"},
                                                          {"migration", "ls"},
                                                          {"migration", "show"},
                                                          {"up"},
                                                          {"down"}};
  for (auto line : commands) {
    line.push_back("--help");
    const auto run = dvs(line);
    EXPECT_EQ(run.status, 0) << Json(line);
    EXPECT_NE(run.out.find("Examples:\n  "), std::string::npos) << run.out;
    EXPECT_NE(run.out.find("--json"), std::string::npos) << run.out;
  }
  const std::string help = dvs({"--help"}).out;
  EXPECT_NE(help.find("Exit status:"), std::string::npos);
  EXPECT_EQ(dvs({"--version"}).out.substr(0, 4), "dvs ");
}

TEST_F(CliTest, RecoverHasNothingToSay) {
  answer("GET", "/v1/nodes", R"({"nodes": [{"name": "n1", "state": "up", "link": "self"}]})");
  answer("GET", "/v1/dcs", R"({"dcs": [{"name": "DC0", "nodes": ["n1"], "missing": {}}]})");
  answer("GET", "/v1/migrations", R"({"migrations": [
      {"id": "m-1", "state": "committed", "source": "n1", "target": "n1", "memory": "here"},
      {"id": "m-2", "state": "copying", "source": "n1", "target": "n1", "started_ns": 1}]})");
  const auto run = dvs({"recover"});
  EXPECT_EQ(run.status, 0);
  EXPECT_EQ(run.out, "Nothing needs attention.\n");
}

TEST_F(CliTest, RecoverSaysWhatNeedsAPersonAndMendsWhatItCan) {
  answer("GET", "/v1/nodes", R"({"nodes": [{"name": "n1", "state": "up", "link": "self"},
      {"name": "n2", "state": "down", "link": "down"},
      {"name": "n3", "state": "up", "link": "down"}]})");
  answer("GET", "/v1/dcs", R"({"dcs": [
      {"name": "DC0", "missing": {"n3": "no room in /run/dvs", "n2": "the node is down"}}]})");
  answer("GET", "/v1/migrations", R"({"migrations": [
      {"id": "m-1", "state": "active", "source": "n1", "target": "n2", "started_ns": 1},
      {"id": "m-2", "state": "active", "manual": true, "source": "n1", "target": "n1",
       "started_ns": 1},
      {"id": "m-3", "state": "committed", "memory": "owed", "source": "n2", "target": "n1",
       "patience_ms": 30000},
      {"id": "m-4", "state": "rolledback", "source": "n2", "target": "n1"}]})");
  answer("POST", "/v1/migrations/{}/cancel", "{}");
  const auto run = dvs({"recover"});
  EXPECT_EQ(run.status, 8);
  for (const char* words :
       {"node n2: it is down", "dvs node leave n2", "node n3: there is no link to it",
        "DC DC0: it has no part on node n3: no room in /run/dvs",
        "migration m-1: its process has been stopped", "down: target n2",
        "migration m-2: a program has begun it", "needs memory that n2 has",
        "migration m-4: it has ended (rolledback)"}) {
    EXPECT_NE(run.out.find(words), std::string::npos) << words << " is missing in\n" << run.out;
  }
  EXPECT_EQ(run.out.find("Rolled back"), std::string::npos);
  const auto fixed = dvs({"recover", "--fix"});
  EXPECT_EQ(fixed.status, 8) << "n2 is still down";
  EXPECT_NE(fixed.out.find("Rolled back"), std::string::npos) << fixed.out;
  const auto json = Json::parse(dvs({"recover", "--fix", "--json"}).out);
  int mended = 0;
  for (const Json& finding : json.at("findings")) mended += finding.at("fixed") == true ? 1 : 0;
  EXPECT_EQ(mended, 2) << json;
}

TEST_F(CliTest, RefusalsExitWith3AndSayItInDvsdsWords) {
  for (const Code code : {Code::kInvalid, Code::kNotFound, Code::kConflict, Code::kUnavailable,
                          Code::kUnsupported, Code::kDenied, Code::kNoSpace}) {
    const std::string route = std::string("/v1/migrations/") + std::string(code_name(code));
    refuse("GET", route, Error(code, "because it is so"));
    const auto run = dvs({"migration", "show", std::string(code_name(code))});
    EXPECT_EQ(run.status, 3) << code_name(code);
    EXPECT_EQ(run.err, "dvs: cannot show migration " + std::string(code_name(code)) +
                           ": because it is so\n");
  }
}

TEST_F(CliTest, WithJsonARefusalIsJsonToo) {
  refuse("DELETE", "/v1/dcs/{}", Error(Code::kConflict, "2 processes live in DC0; use --force"));
  const auto run = dvs({"dc", "rm", "DC0", "--json"});
  EXPECT_EQ(run.status, 3);
  EXPECT_EQ(Json::parse(run.out), Json::parse(R"({"error": {"code": "conflict",
                            "message": "2 processes live in DC0; use --force"}})"));
  EXPECT_EQ(run.err, "dvs: cannot remove DC DC0: 2 processes live in DC0; use --force\n");
}

TEST_F(CliTest, InternalErrorsExitWith1) {
  refuse("GET", "/v1/nodes", Error(Code::kInternal, "mmap: Bad address"));
  const auto run = dvs({"node", "ls"});
  EXPECT_EQ(run.status, 1);
  EXPECT_EQ(run.err, "dvs: cannot list the nodes: mmap: Bad address\n");
  answer("GET", "/v1/dcs/{}/endpoints/{}/logs", R"({"data": 7})");
  EXPECT_EQ(dvs({"logs", "DC0/11"}).status, 1);
}

TEST_F(CliTest, AnOutcomeThatDvsdDoesNotKnowExitsWith5) {
  refuse("POST", "/v1/dcs", Error(Code::kTimeout, "n2 did not answer in 10 s"));
  const auto run = dvs({"dc", "create", "DC0", "--nodes", "n1,n2"});
  EXPECT_EQ(run.status, 5);
  EXPECT_EQ(run.err, "dvs: cannot create DC DC0: n2 did not answer in 10 s\n");
}

TEST_F(CliTest, AnAnswerCutOffIsAnUnknownOutcomeOnlyWhenSomethingWasToChange) {
  const auto cut = [this](HttpRequest, Reply) { server_.reset(); };
  handle("POST", "/v1/dcs", cut);
  const auto run = dvs({"dc", "create", "DC0", "--nodes", "n1"});
  EXPECT_EQ(run.status, 5);
  EXPECT_NE(run.err.find("the outcome is unknown"), std::string::npos) << run.err;
  restart();
  handle("GET", "/v1/dcs", cut);
  EXPECT_EQ(dvs({"dc", "ls"}).status, 6);
}

TEST_F(CliTest, WithoutADaemonItExitsWith6AndSaysWhatToDo) {
  const auto run = dvs({"ps", "--socket", dir_ + "/nobody"});
  EXPECT_EQ(run.status, 6);
  EXPECT_NE(run.err.find(dir_ + "/nobody"), std::string::npos) << run.err;
  const auto none = dvs({"ps"}, {"DVS_SOCKET="});
  EXPECT_EQ(none.status, 6);
  EXPECT_NE(none.err.find("`dvs up`"), std::string::npos) << none.err;
}

TEST_F(CliTest, TheFirstLiveNodeOfTheLocalClusterIsAsked) {
  answer("GET", "/v1/dcs", R"({"dcs": []})");
  const std::string nodes = dir_ + "/cluster/nodes";
  std::filesystem::create_directories(nodes + "/n1");
  std::filesystem::create_directories(nodes + "/n2");
  std::ofstream(nodes + "/n1/dvsd.sock") << "not even a socket";
  std::filesystem::create_symlink(socket_, nodes + "/n2/dvsd.sock");
  const auto run = dvs({"dc", "ls"}, {"DVS_SOCKET="});
  EXPECT_EQ(run.status, 0) << run.err;
}

TEST_F(CliTest, CheckNeedsNoDaemon) {
  const auto run = dvs({"check", "--json"}, {"DVS_SOCKET=/nonexistent"});
  const Json json = Json::parse(run.out);
  EXPECT_EQ(run.status, json.at("fit").get<bool>() ? 0 : 3);
  const auto unfit = dvs({"check"}, {"DVS_CRIU=" + dir_ + "/nothing"});
  EXPECT_EQ(unfit.status, 3);
  EXPECT_NE(unfit.out.find("\ncriu "), std::string::npos) << unfit.out;
  EXPECT_NE(unfit.out.find("NOT fit"), std::string::npos) << unfit.out;
}

TEST_F(CliTest, MakesAnAuthorityAndCertifiesNodes) {
  const std::string authority = dir_ + "/authority";
  const auto made = dvs({"cluster", "init", authority, "--name", "lab"});
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_NE(made.out.find("ca.key"), std::string::npos) << "what to keep is named";
  const auto again = dvs({"cluster", "init", authority});
  EXPECT_EQ(again.status, 3);
  EXPECT_EQ(again.err,
            "dvs: cannot make an authority: " + authority + "/ca.key is there already\n");

  const auto node = dvs({"cluster", "certify", authority, "n1", "--output", dir_, "--json"});
  ASSERT_EQ(node.status, 0) << node.err;
  const Json files = Json::parse(node.out);
  for (const auto& [what, path] : files.items()) {
    EXPECT_TRUE(std::filesystem::is_regular_file(path.get<std::string>())) << what;
  }
  const auto mode = std::filesystem::status(dir_ + "/n1.key").permissions();
  EXPECT_EQ(mode, std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  EXPECT_EQ(dvs({"cluster", "certify", authority, "n1", "--output", dir_}).status, 3);
  EXPECT_EQ(dvs({"cluster", "certify", dir_ + "/none", "n2"}).status, 3);
  EXPECT_EQ(dvs({"cluster", "certify", authority, "a/b"}).status, 2);
}

}  // namespace
}  // namespace dvs::cli
