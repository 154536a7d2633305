// What cannot be done is refused with its cause in the message, and nothing is lost by the attempt.
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <thread>

#include "base/child.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "cluster_fixture.h"
#include "wire/frame.h"

namespace dvs::integration {
namespace {

std::string random_bytes(size_t count) {
  std::mt19937 random(7);
  std::string bytes(count, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class Refusals : public ClusterTest {
 protected:
  static void SetUpTestSuite() {
    local::UpOptions options;
    options.run_bytes = 64 << 20;
    start_cluster(options);
  }

  // A server on n1 that clients on n1 and n2 are using, which must go on over the test.
  void start_service() {
    make_dc("lab");
    server_ = run("lab", "n1", 5, {"echo_server"});
    for (const char* node : {"n1", "n2"}) {
      clients_.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
      ASSERT_TRUE(wait_log(clients_.back(), "going"));
    }
  }
  void check_service() {
    EXPECT_EQ(copies(server_), 1);
    for (const Process& client : clients_) EXPECT_GT(finish_client(client), 20);
    expect_serves(server_, "n2");
  }

  // Connects to the link port of node `to` from inside node `from`, sends `bytes`, and waits until
  // the other side hangs up (5 s at most) unless told not to.
  void send_raw(const std::string& from, const std::string& to, const std::string& bytes,
                bool until_closed) {
    const std::string net = "/proc/" + std::to_string(node(from).holder_pid) + "/ns/net";
    const std::string address = address_of(to);
    std::thread([&] {
      UniqueFd ns(::open(net.c_str(), O_RDONLY | O_CLOEXEC));
      ASSERT_EQ(::setns(ns.get(), CLONE_NEWNET), 0);
      UniqueFd peer(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      sockaddr_in where{};
      where.sin_family = AF_INET;
      where.sin_port =
          htons(static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
      ::inet_pton(AF_INET, address.substr(0, address.find(':')).c_str(), &where.sin_addr);
      ASSERT_EQ(::connect(peer.get(), reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
      ::send(peer.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      const timeval limit{5, 0};
      ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
      char buffer[4096];
      while (until_closed) {
        const ssize_t got = ::recv(peer.get(), buffer, sizeof buffer, 0);
        if (got > 0) continue;
        EXPECT_FALSE(got < 0 && errno == EAGAIN) << "the link was not closed";
        break;
      }
    }).join();
  }
  std::string address_of(const std::string& name) {
    auto nodes = call("GET", "/v1/nodes");
    for (const Json& each : nodes.ok() ? nodes->at("nodes") : Json::array()) {
      if (each.at("name") != name) continue;
      return each.at("address").get<std::string>() + ":" +
             std::to_string(each.at("port").get<int>());
    }
    return "";
  }
  // Fills the node's /run to its last page.
  std::string fill_run(const std::string& name) {
    const std::string file = path_on(name, "/run/filler");
    UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    const std::string block(64 << 10, 'x');
    while (::write(fd.get(), block.data(), block.size()) > 0) continue;
    return file;
  }
  ChildResult run_dvsd(std::vector<std::string> prefix, const std::vector<std::string>& args) {
    ChildOptions options;
    options.argv = std::move(prefix);
    options.argv.push_back(binary("dvsd"));
    options.argv.insert(options.argv.end(), args.begin(), args.end());
    options.capture_output = true;
    options.timeout = 10s;
    auto result = run_child_blocking(options);
    EXPECT_OK(result);
    return result.ok() ? *result : ChildResult{};
  }

  Process server_;
  std::vector<Process> clients_;
};

TEST_F(Refusals, NamesThatDoNotExist) {
  make_dc("lab", {"n1", "n2"});
  const Process server = run("lab", "n1", 5, {"echo_server"});
  EXPECT_REFUSED(migrate({"nope", 5, 0, ""}, "n2"), Code::kNotFound, "nope");
  EXPECT_REFUSED(migrate({"lab", 9, 0, ""}, "n2"), Code::kNotFound, "9");
  EXPECT_REFUSED(migrate(server, "n9"), Code::kNotFound, "n9");
  EXPECT_REFUSED(migrate(server, "n3"), Code::kInvalid, "n3");
  EXPECT_REFUSED(migrate(server, "n1"), Code::kInvalid, "n1");
  EXPECT_REFUSED(try_run("nope", {{"node", "n1"}, {"argv", {"/bin/true"}}}), Code::kNotFound,
                 "nope");
  EXPECT_REFUSED(try_run("lab", {{"node", "n9"}, {"argv", {"/bin/true"}}}), Code::kNotFound, "n9");
  EXPECT_REFUSED(try_run("lab", {{"node", "n1"}, {"argv", {"/no/such/program"}}}), Code::kNotFound,
                 "/no/such/program");
  const Json taken = {{"node", "n2"}, {"endpoint", 5}, {"argv", {"/bin/true"}}};
  EXPECT_REFUSED(try_run("lab", taken), Code::kConflict, "5");
  const Json beyond = {{"node", "n2"}, {"endpoint", 99999}, {"argv", {"/bin/true"}}};
  EXPECT_REFUSED(try_run("lab", beyond), Code::kInvalid, "99999");
  EXPECT_REFUSED(call("POST", "/v1/dcs", {{"name", "lab"}, {"nodes", {"n1"}}}), Code::kConflict,
                 "lab");
  expect_serves(server, "n2");
}

TEST_F(Refusals, ASecondMigrationOfTheSameProcess) {
  start_service();
  std::string refusal;
  for (int i = 0; i < 40 && refusal.empty(); ++i) {
    const std::string target = place(server_).first == "n1" ? "n2" : "n1";
    auto first = migrate(server_, target, [&](const std::string& phase) {
      if (phase != "freeze") return;
      auto second = ask(node("n3").socket, "POST", "/v1/migrations",
                        {{"dc", "lab"}, {"endpoint", 5}, {"target", "n3"}});
      // On a busy machine it may come when the first is over; then it is tried again.
      if (!second.ok()) refusal = why(second);
    });
    ASSERT_OK(first);
    EXPECT_EQ(first->at("state"), "committed") << first->dump();
  }
  EXPECT_NE(refusal.find("conflict: another migration"), std::string::npos) << refusal;
  check_service();
}

TEST_F(Refusals, AProcessThatTheEngineCannotMove) {
  make_dc("lab");
  const Process unmovable = run("lab", "n1", {"unmovable"});
  ASSERT_TRUE(eventually([&] { return !log(unmovable).empty(); }));
  ASSERT_EQ(log(unmovable).find("no io_uring"), std::string::npos) << log(unmovable);
  EXPECT_REFUSED(migrate(unmovable, "n2"), Code::kUnsupported, "io_uring");
  EXPECT_EQ(place(unmovable), std::make_pair(std::string("n1"), unmovable.pid));
  EXPECT_TRUE(wait_log(unmovable, "tick", log(unmovable).size())) << "it must go on";
}

// The engine would leave the orphan behind.
TEST_F(Refusals, ATreeThatHasLostAPart) {
  make_dc("lab");
  const char* script = "(sleep 1000 & echo started); exec sleep 1000";
  const Process tree = run("lab", "n1", {"/bin/sh", "-c", script});
  ASSERT_TRUE(wait_log(tree, "started"));
  ASSERT_TRUE(eventually([&] {
    const auto refused = migrate(tree, "n2");
    return !refused.ok() && refused.error().code() == Code::kUnsupported &&
           refused.error().message().find("has lost its parent") != std::string::npos;
  }));
  EXPECT_EQ(place(tree), std::make_pair(std::string("n1"), tree.pid));
}

TEST_F(Refusals, StrangersOnALink) {
  start_service();
  const std::string good = wire::encode_frame(wire::FrameType::kHello, R"({"cluster":"x"})");
  std::string oversized = good.substr(0, wire::kHeaderSize);
  oversized[11] = 0x7f;
  std::string broken = good;
  broken.back() ^= 1;
  const pid_t dvsd = node("n1").dvsd_pid;
  send_raw("n2", "n1", random_bytes(100'000), true);
  send_raw("n3", "n1", oversized, true);
  send_raw("n3", "n1", broken, true);
  send_raw("n2", "n1", good, true);
  send_raw("n2", "n1", good.substr(0, 11), false);
  send_raw("n2", "n1", "", false);
  EXPECT_EQ(node("n1").dvsd_pid, dvsd) << "dvsd must not have crashed";
  check_service();
}

TEST_F(Refusals, ARegionFullOfNonsenseCostsOnlyItsDc) {
  start_service();
  ASSERT_OK(call("POST", "/v1/dcs", {{"name", "victim"}, {"nodes", {"n1", "n2"}}}));
  for (const char* where : {"n1", "n2"}) {
    ASSERT_OK(try_run("victim", {{"node", where}, {"argv", {program("receiver")}}}));
  }
  const pid_t dvsd = node("n1").dvsd_pid;
  {
    std::fstream region(path_on("n1", "/run/dvs/dcs/victim/shared/region"),
                        std::ios::in | std::ios::out | std::ios::binary);
    ASSERT_TRUE(region.good());
    const std::string nonsense = random_bytes(300'000);
    region.write(nonsense.data(), static_cast<std::streamsize>(nonsense.size()));
  }
  (void)try_run("victim", {{"node", "n1"}, {"argv", {program("receiver")}}});
  EXPECT_TRUE(call("GET", "/v1/processes").ok());
  EXPECT_OK(call("DELETE", "/v1/dcs/victim?force=1"));
  EXPECT_EQ(node("n1").dvsd_pid, dvsd) << "dvsd must not have crashed";
  check_service();
}

TEST_F(Refusals, NoRoomOnTheTarget) {
  start_service();
  const std::string filler = fill_run("n2");
  EXPECT_REFUSED(migrate(server_, "n2"), Code::kNoSpace, "room");
  EXPECT_EQ(place(server_).first, "n1");
  ::unlink(filler.c_str());
  check_service();
}

TEST_F(Refusals, NoRoomOnTheTargetAnyMore) {
  start_service();
  std::string filler;
  auto migration = migrate(server_, "n2", [&](const std::string& phase) {
    if (phase == "freeze") filler = fill_run("n2");
  });
  ASSERT_OK(migration);
  const std::string expected = migration->at("state") == "committed" ? "n2" : "n1";
  EXPECT_EQ(place(server_), std::make_pair(expected, server_.pid)) << migration->dump();
  EXPECT_EQ(copies(server_), 1);
  ::unlink(filler.c_str());
  check_service();
}

TEST_F(Refusals, WithoutEtcdAMigrationWaitsForItsDecision) {
  start_service();
  std::thread starter;
  auto migration = migrate(server_, "n2", [&](const std::string& phase) {
    if (phase != "freeze") return;
    EXPECT_OK(local::stop_etcd(dir()));
    starter = std::thread([] {
      std::this_thread::sleep_for(1s);  // the outage that is tested
      EXPECT_OK(local::start_etcd(dir()));
    });
  });
  if (starter.joinable()) starter.join();
  ASSERT_OK(migration);
  const std::string expected = migration->at("state") == "committed" ? "n2" : "n1";
  EXPECT_TRUE(eventually([&] { return place(server_).first == expected && copies(server_) == 1; }))
      << migration->dump();
  check_service();
}

TEST_F(Refusals, DvsdWithWrongOptions) {
  const ChildResult none = run_dvsd({}, {});
  EXPECT_NE(none.exit_code, 0);
  EXPECT_NE(none.output.find("required"), std::string::npos) << none.output;
  std::vector<std::string> args = {
      "--name", "x", "--cluster", "c", "--etcd", "http://127.0.0.1:1", "--listen", "nonsense"};
  const ChildResult listen = run_dvsd({}, args);
  EXPECT_NE(listen.exit_code, 0);
  EXPECT_NE(listen.output.find("--listen"), std::string::npos) << listen.output;
  args.back() = "127.0.0.1:0";
  const ChildResult unprotected = run_dvsd({}, args);
  EXPECT_NE(unprotected.exit_code, 0);
  for (const char* way : {"--tls-cert", "--plain"}) {
    EXPECT_NE(unprotected.output.find(way), std::string::npos) << unprotected.output;
  }
  auto visible = args;
  visible.insert(visible.end(), {"--tls-ca", "/etc/passwd", "--tls-cert", "/etc/passwd",
                                 "--tls-key", "/etc/passwd"});
  const ChildResult seen_by_all = run_dvsd({}, visible);
  EXPECT_NE(seen_by_all.exit_code, 0);
  EXPECT_NE(seen_by_all.output.find("directory of its own"), std::string::npos)
      << seen_by_all.output;
  args.push_back("--plain");
  const ChildResult nobody =
      run_dvsd({"setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"}, args);
  EXPECT_NE(nobody.exit_code, 0);
  EXPECT_NE(nobody.output.find("root"), std::string::npos) << nobody.output;
}

}  // namespace
}  // namespace dvs::integration
