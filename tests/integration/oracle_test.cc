// A process that notices each wrong word of its memory goes round and round by each algorithm, and
// nothing is left behind. DVS_MOVES (12) says how often, for each: `make oracle MOVES=1000`.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "memory_fixture.h"

namespace dvs::integration {
namespace {

namespace fs = std::filesystem;

int moves_asked() {
  const char* text = std::getenv("DVS_MOVES");
  return text == nullptr ? 12 : std::atoi(text);
}

size_t entries_of(const std::string& directory) {
  const auto list = list_dir(directory);
  return list.ok() ? list->size() : 0;
}

// What must not grow, of one node.
struct Footprint {
  size_t descriptors = 0;  // of dvsd
  size_t processes = 0;
  size_t mounts = 0;
  size_t files = 0;  // below /run
  // A connection or two come and go.
  bool operator==(const Footprint& other) const {
    const auto apart =
        std::max(descriptors, other.descriptors) - std::min(descriptors, other.descriptors);
    return apart <= 2 && processes == other.processes && mounts == other.mounts &&
           files == other.files;
  }
};

std::ostream& operator<<(std::ostream& out, const Footprint& it) {
  return out << it.descriptors << " descriptors, " << it.processes << " processes, " << it.mounts
             << " mounts, " << it.files << " files";
}

class Oracle : public MemoryTest, public testing::WithParamInterface<const char*> {
 protected:
  static uint64_t resident_kib(pid_t pid) {
    const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
    const size_t at = status.ok() ? status->find("VmRSS:") : std::string::npos;
    return at == std::string::npos ? 0 : std::strtoull(status->c_str() + at + 6, nullptr, 10);
  }

  static std::vector<local::NodeInfo> nodes() {
    auto info = local::info(dir());
    return info.ok() ? info->nodes : std::vector<local::NodeInfo>{};
  }

  std::vector<Footprint> footprints() {
    std::vector<Footprint> all;
    for (const local::NodeInfo& node : nodes()) {
      Footprint one;
      const std::string dvsd = "/proc/" + std::to_string(node.dvsd_pid);
      one.descriptors = entries_of(dvsd + "/fd");
      for (const auto& name : fs::directory_iterator(path_on(node.name, "/proc"))) {
        one.processes +=
            name.path().filename().string().find_first_not_of("0123456789") == std::string::npos;
      }
      const auto mounts = read_file(dvsd + "/mounts");
      one.mounts =
          mounts.ok() ? static_cast<size_t>(std::count(mounts->begin(), mounts->end(), '\n')) : 0;
      for (const auto& file : fs::recursive_directory_iterator(path_on(node.name, "/run/dvs"))) {
        one.files += file.path().filename() != "log" ? 1u : 0u;
      }
      all.push_back(one);
    }
    return all;
  }

  uint64_t resident_kib() {
    uint64_t sum = 0;
    for (const local::NodeInfo& node : nodes()) sum += resident_kib(node.dvsd_pid);
    return sum;
  }

  void go_round(const Process& writer, int from, int moves) {
    const char* const names[] = {"n1", "n2", "n3"};
    how_ = {{"algorithm", GetParam()}};
    for (int i = from; i < from + moves; ++i) {
      const std::string target = names[(i + 1) % 3];
      if (how_["algorithm"] == "file-server") how_["file_server"] = names[(i + 2) % 3];
      via_ = names[i % 2];
      const Json record = move(writer, target);
      ASSERT_EQ(record["state"], "committed") << "move " << i << ": " << record;
      ASSERT_EQ(record["memory"], "here") << "move " << i << ": " << record;
      if (i % 50 == 49) std::cout << GetParam() << ": " << i + 1 << " moves" << std::endl;
    }
  }
};

TEST_P(Oracle, NotOneWrongWordAndNothingIsLeftBehind) {
  make_dc("lab");
  const Process writer = start_writer(1000);  // 12 MiB
  const int warm_up = 6;
  go_round(writer, 0, warm_up);
  if (HasFatalFailure()) return;
  expect_writes(writer);
  std::vector<Footprint> before;
  ASSERT_TRUE(eventually([&] {
    const auto now = footprints();
    return std::exchange(before, now) == now;
  }));
  const uint64_t memory_before = resident_kib();
  go_round(writer, warm_up, moves_asked() / 3 * 3);
  if (HasFatalFailure()) return;
  std::vector<Footprint> after;
  const bool same = eventually([&] { return (after = footprints()) == before; });
  EXPECT_TRUE(same) << testing::PrintToString(before) << "\n became "
                    << testing::PrintToString(after);
  expect_writes(writer);
  // Each migration's record is kept, by each node and the directory's copy in it.
  EXPECT_LT(resident_kib(), memory_before + 4096 + 24 * static_cast<uint64_t>(moves_asked()));
}

INSTANTIATE_TEST_SUITE_P(Algorithms, Oracle,
                         testing::Values("total-copy", "pre-copy", "on-demand", "file-server",
                                         "non-freezing", "auto"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
                           return name;
                         });

}  // namespace
}  // namespace dvs::integration
