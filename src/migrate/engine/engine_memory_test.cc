// Dumps that leave memory alone, and their restores. Needs root, namespaces, a freezer cgroup,
// criu.
#include <gtest/gtest.h>

#include "container/process_ids.h"
#include "migrate/engine/testing/engine_fixture.h"

namespace dvs::testing {
namespace {

class MemoryApartTest : public EngineTest {
 protected:
  static std::vector<mover::ProcessId> processes(const TestNode& node) {
    std::vector<mover::ProcessId> result;
    const auto threads = threads_of_cgroup(node.cgroup());
    for (const ThreadIds& ids : threads.ok() ? *threads : std::vector<ThreadIds>{}) {
      if (ids.host_pid == ids.host_tid) result.push_back({ids.host_pid, ids.dc_pid});
    }
    return result;
  }

  Result<DumpResult> dump_apart(const TestNode& node, pid_t pid) {
    return await<DumpResult>([&](auto done) {
      engine_->dump({node.site(kImages), pid, node.cgroup(), true, processes(node)},
                    std::move(done));
    });
  }
};

TEST_F(MemoryApartTest, ImagesAreSmallAndTheProcessGoesOn) {
  TestNode source("source");
  const pid_t pid = start(source, "big");  // 64 MiB
  source.freeze();
  auto dumped = dump_apart(source, pid);
  ASSERT_TRUE(dumped.ok()) << dumped.error().message();
  EXPECT_LT(dumped->image_bytes, 4u << 20);
  EXPECT_TRUE(source.frozen());
  std::printf("%f ms, %lu\n", dumped->duration_ns / 1e6, dumped->image_bytes);
  source.thaw();
  EXPECT_TRUE(counts(source, 0));
}

}  // namespace
}  // namespace dvs::testing
