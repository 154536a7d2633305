// A node's dvsd dies, or the whole node, or somebody cancels, at each of the points of a migration
// (migrate/faults.h): whatever the outcome, there is one copy of the process afterwards, unless its
// node was lost; nothing stays under way, nobody is lied to, and it can be moved again.
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
  return point.role == MigrationRole::kSource   ? "n1"
         : point.role == MigrationRole::kTarget ? "n2"
                                                : "n3";
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
  if (point.role == MigrationRole::kKeeper)
    return {{"algorithm", "file-server"}, {"file_server", "n3"}};
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
    if (wants_failure(GetParam())) arm("n2", "restore");
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
  // Whoever is at the point has come to it, and has stopped.
  static bool has_stopped(pid_t dvsd) {
    const auto stat = read_file("/proc/" + std::to_string(dvsd) + "/stat");
    return stat.ok() && stat->find(") T ") != std::string::npos;
  }
  std::vector<Process> clients_everywhere() {
    std::vector<Process> clients;
    for (const char* node : {"n1", "n2", "n3"}) {
      clients.push_back(run("lab", node, {"client", "5", "1", "0", "500"}));
    }
    for (const Process& client : clients) EXPECT_TRUE(wait_log(client, "going"));
    return clients;
  }
  void expect_all_is_well(const std::vector<Process>& clients) {
    expect_nothing_under_way();
    expect_one_copy_at(holder());
    expect_nothing_prepared();
    for (const Process& client : clients) EXPECT_GT(finish_client(client), 20);
    how_ = Json::object();
    await_links();
    must_move(server_, holder() == "n1" ? "n2" : "n1");
    EXPECT_EQ(copies(server_), 1);
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
  const auto clients = clients_everywhere();
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
  expect_all_is_well(clients);
}

// Somebody cancels it while a dvsd stands still there: it has learned of nothing, and goes on.
class Cancels : public CrashPoints {
 protected:
  // Asks the others. False: it was refused, since there is none, or it is decided.
  bool cancel_newest() {
    via_ = node_of(GetParam()) == "n3" ? "n1" : "n3";
    const std::string id = newest()["id"];
    const bool canceled = id != newest_before_ &&
                          call("POST", "/v1/migrations/" + id + "/cancel", Json::object()).ok();
    via_ = "n3";
    return canceled;
  }
};

// Nothing is decided as long as that dvsd stands still there: it cannot come too late.
bool holds_it_up(const FaultPoint& point) {
  if (!is_undecided(point.phase)) return false;
  return (point.role == MigrationRole::kSource && point.phase != Phase::kWaiting) ||
         (point.role == MigrationRole::kTarget && point.phase != Phase::kDeciding) ||
         point.role == MigrationRole::kKeeper;
}

TEST_P(Cancels, ByAnotherNode) {
  const pid_t dvsd = node(node_of(GetParam())).dvsd_pid;
  const auto clients = clients_everywhere();
  arm_point(true);
  Migration end = Error(Code::kInternal, "");
  std::thread moving([&] { end = migrate(server_, "n2"); });
  const bool stopped = eventually([&] { return has_stopped(dvsd); });
  const bool canceled = stopped && cancel_newest();
  ::kill(dvsd, SIGCONT);
  moving.join();
  ASSERT_TRUE(stopped) << "the point was not come by: " << why(end);
  ASSERT_TRUE(end.ok()) << why(end);
  EXPECT_TRUE(canceled || !holds_it_up(GetParam()));
  if (canceled) {
    EXPECT_EQ(end->at("state"), "rolledback") << end->dump();
    EXPECT_EQ(end->at("reason"), "canceled") << end->dump();
  }
  expect_all_is_well(clients);
}

// The whole node goes, at that moment.
class NodeLosses : public CrashPoints {
 protected:
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

std::vector<FaultPoint> where_somebody_dies() {
  std::vector<FaultPoint> points;
  for (const FaultPoint& point : kFaultPoints) {
    if (point.kind == FaultKind::kDies) points.push_back(point);
  }
  return points;
}

// DVS_ALL: at every point. Each takes as long as it takes to know that a node is lost; without, at
// those after which something else has to be done.
std::vector<FaultPoint> losses() {
  const std::set<Fault> some = {Fault::kSourceDiesCopying,   Fault::kSourceDiesSent,
                                Fault::kSourceDiesKeeping,   Fault::kTargetDiesRestored,
                                Fault::kTargetDiesCommitted, Fault::kCoordinatorDiesStarted,
                                Fault::kKeeperDiesKeeping};
  std::vector<FaultPoint> points;
  for (const FaultPoint& point : where_somebody_dies()) {
    const bool wanted = std::getenv("DVS_ALL") != nullptr || some.count(point.fault) != 0;
    if (wanted) points.push_back(point);
  }
  return points;
}

std::string name_of(const testing::TestParamInfo<FaultPoint>& test) {
  std::string name(test.param.name);
  name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
  return name;
}

INSTANTIATE_TEST_SUITE_P(At, CrashPoints, testing::ValuesIn(kFaultPoints), name_of);
INSTANTIATE_TEST_SUITE_P(At, Cancels, testing::ValuesIn(where_somebody_dies()), name_of);
INSTANTIATE_TEST_SUITE_P(At, NodeLosses, testing::ValuesIn(losses()), name_of);

}  // namespace
}  // namespace dvs::integration
