// A cluster whose links are inside TLS.
#include <unistd.h>

#include "base/file.h"
#include "cluster_fixture.h"

namespace dvs::integration {
namespace {

class Tls : public ClusterTest {
 protected:
  static void SetUpTestSuite() {
    local::UpOptions options;
    options.tls = true;
    start_cluster(options);
  }
};

TEST_F(Tls, AServerWithClientsNearAndFarMoves) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process near = run("lab", "n1", {"client", "5", "1", "0", "0"});
  const Process far = run("lab", "n2", {"client", "5", "1", "0", "0"});
  ASSERT_TRUE(wait_log(near, "going"));
  ASSERT_TRUE(wait_log(far, "going"));
  must_move(server, "n2");
  must_move(server, "n3");
  EXPECT_GT(finish_client(near), 20);
  EXPECT_GT(finish_client(far), 20);
  EXPECT_EQ(copies(server), 1);
}

TEST_F(Tls, ADvsdThatRestartsComesBack) {
  make_dc("lab");
  const Process server = run("lab", "n1", 5, {"echo_server"});
  const Process client = run("lab", "n2", {"client", "5", "1", "0", "0"});
  ASSERT_TRUE(wait_log(client, "going"));
  restart_dvsd("n1");
  await_links();
  must_move(server, "n2");
  EXPECT_GT(finish_client(client), 20);
}

TEST_F(Tls, ANodeThatJoinsIsCertified) {
  ASSERT_OK(local::join(dir(), "n4"));
  await_links();
  make_dc("lab", {"n1", "n4"});
  const Process server = run("lab", "n1", 5, {"echo_server"});
  must_move(server, "n4");
  EXPECT_EQ(place(server).first, "n4");
}

}  // namespace
}  // namespace dvs::integration
