// Processes with much memory, which notice each word of it that is wrong.
#pragma once

#include "base/file.h"
#include "cluster_fixture.h"
#include "directory/records.h"

namespace dvs::integration {

class MemoryTest : public ClusterTest {
 protected:
  static void SetUpTestSuite() {
    local::UpOptions options;
    options.run_bytes = 2ull << 30;
    start_cluster(options);
  }

  // Three threads, each with `pages` of its own and mappings that come and go.
  Process start_writer(int pages) {
    Process writer = run("lab", "n1", 5, {"memory", "3", std::to_string(pages)});
    EXPECT_TRUE(wait_log(writer, "going"));
    return writer;
  }

  // Its threads are at work, and say nothing against their memory.
  void expect_writes(const Process& writer) {
    expect_answers(writer);
    EXPECT_EQ(copies(writer), 1);
  }
  void expect_answers(const Process& writer) {
    const Process asker = run(writer.dc, "n3", {"asker", std::to_string(writer.endpoint), "1"});
    EXPECT_TRUE(wait_log(asker, "answer 0 "));
    EXPECT_EQ(log(writer).find("BAD"), std::string::npos) << log(writer);
  }

  Json move(const Process& process, const std::string& target,
            const std::function<void(const std::string&)>& on_phase = {}) {
    auto record = migrate(process, target, on_phase);
    EXPECT_OK(record);
    return record.ok() ? *record : to_json(MigrationRecord{});
  }

  // Of the process: does a tracker of ours watch some of its memory?
  static bool is_tracked(const Process& process) {
    bool tracked = false;
    for (const pid_t pid : host_pids(process)) {
      const auto smaps = read_file("/proc/" + std::to_string(pid) + "/smaps");
      tracked |= smaps.ok() && smaps->find(" uw ") != std::string::npos;
    }
    return tracked;
  }
};

}  // namespace dvs::integration
