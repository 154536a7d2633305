// A node's dvsd dies, or the whole node, at each of the points of a migration (migrate/faults.h):
// whatever the outcome, there is one copy of the process afterwards, unless its node was lost;
// nothing stays under way, nobody is lied to, and it can be moved again.
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <set>
#include <thread>

#include "base/file.h"
#include "cluster_fixture.h"
#include "migrate/faults.h"

namespace dvs {
void PrintTo(const FaultPoint& point, std::ostream* out) { *out << point.name; }
}  // namespace dvs

namespace dvs::integration {
namespace {

// n3 has the roles that are not the source's or the target's.
std::string node_of(const FaultPoint& point) {
  return point.role == "source" ? "n1" : point.role == "target" ? "n2" : "n3";
}

bool is_about(const FaultPoint& point, std::string_view word) {
  return point.name.find(word) != std::string_view::npos;
}

// In which the point is come by.
Json way_of(const FaultPoint& point) {
  const int slow = 1 << 20;  // some seconds of what is owed
  if (is_about(point, "copying")) return {{"algorithm", "pre-copy"}};
  if (is_about(point, "source-dies-keeping") || is_about(point, "filling")) {
    return {{"algorithm", "on-demand"}, {"bandwidth", slow}};
  }
  if (point.role == "keeper") return {{"algorithm", "file-server"}, {"file_server", "n3"}};
  return {{"algorithm", "total-copy"}};
}

class CrashPoints : public ClusterTest, public testing::WithParamInterface<FaultPoint> {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    via_ = "n3";
    make_dc("lab");
    server_ = run("lab", "n1", 5, {"echo_server"});
    ASSERT_TRUE(wait_log(server_, "ready"));
    how_ = way_of(GetParam());
    newest_before_ = newest()["id"];
  }
  void arm_point(bool stop) {
    if (is_about(GetParam(), "rolled-back")) arm("n2", "restore");
    arm(node_of(GetParam()), std::string(GetParam().name), stop);
  }
  // Has every migration an outcome, which is carried out?
  void expect_nothing_under_way() {
    EXPECT_TRUE(eventually(
        [&] {
          const auto list = call("GET", "/v1/migrations");
          if (!list.ok()) return false;
          const Json& all = list->at("migrations");
          return std::all_of(all.begin(), all.end(), [](const Json& each) {
            return each["state"] != "copying" && each["state"] != "active" &&
                   each["memory"] != "owed";
          });
        },
        30s))
        << call("GET", "/v1/migrations")->dump();
  }
  // Of all migrations of this cluster, which has been through other tests before.
  Json newest() {
    const auto list = call("GET", "/v1/migrations");
    const bool any = list.ok() && !list->at("migrations").empty();
    return any ? list->at("migrations").at(0) : Json{{"id", ""}, {"state", ""}};
  }
  // Where the migration has left it; "n1" if none was written.
  std::string holder() {
    const Json last = newest();
    return last["id"] != newest_before_ && last["state"] == "committed" ? "n2" : "n1";
  }
  void expect_one_copy_at(const std::string& node) {
    EXPECT_TRUE(eventually([&] {
      return copies(server_) == 1 && place(server_) == std::make_pair(node, server_.pid);
    })) << copies(server_)
        << " copies, the directory says " << place(server_).first << ", not " << node;
  }

  Process server_;
  std::string newest_before_;
};

TEST_P(CrashPoints, DvsdDies) {
  const std::string victim = node_of(GetParam());
  const pid_t dvsd = node(victim).dvsd_pid;
  std::vector<Process> clients;
  for (const char* node : {"n1", "n2", "n3"}) {
    clients.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
  }
  for (const Process& client : clients) ASSERT_TRUE(wait_log(client, "going"));
  arm_point(false);
  const auto end = migrate(server_, "n2");
  if (GetParam().kind == FaultKind::kDies) {
    ASSERT_NO_FATAL_FAILURE(await_dvsd(victim, dvsd)) << "or the point was not come by";
  } else {
    EXPECT_EQ(end.ok(), GetParam().fault != Fault::kPreflight) << "that refuses";
    if (end.ok()) {
      EXPECT_EQ(end->at("state"), "rolledback") << end->dump();
      EXPECT_NE(end->at("reason"), "") << end->dump();
    }
  }
  expect_nothing_under_way();
  expect_one_copy_at(holder());
  expect_nothing_prepared();
  for (const Process& client : clients) EXPECT_GT(finish_client(client), 20);
  how_ = Json::object();
  await_links();
  must_move(server_, holder() == "n1" ? "n2" : "n1");
  EXPECT_EQ(copies(server_), 1);
}

// The whole node goes, at that moment.
class NodeLosses : public CrashPoints {
 protected:
  // Its dvsd has come to the point, and stopped.
  bool has_stopped(pid_t dvsd) {
    const auto stat = read_file("/proc/" + std::to_string(dvsd) + "/stat");
    return stat.ok() && stat->find(") T ") != std::string::npos;
  }
  bool is_lost() {
    return eventually([&] { return copies(server_) == 0 && place(server_).first.empty(); }, 30s);
  }
};

TEST_P(NodeLosses, NodeIsLost) {
  const std::string victim = node_of(GetParam());
  const pid_t dvsd = node(victim).dvsd_pid;
  how_["patience_ms"] = 1000;
  arm_point(true);
  std::string refused;
  std::thread moving([&] { refused = why(migrate(server_, "n2")); });
  const bool stopped = eventually([&] { return has_stopped(dvsd); });
  power_off(victim);
  moving.join();
  ASSERT_TRUE(stopped) << "the point was not come by: " << refused;
  via_ = victim == "n3" ? "n1" : "n3";
  expect_nothing_under_way();
  const bool lost = holder() == victim || is_about(GetParam(), "source-dies-keeping");
  if (lost) {
    EXPECT_TRUE(is_lost()) << copies(server_) << " copies, " << place(server_).first;
  } else {
    expect_one_copy_at(holder());
    for (const char* node : {"n1", "n2", "n3"}) {
      if (node != victim) expect_serves(server_, node);
    }
  }
  power_on(victim);
  if (lost) return;
  how_ = Json::object();
  must_move(server_, holder() == "n1" ? "n2" : "n1");
  EXPECT_EQ(copies(server_), 1);
}

// DVS_ALL: at every point. Each takes as long as it takes to know that a node is lost; without, at
// those after which something else has to be done.
std::vector<FaultPoint> losses() {
  const std::set<Fault> some = {Fault::kSourceDiesCopying,   Fault::kSourceDiesSent,
                                Fault::kSourceDiesKeeping,   Fault::kTargetDiesRestored,
                                Fault::kTargetDiesCommitted, Fault::kCoordinatorDiesStarted,
                                Fault::kKeeperDiesKeeping};
  std::vector<FaultPoint> points;
  for (const FaultPoint& point : kFaultPoints) {
    const bool wanted = std::getenv("DVS_ALL") != nullptr || some.count(point.fault) != 0;
    if (point.kind == FaultKind::kDies && wanted) points.push_back(point);
  }
  return points;
}

std::string name_of(const testing::TestParamInfo<FaultPoint>& test) {
  std::string name(test.param.name);
  name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
  return name;
}

INSTANTIATE_TEST_SUITE_P(At, CrashPoints, testing::ValuesIn(kFaultPoints), name_of);
INSTANTIATE_TEST_SUITE_P(At, NodeLosses, testing::ValuesIn(losses()), name_of);

}  // namespace
}  // namespace dvs::integration
