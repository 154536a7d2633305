// The authority's commands, and a node that joins by a token.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "cli_fixture.h"
#include "tls/session.h"

namespace dvs::cli {
namespace {

class CliAuthority : public CliTest {
 protected:
  CliAuthority() { EXPECT_EQ(dvs({"cluster", "init", authority()}).status, 0); }
  ~CliAuthority() override { stop_serving(); }

  std::string authority() const { return dir_ + "/authority"; }
  std::string token(const std::string& node) {
    const Outcome made = dvs({"cluster", "token", authority(), node, "--valid", "10m"});
    EXPECT_EQ(made.status, 0) << made.err;
    return made.out.substr(0, made.out.find('\n'));
  }
  // Starts `dvs cluster serve`; `from_` is where it answers.
  void serve() {
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    server_pid_ = ::fork();
    if (server_pid_ == 0) {
      ::dup2(ends[1], 1);
      const std::string program = bin_dir_ + "/dvs";
      ::execl(program.c_str(), "dvs", "cluster", "serve", authority().c_str(), "--listen",
              "127.0.0.1:0", nullptr);
      ::_exit(127);
    }
    ::close(ends[1]);
    std::FILE* said = ::fdopen(ends[0], "r");
    char line[200] = "";
    ASSERT_NE(std::fgets(line, sizeof line, said), nullptr);
    const std::string text = line;
    from_ = text.substr(text.find("127."), text.rfind('.') - text.find("127."));
    output_.reset(said);
  }
  void stop_serving() {
    if (server_pid_ <= 0) return;
    ::kill(server_pid_, SIGTERM);
    int status = -1;
    ::waitpid(server_pid_, &status, 0);
    EXPECT_EQ(status, 0) << "the server ended badly";
    server_pid_ = 0;
  }
  std::string load(const std::string& dir, const std::string& node) {
    const std::string base = dir + "/";
    auto loaded = tls::Identity::load(
        {base + "ca.pem", base + node + ".pem", base + node + ".key", base + "crl.pem"}, node);
    return loaded.ok() ? "" : loaded.error().message();
  }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  pid_t server_pid_ = 0;
  std::unique_ptr<std::FILE, Close> output_;
  std::string from_;
};

TEST_F(CliAuthority, ANodeJoinsByATokenRenewsAndIsRevoked) {
  serve();
  const std::string etc = dir_ + "/etc";
  const std::string one_time = token("n4");
  Outcome joined = dvs({"node", "join", "--token", one_time, "--from", from_, "--output", etc});
  EXPECT_EQ(joined.status, 0) << joined.err;
  EXPECT_NE(joined.out.find("--tls-cert " + etc + "/n4.pem"), std::string::npos) << joined.out;
  EXPECT_EQ(load(etc, "n4"), "");

  joined = dvs({"node", "join", "--token", one_time, "--from", from_, "--output", dir_ + "/x"});
  EXPECT_EQ(joined.status, 3);
  EXPECT_NE(joined.err.find("the token is not known here"), std::string::npos) << joined.err;

  const std::string before = read(etc + "/n4.pem");
  Outcome renewed = dvs({"node", "renew", "n4", "--from", from_, "--output", etc});
  EXPECT_EQ(renewed.status, 0) << renewed.err;
  EXPECT_NE(read(etc + "/n4.pem"), before);
  EXPECT_EQ(load(etc, "n4"), "");

  const Outcome revoked = dvs({"cluster", "revoke", authority(), "n4"});
  EXPECT_EQ(revoked.status, 0) << revoked.err;
  EXPECT_EQ(revoked.out.rfind("2 certificates of n4", 0), 0u) << revoked.out;
  renewed = dvs({"node", "renew", "n4", "--from", from_, "--output", etc});
  EXPECT_EQ(renewed.status, 3);
  EXPECT_NE(renewed.err.find("was revoked"), std::string::npos) << renewed.err;
}

TEST_F(CliAuthority, ATokenInAFileStaysOutOfTheListOfProcesses) {
  serve();
  const std::string file = dir_ + "/token";
  std::ofstream(file) << token("n5") << "\n";
  const Outcome joined =
      dvs({"node", "join", "n5", "--token-file", file, "--from", from_, "--output", dir_});
  EXPECT_EQ(joined.status, 0) << joined.err;
  EXPECT_EQ(load(dir_, "n5"), "");
}

TEST_F(CliAuthority, WhatCannotBeIsSaid) {
  EXPECT_EQ(dvs({"node", "join"}).status, 2);
  Outcome refused = dvs({"node", "join", "--token", "nonsense", "--from", "127.0.0.1:1"});
  EXPECT_EQ(refused.status, 3);
  EXPECT_NE(refused.err.find("not a token"), std::string::npos) << refused.err;
  refused = dvs({"node", "join", "n6", "--token", token("n5"), "--from", "127.0.0.1:1"});
  EXPECT_NE(refused.err.find("the token is for n5"), std::string::npos) << refused.err;
  refused = dvs({"cluster", "token", dir_ + "/nothing", "n5"});
  EXPECT_EQ(refused.status, 3);
  refused = dvs({"cluster", "revoke", authority(), "n9"});
  EXPECT_NE(refused.err.find("no certificate was made for 'n9'"), std::string::npos);
  refused = dvs({"cluster", "publish", dir_ + "/nothing"});
  EXPECT_EQ(refused.status, 3);
  EXPECT_NE(refused.err.find("crl.pem"), std::string::npos) << refused.err;
  EXPECT_EQ(dvs({"--socket", dir_ + "/none", "cluster", "publish", authority()}).status, 6);
  EXPECT_EQ(dvs({"cluster", "certify-user", authority(), "alice", "--role", "king"}).status, 2);
}

}  // namespace
}  // namespace dvs::cli
