// `dvs up`, `dvs node join`, `dvs down`, with programs that stand for dvsd.
#include <gtest/gtest.h>

#include "cli_fixture.h"

namespace dvs::cli {
namespace {

class ClusterCliTest : public CliTest {
 protected:
  ClusterCliTest() {
    if (::geteuid() != 0) return;
    const std::string built = bin_dir_;
    bin_dir_ = dir_ + "/bin";
    std::filesystem::create_directory(bin_dir_);
    for (const char* program : {"dvs", "dvs-local"}) {
      std::filesystem::copy(built + "/" + program, bin_dir_ + "/" + program);
    }
    std::filesystem::copy(built + "/fake_dvsd", bin_dir_ + "/dvsd");
    std::filesystem::copy(built + "/fake_dvsd", bin_dir_ + "/dvs-container");
  }
  ~ClusterCliTest() override {
    if (::geteuid() == 0) dvs({"down"});
  }
  void SetUp() override { ASSERT_EQ(::geteuid(), 0u) << "needs root"; }
};

TEST_F(ClusterCliTest, GoesUpGrowsAndGoesDown) {
  const auto up = dvs({"up", "--nodes", "1", "--json"});
  ASSERT_EQ(up.status, 0) << up.err;
  EXPECT_EQ(up.err, "") << "no progress for programs";
  const Json nodes = Json::parse(up.out).at("nodes");
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].at("name"), "n1");
  EXPECT_TRUE(std::filesystem::is_socket(nodes[0].at("socket").get<std::string>()));

  const auto again = dvs({"up"});
  EXPECT_EQ(again.status, 3);
  EXPECT_NE(again.err.find("dvs: cannot start a cluster: "), std::string::npos) << again.err;

  EXPECT_EQ(dvs({"node", "join", "n2"}).out, "n2 has joined the cluster.\n");
  EXPECT_EQ(dvs({"node", "join", "n2"}).status, 3);
  EXPECT_EQ(dvs({"node", "ls"}, {"DVS_SOCKET="}).status, 0) << "a node of it must be found";

  EXPECT_EQ(dvs({"down"}).status, 0);
  EXPECT_EQ(dvs({"node", "ls"}, {"DVS_SOCKET="}).status, 6);
  EXPECT_EQ(dvs({"node", "join", "n3"}).status, 3);
  EXPECT_EQ(dvs({"down"}).status, 0) << "nothing there is fine";
}

}  // namespace
}  // namespace dvs::cli
