#include "mover/copier.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
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
  Status owe(pid_t dc_pid, const PageRanges& ranges) override {
    for (const PageRange& range : ranges) owed[dc_pid].add(range);
    return {};
  }
  bool is_owed(pid_t dc_pid, const void* address) {
    return owed[dc_pid].contains(reinterpret_cast<uint64_t>(address));
  }
  // The page, zeros if it has none.
  std::string page(pid_t dc_pid, const void* address) {
    const auto found = memory[dc_pid].find(reinterpret_cast<uint64_t>(address));
    return found == memory[dc_pid].end() ? std::string(kPageSize, 0) : found->second;
  }

  std::map<pid_t, std::map<uint64_t, std::string>> memory;
  std::map<pid_t, PageSet> owed;
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

TEST(Copier, WithoutABudgetEverythingIsOwed) {
  char* memory = map_pages(4, 'x');
  Child child([&](Stages& stages) { stages.at(0); });
  Kept kept;
  Copier copier(kept);
  ASSERT_TRUE(child.to(0));
  const Round last = must(copier.last({{child.pid(), kName}}, 0));
  EXPECT_EQ(last.owed_bytes, last.populated_bytes);
  EXPECT_EQ(last.sent_bytes, 0u);
  for (int page = 0; page < 4; ++page) {
    EXPECT_TRUE(kept.is_owed(kName, memory + page * kPageSize)) << page;
  }
  EXPECT_TRUE(kept.memory[kName].empty());
  EXPECT_TRUE(copier.stored()[kName].empty());
  ::munmap(memory, 4 * kPageSize);
}

TEST(Copier, WithABudgetWhatChangesAgainAndAgainIsSentAndTheRestOwed) {
  constexpr int kPages = 1024;
  char* memory = map_pages(kPages, 'x');
  Child child([&](Stages& stages) {
    stages.at(0);
    std::memset(memory, 'a', 8 * kPageSize);
    stages.at(1);
    std::memset(memory, 'b', 8 * kPageSize);
    std::memset(memory + 512 * kPageSize, 'b', 512 * kPageSize);
    stages.at(2);
  });
  Kept kept;
  Copier copier(kept);
  const std::vector<ProcessId> processes = {{child.pid(), kName}};
  ASSERT_TRUE(child.to(0));
  must(copier.round(processes));
  ASSERT_TRUE(child.to(1));
  must(copier.round(processes));
  ASSERT_TRUE(child.to(2));
  const Round last = must(copier.last(processes, 256 * kPageSize));
  EXPECT_GE(last.owed_bytes, 512 * kPageSize);
  EXPECT_LE(last.sent_bytes, 256 * kPageSize);
  for (int page = 0; page < kPages; ++page) {
    const char* at = memory + page * kPageSize;
    EXPECT_EQ(kept.is_owed(kName, at), page >= 512) << page;
    if (page >= 512) continue;
    EXPECT_EQ(kept.page(kName, at), filled(page < 8 ? 'b' : 'x')) << page;
  }
  ::munmap(memory, kPages * kPageSize);
}

// What a random program does to its memory between two looks, on 12 MiB with whole page tables.
constexpr size_t kArena = 12 << 20;
// What the process does takes a hundred times as long under a sanitizer.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kTrials = 1;
constexpr int kLooks = 1;
#else
constexpr int kTrials = 4;
constexpr int kLooks = 4;
#endif

void disturb(char* arena, std::mt19937& random) {
  constexpr int kOften = 40;
  for (int i = 0; i < kOften; ++i) {
    const size_t size =
        random() % 3 == 0 ? (random() % 4 + 1) << 20 : (random() % 8 + 1) * kPageSize;
    size_t at = random() % (kArena - size) / kPageSize * kPageSize;
    if (random() % 3 == 0) at = at / (2 << 20) * (2 << 20);
    char* const start = arena + at;
    constexpr int kProt = PROT_READ | PROT_WRITE;
    switch (random() % 6) {
      case 0:
        ::madvise(start, size, MADV_DONTNEED);
        break;
      case 1:
        ::mmap(start, size, kProt, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        break;
      case 2:
        ::mprotect(start, size, PROT_READ);
        ::mprotect(start, size, kProt);
        break;
      default:
        for (size_t page = 0; page < size; page += kPageSize * (1 + random() % 3)) {
          start[page + random() % kPageSize] = static_cast<char>(random());
        }
    }
  }
}

// Compares all of the arena with what was kept of it.
void expect_kept(Kept& kept, pid_t pid, const char* arena, const char* what) {
  auto reader = Reader::open(pid);
  ASSERT_TRUE(reader.ok());
  std::string actual(kArena, 0);
  const auto start = reinterpret_cast<uint64_t>(arena);
  ASSERT_TRUE(reader->read({{start, start + kArena}}, actual.data()).ok());
  for (size_t at = 0; at < kArena; at += kPageSize) {
    ASSERT_EQ(kept.page(kName, arena + at) == std::string_view(actual).substr(at, kPageSize), true)
        << what << ": page " << at / kPageSize;
  }
}

TEST(Copier, NothingIsMissedWhateverTheProcessDoes) {
  std::mt19937 seeds(4711);
  for (int trial = 0; trial < kTrials; ++trial) {
    const unsigned seed = seeds();
    SCOPED_TRACE(seed);
    void* raw = ::mmap(nullptr, kArena + (2 << 20), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char* arena = reinterpret_cast<char*>((reinterpret_cast<uint64_t>(raw) + (2 << 20) - 1) &
                                          ~((2ull << 20) - 1));
    Child child([&](Stages& stages) {
      std::mt19937 random(seed);
      std::memset(arena, 'x', kArena);
      for (int stage = 0; stage < kLooks; ++stage) {
        stages.at(stage);
        disturb(arena, random);
      }
      stages.at(kLooks);
    });
    Kept kept;
    Copier copier(kept);
    const std::vector<ProcessId> processes = {{child.pid(), kName}};
    for (int stage = 0; stage < kLooks; ++stage) {
      ASSERT_TRUE(child.to(stage));
      must(copier.round(processes));
      expect_kept(kept, child.pid(), arena, "a round");
    }
    ASSERT_TRUE(child.to(kLooks));
    must(copier.last(processes));
    expect_kept(kept, child.pid(), arena, "the last");
    ::munmap(raw, kArena + (2 << 20));
  }
}

}  // namespace
}  // namespace dvs::mover
