// Who may do what: roles on the API inside TLS, the owner of the socket, nodes that are called
// back.
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "cluster_fixture.h"
#include "container/capabilities.h"
#include "node/conductor.h"
#include "tls/authority.h"
#include "tls/digest.h"

namespace dvs::integration {
namespace {

constexpr uint16_t kPort = 7443;

class Access : public ClusterTest {
 protected:
  static void SetUpTestSuite() {
    char name[] = "/tmp/dvs-access-test-XXXXXX";
    work_ = ::mkdtemp(name);
    write_tokens("");
    local::UpOptions options;
    options.tls = true;
    options.dvsd_args = {"--api", "0.0.0.0:" + std::to_string(kPort), "--api-tokens",
                         tokens_file()};
    start_cluster(options);
  }
  static void TearDownTestSuite() {
    ClusterTest::TearDownTestSuite();
    std::filesystem::remove_all(work_);
  }
  void SetUp() override {
    ClusterTest::SetUp();
    write_tokens("");
  }

  static std::string tokens_file() { return work_ + "/tokens"; }
  static std::string authority() { return dir() + "/tls"; }
  static void write_tokens(const std::string& more) {
    std::string text = "# those of the test\n";
    for (const char* role : {"view", "operate", "admin"}) {
      text += tls::sha256_hex("secret of " + std::string(role)) + " " + role + " " + role + "er\n";
    }
    std::ofstream(tokens_file()) << text << more;
  }

  // Does it with the network of n1, which is not the host's.
  static void on_network(const std::function<void()>& what) {
    const std::string path = "/proc/" + std::to_string(node("n1").holder_pid) + "/ns/net";
    std::thread thread([&] {
      const UniqueFd network(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_EQ(::setns(network.get(), CLONE_NEWNET), 0);
      what();
    });
    thread.join();
  }
  HttpsTarget target(const std::string& token = {}, const std::string& at = "n1") {
    HttpsTarget to;
    to.host = node(at).address;
    to.port = kPort;
    to.trust.authority = authority() + "/ca.pem";
    to.trust.unit = tls::kNodeUnit;
    to.token = token;
    return to;
  }
  // As a user (or whatever has this unit) with a certificate of that authority.
  HttpsTarget as(const std::string& name, const std::string& unit, const std::string& from) {
    const std::string to = work_ + "/users";
    const std::string base = to + "/" + name;
    std::filesystem::remove(base + ".key");
    const Status made = tls::certify(from, {{name, unit}}, to);
    EXPECT_OK(made);
    HttpsTarget https = target();
    https.trust.certificate = base + ".pem";
    https.trust.key = base + ".key";
    return https;
  }
  Result<HttpAnswer> ask_as(const HttpsTarget& who, const std::string& method,
                            const std::string& path) {
    Result<HttpAnswer> answer = Error(Code::kInternal, "not asked");
    on_network([&] { answer = http_exchange({{}, method, path, nullptr, {}, 30s, who}); });
    return answer;
  }
  // The HTTP status; 0: not even that.
  int status_of(const HttpsTarget& who, const std::string& method = "GET",
                const std::string& path = "/v1/node") {
    const auto answer = ask_as(who, method, path);
    return answer.ok() ? answer->status : 0;
  }
  void hang_up(const std::string& name) { ::kill(node(name).dvsd_pid, SIGHUP); }

  static std::string work_;
};

std::string Access::work_;

// With something in place of each {}.
std::string filled(std::string path) {
  for (size_t at; (at = path.find("{}")) != std::string::npos;) path.replace(at, 2, "1");
  return path;
}

TEST_F(Access, EachRouteIsForItsRoleAndThoseAbove) {
  for (const auto& route : Conductor::api_routes()) {
    // (POST /v1/migrations and the like without a body are refused, but not for who asks.)
    const auto status = [&](const std::string& token) {
      return status_of(target(token), route.method, filled(route.path));
    };
    const std::string what = std::string(route.method) + " " + route.path;
    EXPECT_EQ(status(""), 401) << what;
    for (const Role role : {Role::kView, Role::kOperate, Role::kAdmin}) {
      const int got = status("secret of " + std::string(name_of(role)));
      const bool may = role >= route.role;
      EXPECT_EQ(got == 403, !may) << what << " by " << name_of(role) << ": " << got;
      EXPECT_NE(got, 401) << what;
      EXPECT_NE(got, 0) << what;
    }
  }
}

TEST_F(Access, TheDocumentHasTheSameRoutesAndRoles) {
  const char* source = std::getenv("DVS_SOURCE_DIR");
  const auto document = read_file(std::string(source == nullptr ? "." : source) + "/docs/api.md");
  ASSERT_OK(document);
  std::set<std::string> documented, served;
  const std::regex row(R"(\| `([A-Z]+) (/[^`?]*)[^`]*` \| (\w+) \|)");
  for (std::sregex_iterator it(document->begin(), document->end(), row), end; it != end; ++it) {
    documented.insert((*it)[1].str() + " " + (*it)[2].str() + " " + (*it)[3].str());
  }
  for (const auto& route : Conductor::api_routes()) {
    served.insert(std::string(route.method) + " " + route.path + " " +
                  std::string(name_of(route.role)));
  }
  EXPECT_EQ(documented, served);
}

TEST_F(Access, ACertificateSaysTheRole) {
  EXPECT_EQ(status_of(as("alice", "view", authority())), 200);
  EXPECT_EQ(status_of(as("alice", "view", authority()), "DELETE", "/v1/dcs/none"), 403);
  EXPECT_EQ(status_of(as("bob", "operate", authority()), "POST", "/v1/migrations"), 400);
  EXPECT_EQ(status_of(as("bob", "operate", authority()), "DELETE", "/v1/dcs/none"), 403);
  EXPECT_EQ(status_of(as("carol", "admin", authority()), "DELETE", "/v1/dcs/none"), 404);
}

TEST_F(Access, WhoChangedWhatIsInTheLog) {
  EXPECT_EQ(status_of(as("dave", "admin", authority()), "DELETE", "/v1/dcs/nothing"), 404);
  const auto log = read_file(dir() + "/nodes/n1/dvsd.log");
  ASSERT_OK(log);
  EXPECT_NE(log->find(R"("dave" (admin): DELETE "/v1/dcs/nothing")"), std::string::npos);
}

TEST_F(Access, AStrangerIsNotHeard) {
  EXPECT_EQ(status_of(target("a guess")), 401);
  EXPECT_EQ(status_of(target(), "GET", "/nothing/there"), 401) << "nor told what there is";
  EXPECT_EQ(status_of(as("n7", "node", authority())), 401) << "a node's certificate is for links";
  EXPECT_EQ(status_of(as("eve", "king", authority())), 401);
  ASSERT_OK(tls::make_authority(work_ + "/other", "other"));
  const auto answer = ask_as(as("eve", "admin", work_ + "/other"), "GET", "/v1/node");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code(), Code::kDenied) << answer.error().message();
}

TEST_F(Access, AServerOfAnotherAuthorityIsNotBelieved) {
  ASSERT_OK(tls::make_authority(work_ + "/false", "false"));
  HttpsTarget to = target("secret of admin");
  to.trust.authority = work_ + "/false/ca.pem";
  const auto answer = ask_as(to, "GET", "/v1/node");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code(), Code::kDenied) << answer.error().message();
}

TEST_F(Access, ARevokedUserIsOutOnceDvsdHasReadIt) {
  const HttpsTarget mallory = as("mallory", "admin", authority());
  EXPECT_EQ(status_of(mallory), 200);
  EXPECT_TRUE(tls::revoke(authority(), "mallory").ok());
  hang_up("n1");
  EXPECT_TRUE(eventually([&] { return status_of(mallory) == 0; }));
  EXPECT_EQ(status_of(as("alice", "view", authority())), 200);
}

// Given to one node, and to none by hand; n3 learns of it when it is back.
TEST_F(Access, ARevocationIsPublishedToAllNodes) {
  const HttpsTarget trudy = as("trudy", "admin", authority());
  const auto status_at = [&](const std::string& name) {
    HttpsTarget there = trudy;
    there.host = node(name).address;
    return status_of(there);
  };
  for (const char* name : {"n1", "n2", "n3"}) EXPECT_EQ(status_at(name), 200);
  const auto before = read_file(authority() + "/crl.pem");
  ASSERT_OK(before);
  power_off("n3");
  EXPECT_TRUE(tls::revoke(authority(), "trudy").ok());
  const auto after = read_file(authority() + "/crl.pem");
  ASSERT_OK(replace_file(authority() + "/crl.pem", *before));  // as if it were elsewhere
  EXPECT_OK(call("POST", "/v1/revoked", {{"revoked", *after}}));
  for (const char* name : {"n1", "n2"}) {
    EXPECT_TRUE(eventually([&] { return status_at(name) == 0; })) << name;
  }
  ASSERT_OK(replace_file(authority() + "/crl.pem", *before));
  power_on("n3");
  EXPECT_TRUE(eventually([&] { return status_at("n3") == 0; }));
  EXPECT_OK(call("POST", "/v1/revoked", {{"revoked", *after}})) << "again";
  EXPECT_REFUSED(call("POST", "/v1/revoked", {{"revoked", *before}}), Code::kConflict, "older");
  ASSERT_OK(tls::make_authority(work_ + "/strangers", "strangers"));
  const auto others = read_file(work_ + "/strangers/crl.pem");
  EXPECT_REFUSED(call("POST", "/v1/revoked", {{"revoked", *others}}), Code::kDenied, "not signed");
  EXPECT_REFUSED(call("POST", "/v1/revoked", {{"revoked", "nonsense"}}), Code::kInvalid, "list");
}

// A program of a DC is root there, and reads the node's files.
TEST_F(Access, ProgramsOfDcsDoNotSeeTheNodesKey) {
  const std::string given = authority() + "/nodes/n3.key";
  const std::string dir = "/var/lib/dvs-access-test-" + std::to_string(::getpid());
  const std::string real = dir + "/keys/n3.key";
  std::filesystem::create_directories(dir + "/keys");
  std::ofstream(dir + "/other") << "something else\n";
  power_off("n3");
  std::filesystem::copy(given, real);
  std::filesystem::remove(given);
  std::filesystem::create_symlink(real, given);
  power_on("n3");
  make_dc("lab", {"n3"});
  const Process reader =
      run("lab", "n3",
          {"/bin/sh", "-c",
           "cat " + dir + "/other " + real + "; ls " + dir + "/keys; echo END; sleep 1000"});
  EXPECT_TRUE(wait_log(reader, "END"));
  const std::string said = log(reader);
  EXPECT_NE(said.find("something else"), std::string::npos) << said;
  EXPECT_EQ(said.find("PRIVATE KEY"), std::string::npos) << said;
  EXPECT_EQ(said.find("\nn3.key"), std::string::npos) << said;
  std::filesystem::remove(given);
  std::filesystem::copy(real, given);
  std::filesystem::remove_all(dir);
}

TEST_F(Access, TokensComeAndGoAtSighup) {
  const pid_t dvsd = node("n1").dvsd_pid;
  write_tokens(tls::sha256_hex("new") + " view new\n");
  hang_up("n1");
  EXPECT_TRUE(eventually([&] { return status_of(target("new")) == 200; }));
  write_tokens("this is no line\n");
  hang_up("n1");
  EXPECT_TRUE(eventually([&] {
    const auto log = read_file(dir() + "/nodes/n1/dvsd.log");
    return log.ok() && log->find(tokens_file() + ": line 5: not") != std::string::npos;
  }));
  EXPECT_EQ(status_of(target("new")), 200) << "a file that is not good changes nothing";
  write_tokens("");
  hang_up("n1");
  EXPECT_TRUE(eventually([&] { return status_of(target("new")) == 401; }));
  EXPECT_EQ(status_of(target("secret of view")), 200);
  EXPECT_EQ(node("n1").dvsd_pid, dvsd);
}

TEST_F(Access, TheCommandAsksADvsdElsewhere) {
  const HttpsTarget alice = as("alice", "view", authority());
  std::ofstream(work_ + "/token") << "secret of operate\n";
  const auto dvs = [&](std::vector<std::string> options, const std::vector<std::string>& command) {
    ChildOptions child;
    child.argv = {binary("dvs"), "--api",
                  "https://" + alice.host + ":" + std::to_string(alice.port), "--ca",
                  alice.trust.authority};
    child.argv.insert(child.argv.end(), options.begin(), options.end());
    child.argv.insert(child.argv.end(), command.begin(), command.end());
    child.capture_output = true;
    child.timeout = 30s;
    ChildResult result;
    on_network([&] {
      auto ended = run_child_blocking(child);
      ASSERT_OK(ended);
      result = *ended;
    });
    return result;
  };
  const std::vector<std::string> certificate = {"--cert", alice.trust.certificate, "--key",
                                                alice.trust.key};
  const std::vector<std::string> token = {"--token-file", work_ + "/token"};
  ChildResult result = dvs(certificate, {"node", "ls"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  EXPECT_NE(result.output.find("n3"), std::string::npos) << result.output;
  result = dvs(token, {"node", "ls"});
  EXPECT_EQ(result.exit_code, 0) << result.output;
  result = dvs(certificate, {"dc", "create", "lab", "--nodes", "n1"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.output.find("alice may not"), std::string::npos) << result.output;
  result = dvs({}, {"node", "ls"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_NE(result.output.find("who are you?"), std::string::npos) << result.output;
}

// A link's end is seen by the API: what n1 says of its link to n2.
std::string link_of(const Result<Json>& nodes, const std::string& to) {
  if (!nodes.ok()) return nodes.error().message();
  for (const Json& each : nodes->at("nodes")) {
    if (each.at("name") == to) return each.at("link");
  }
  return "";
}

TEST_F(Access, ARevokedNodeLosesItsLinksAndNobodyElseDoes) {
  const Status joined = local::join(dir(), "n4");
  ASSERT_OK(joined);
  ASSERT_TRUE(eventually([&] { return link_of(call("GET", "/v1/nodes"), "n4") == "up"; }));
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "0"});
  ASSERT_TRUE(wait_log(client, "going"));
  EXPECT_TRUE(tls::revoke(authority(), "n4").ok());
  for (const char* name : {"n1", "n2", "n3"}) hang_up(name);
  for (const char* name : {"n1", "n2", "n3"}) {
    via_ = name;
    EXPECT_TRUE(eventually([&] { return link_of(call("GET", "/v1/nodes"), "n4") == "down"; }));
    for (const char* other : {"n1", "n2", "n3"}) {
      const std::string link = link_of(call("GET", "/v1/nodes"), other);
      EXPECT_EQ(link, std::string(name) == other ? "self" : "up");
    }
  }
  via_ = "n1";
  EXPECT_GT(finish_client(client), 20);
  EXPECT_OK(local::kill_node(dir(), "n4"));
  ASSERT_TRUE(eventually([&] { return state_of("n4") == "down"; }));
  EXPECT_OK(call("DELETE", "/v1/nodes/n4"));
}

// ---- the local socket

// What connect() says to one with these ids: 0, or errno.
int connect_as(const std::string& path, uid_t user, gid_t group) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(0, nullptr) != 0 || ::setgid(group) != 0 || ::setuid(user) != 0) ::_exit(255);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    ::_exit(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 ? 0 : errno);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST_F(Access, AnUnprivilegedUserCannotOpenTheSocket) {
  // By the socket's own mode, whatever directory it is in.
  const std::string socket = node("n1").socket;
  for (std::string dir = socket; dir.size() > 1;) {
    dir = std::filesystem::path(dir).parent_path();
    if (::access(dir.c_str(), X_OK) == 0 && dir.starts_with("/dev/shm/")) {
      std::filesystem::permissions(dir, std::filesystem::perms::others_exec,
                                   std::filesystem::perm_options::add);
    }
  }
  EXPECT_EQ(connect_as(socket, 65534, 65534), EACCES);
  EXPECT_EQ(connect_as(socket, 65534, 0), EACCES) << "root's group is none of those that may";
  EXPECT_EQ(connect_as(socket, 0, 0), 0);
}

TEST_F(Access, TheSocketsGroupMayAndNobodyElse) {
  std::filesystem::permissions(work_, std::filesystem::perms::others_exec,
                               std::filesystem::perm_options::add);
  Executor executor;
  const std::string path = work_ + "/sock";
  const auto server = open_http_server(executor, path, "daemon");
  ASSERT_OK(server);
  const gid_t daemon = ::getgrnam("daemon")->gr_gid;
  EXPECT_EQ(connect_as(path, 65534, daemon), 0);
  EXPECT_EQ(connect_as(path, 65534, 65534), EACCES);
  EXPECT_REFUSED(open_http_server(executor, path + "2", "no-such-group"), Code::kNotFound,
                 "no-such-group");
}

// ---- what root may not

TEST_F(Access, DvsdAndWhatItStartsHaveGivenUpWhatTheyDoNotNeed) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  must_move(server, "n2");  // and yet it works
  const auto pids = host_pids(server);
  ASSERT_FALSE(pids.empty());
  for (const pid_t pid : {node("n1").dvsd_pid, node("n2").dvsd_pid, pids[0]}) {
    const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
    ASSERT_OK(status);
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      const size_t at = status->find(std::string(set) + ":\t");
      ASSERT_NE(at, std::string::npos);
      const uint64_t bits = std::stoull(status->substr(at + 8), nullptr, 16);
      for (const int capability : kGivenUp) {
        EXPECT_EQ(bits >> capability & 1, 0u) << pid << " has " << capability << " in " << set;
      }
    }
  }
}

}  // namespace
}  // namespace dvs::integration
