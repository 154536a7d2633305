// A real local cluster for a test program: three nodes in namespaces, with etcd, criu and the
// programs of tests/integration/programs, which run in DCs as applications would. It is started
// once for all tests of the program; each test works in DCs of its own and leaves none.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "api/http_server.h"
#include "base/json.h"
#include "local/local_cluster.h"

namespace dvs::integration {

using std::chrono_literals::operator""s;
using std::chrono_literals::operator""ms;

// A process as `dvs run` started it.
struct Process {
  std::string dc;
  int endpoint = 0;
  int pid = 0;
  std::string node;  // where it was started
};

// The record of a migration that has an outcome, or why it was refused.
using Migration = Result<Json>;

class ClusterTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { start_cluster({}); }
  static void TearDownTestSuite();
  void SetUp() override;
  // Checks that every program was content, then removes the DCs.
  void TearDown() override;

  // For suites that need another kind of cluster.
  static void start_cluster(local::UpOptions options);

  static const std::string& dir() { return dir_; }
  static const std::string& cluster() { return cluster_; }
  static std::string program(const std::string& name);
  static std::string binary(const std::string& name);
  static local::NodeInfo node(const std::string& name);

  static Result<Json> ask(const std::string& socket, const std::string& method,
                          const std::string& target, const Json& body,
                          const std::function<void(const Json&)>& on_event = {});

  // ---- the API, as the CLI uses it; asks `via_` ----
  Result<Json> call(const std::string& method, const std::string& target,
                    const Json& body = nullptr);
  void make_dc(const std::string& name, const std::vector<std::string>& nodes = {"n1", "n2", "n3"});
  // The program's name comes first in `argv`, or the path of one that is not among the tests'.
  // Failures are the test's, with an empty Process.
  Process run(const std::string& dc, const std::string& node, int endpoint,
              std::vector<std::string> argv);
  // At an endpoint that DVS chooses.
  Process run(const std::string& dc, const std::string& node, std::vector<std::string> argv);
  Result<Json> try_run(const std::string& dc, const Json& body);
  void signal(const Process& process, int number);
  // `on_phase` is called, while the migration goes on, with the name of each phase that begins.
  Migration migrate(const Process& process, const std::string& target,
                    const std::function<void(const std::string&)>& on_phase = {});
  // The same, and fails the test unless it committed.
  void must_move(const Process& process, const std::string& target);
  // "up", "down" or "".
  std::string state_of(const std::string& node);
  Json processes(const std::string& dc);
  // The node and DC-wide pid of an endpoint's process; "" when there is none.
  std::pair<std::string, int> place(const Process& process);
  void arm(const std::string& node, const std::string& fault, bool stop = false);

  // ---- what programs say ----
  std::string log(const Process& process);
  // Waits until the log has `text`, from byte `from` on.
  bool wait_log(const Process& process, const std::string& text, size_t from = 0,
                std::chrono::milliseconds limit = 15s);
  // Stops a client and checks that it was content. Returns how many requests it made.
  int finish_client(const Process& client);
  void expect_done_client(const Process& client, int requests);
  // The endpoint answers: one more client, on `node`, is served.
  void expect_serves(const Process& server, const std::string& node);
  // The file behind its log, which can be read without dvsd; "" when it is not there.
  std::string log_file(const Process& process);
  // How many live processes of this cluster have its DC-wide pid, whatever the node.
  int copies(const Process& process);
  // Is there a process on that node whose command line has `text` in it?
  bool runs_on(const std::string& name, const std::string& text);
  // What was started for a migration that was refused, or is over, ends soon, on each node.
  void expect_nothing_prepared();
  static std::vector<pid_t> host_pids(const Process& process);

  // ---- faults ----
  // SIGKILL to the node's dvsd.
  void kill_dvsd(const std::string& node);
  // Waits until a dvsd other than `before` answers there.
  void await_dvsd(const std::string& node, pid_t before);
  void restart_dvsd(const std::string& node);
  // Power-off of the node, and a start with nothing of what it had.
  void power_off(const std::string& node);
  void power_on(const std::string& node);
  // Its network goes down, or comes back.
  void set_network(const std::string& node, bool up);
  // Waits until all nodes have links to each other.
  static void await_links();
  // A path on the node, as seen from here.
  std::string path_on(const std::string& node, const std::string& path);

  std::string via_ = "n1";
  Json how_ = Json::object();  // more for the body of migrate()'s request
  std::vector<std::string> dcs_;
  std::vector<Process> started_;

 private:
  static void expect_clean();
  void expect_content(const Process& process);
  static void show_logs();

  static std::string dir_;
  static std::string cluster_;
  static bool up_;
};

// Polls until `condition` holds; false when it does not within `limit`.
bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit = 15s);

// The text of an Error, or "" of a success: for failure messages.
template <typename T>
std::string why(const Result<T>& result) {
  return result.ok()
             ? ""
             : std::string(code_name(result.error().code())) + ": " + result.error().message();
}

}  // namespace dvs::integration

#define EXPECT_OK(expr) EXPECT_EQ(::dvs::integration::why(expr), "")
#define ASSERT_OK(expr) ASSERT_EQ(::dvs::integration::why(expr), "")
// The request was refused with this code and these words in its message.
#define EXPECT_REFUSED(expr, expected_code, words)                                         \
  do {                                                                                     \
    const auto refused_ = (expr);                                                          \
    ASSERT_FALSE(refused_.ok()) << "was not refused";                                      \
    EXPECT_EQ(::dvs::code_name(refused_.error().code()), ::dvs::code_name(expected_code)); \
    EXPECT_NE(refused_.error().message().find(words), std::string::npos)                   \
        << refused_.error().message();                                                     \
  } while (false)
