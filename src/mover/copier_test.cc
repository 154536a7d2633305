#include "mover/copier.h"

#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

// Keeps what it gets, page by page.
class Kept final : public PageSink {
 public:
  Status pages(pid_t dc_pid, uint64_t address, std::string_view bytes) override {
    for (size_t at = 0; at < bytes.size(); at += kPageSize) {
      memory[dc_pid][address + at] = bytes.substr(at, kPageSize);
    }
    return refuse ? Status(Error(Code::kUnavailable, "no more")) : Status();
  }
  Status drop(pid_t dc_pid, PageRange range) override {
    for (uint64_t at = range.start; at < range.end; at += kPageSize) memory[dc_pid].erase(at);
    return {};
  }
  // The page, zeros if it has none.
  std::string page(pid_t dc_pid, const void* address) {
    const auto found = memory[dc_pid].find(reinterpret_cast<uint64_t>(address));
    return found == memory[dc_pid].end() ? std::string(kPageSize, 0) : found->second;
  }

  std::map<pid_t, std::map<uint64_t, std::string>> memory;
  bool refuse = false;
};

constexpr pid_t kName = 4711;  // of the child where it goes

Round must(Result<Round> round) {
  if (!round.ok()) ADD_FAILURE() << round.error().message();
  return round.ok() ? *round : Round{};
}

std::string filled(char fill) { return std::string(kPageSize, fill); }

TEST(Copier, LaterRoundsBringWhatHasChanged) {
  char* memory = map_pages(8, 'x');
  Child child([&](Stages& stages) {
    stages.at(0);
    std::memset(memory + kPageSize, 'y', kPageSize);
    std::memset(memory + 2 * kPageSize, 0, kPageSize);
    ::madvise(memory + 3 * kPageSize, kPageSize, MADV_DONTNEED);
    stages.at(1);
    ::munmap(memory + 4 * kPageSize, kPageSize);
    std::memset(memory + 5 * kPageSize, 'z', kPageSize);
    stages.at(2);
  });
  Kept kept;
  Copier copier(kept);
  const std::vector<ProcessId> processes = {{child.pid(), kName}};
  ASSERT_TRUE(child.to(0));
  const Round first = must(copier.round(processes));
  EXPECT_EQ(first.changed_bytes, first.populated_bytes);
  for (int page = 0; page < 8; ++page) {
    EXPECT_EQ(kept.page(kName, memory + page * kPageSize), filled('x')) << page;
  }
  ASSERT_TRUE(child.to(1));
  const Round second = must(copier.round(processes));
  EXPECT_LT(second.changed_bytes, first.changed_bytes);
  EXPECT_GT(second.interval_ns, 0);
  EXPECT_EQ(kept.page(kName, memory), filled('x'));
  EXPECT_EQ(kept.page(kName, memory + kPageSize), filled('y'));
  EXPECT_EQ(kept.page(kName, memory + 2 * kPageSize), filled(0));
  EXPECT_EQ(kept.page(kName, memory + 3 * kPageSize), filled(0));
  ASSERT_TRUE(child.to(2));
  must(copier.last(processes));
  EXPECT_EQ(kept.memory[kName].count(reinterpret_cast<uint64_t>(memory + 4 * kPageSize)), 0u);
  EXPECT_EQ(kept.page(kName, memory + 5 * kPageSize), filled('z'));
  ::munmap(memory, 8 * kPageSize);
}

TEST(Copier, WithoutRoundsTheLastOneBringsAll) {
  char* memory = map_pages(4, 'x');
  Child child([&](Stages& stages) { stages.at(0); });
  Kept kept;
  Copier copier(kept);
  ASSERT_TRUE(child.to(0));
  const Round round = must(copier.last({{child.pid(), kName}}));
  EXPECT_GE(round.sent_bytes, 4 * kPageSize);
  EXPECT_EQ(kept.page(kName, memory + 3 * kPageSize), filled('x'));
  EXPECT_EQ(proc_file(child.pid(), "smaps").find(" uw "), std::string::npos) << "not watched";
  ::munmap(memory, 4 * kPageSize);
}

TEST(Copier, ProcessesComeAndGoBetweenRounds) {
  char* memory = map_pages(4, 'x');
  auto first = std::make_unique<Child>([&](Stages& stages) { stages.at(0); });
  Child second([&](Stages& stages) {
    std::memset(memory, 's', kPageSize);
    stages.at(0);
  });
  ASSERT_TRUE(first->to(0));
  ASSERT_TRUE(second.to(0));
  Kept kept;
  Copier copier(kept);
  const ProcessId one{first->pid(), 1};
  const ProcessId two{second.pid(), 2};
  must(copier.round({one}));
  must(copier.round({one, two}));
  first->end();
  must(copier.round({one, two}));  // it is in the list still
  must(copier.last({two}));
  EXPECT_EQ(kept.page(1, memory), filled('x'));
  EXPECT_EQ(kept.page(2, memory), filled('s'));
  ::munmap(memory, 4 * kPageSize);
}

// Another process that has the name of one that has gone inherits none of its pages.
TEST(Copier, ANameThatIsUsedAgainBeginsAnew) {
  char* memory = map_pages(4, 'x');
  auto first = std::make_unique<Child>([&](Stages& stages) { stages.at(0); });
  Child second([&](Stages& stages) {
    ::munmap(memory + 2 * kPageSize, 2 * kPageSize);
    stages.at(0);
  });
  ASSERT_TRUE(first->to(0));
  ASSERT_TRUE(second.to(0));
  Kept kept;
  Copier copier(kept);
  must(copier.round({{first->pid(), kName}}));
  first->end();
  must(copier.round({{second.pid(), kName}}));
  EXPECT_EQ(kept.page(kName, memory), filled('x'));
  EXPECT_EQ(kept.memory[kName].count(reinterpret_cast<uint64_t>(memory + 3 * kPageSize)), 0u);
  ::munmap(memory, 4 * kPageSize);
}

TEST(Copier, TheSinksErrorEndsTheRound) {
  char* memory = map_pages(4, 'x');
  Child child([&](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  Kept kept;
  kept.refuse = true;
  Copier copier(kept);
  const auto round = copier.round({{child.pid(), kName}});
  ASSERT_FALSE(round.ok());
  EXPECT_EQ(round.error().code(), Code::kUnavailable);
  ::munmap(memory, 4 * kPageSize);
}

}  // namespace
}  // namespace dvs::mover
