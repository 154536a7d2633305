#include "mover/tracker.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ptrace.h>

#include <algorithm>
#include <thread>

#include "mover/soft_dirty.h"
#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

std::unique_ptr<Tracker> must_track(pid_t pid) {
  auto tracker = track(pid, TrackMethod::kWriteProtect);
  if (!tracker.ok()) ADD_FAILURE() << tracker.error().message();
  return tracker.ok() ? std::move(*tracker) : nullptr;
}

Look must_look(Tracker& tracker) {
  auto look = tracker.look();
  if (!look.ok()) ADD_FAILURE() << look.error().message();
  return look.ok() ? std::move(*look) : Look{};
}

// What of `ranges` is in `window`, counted in pages from its start.
std::vector<size_t> pages_in(const PageRanges& ranges, PageRange window) {
  std::vector<size_t> pages;
  for (const PageRange& range : intersect(ranges, {window})) {
    for (uint64_t at = range.start; at < range.end; at += kPageSize) {
      pages.push_back((at - window.start) / kPageSize);
    }
  }
  return pages;
}

using Pages = std::vector<size_t>;

bool is_registered(pid_t pid) { return proc_file(pid, "smaps").find(" uw ") != std::string::npos; }

TEST(Tracker, ThisKernelHasWhatTheTestsNeed) {
  EXPECT_TRUE(probe_tracking().write_protect) << "Linux 6.7 or newer is needed";
}

TEST(Tracker, TellsWhichPagesWereWritten) {
  char* memory = map_pages(8, 'x');
  Child child([&](Stages& stages) {
    stages.at(0);
    memory[1 * kPageSize] = 'a';
    memory[2 * kPageSize + 4095] = 'b';
    memory[5 * kPageSize + 7] = 'c';
    stages.at(1);
    stages.value[0] = static_cast<uint64_t>(memory[3 * kPageSize]);  // only reads
    stages.at(2);
    memory[1 * kPageSize] = 'a';  // the same again is a write, too
    stages.at(3);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  const PageRange window = pages_at(memory, 0, 8);
  const Look first = must_look(*tracker);
  EXPECT_EQ(pages_in(first.mapped, window).size(), 8u);
  EXPECT_EQ(pages_in(first.populated, window).size(), 8u);
  EXPECT_EQ(pages_in(first.changed, window).size(), 8u) << "at first everything is new";
  ASSERT_TRUE(child.to(1));
  const Look second = must_look(*tracker);
  EXPECT_EQ(pages_in(second.changed, window), (Pages{1, 2, 5}));
  EXPECT_EQ(pages_in(second.populated, window).size(), 8u);
  ASSERT_TRUE(child.to(2));
  EXPECT_EQ(pages_in(must_look(*tracker).changed, window), Pages{});
  ASSERT_TRUE(child.to(3));
  EXPECT_EQ(pages_in(must_look(*tracker).changed, window), Pages{1});
  ::munmap(memory, 8 * kPageSize);
}

// More regions than the kernel's buffer has room for, and than ours.
TEST(Tracker, ManySmallRegions) {
  for (const size_t written : {300u, 1500u, 6000u}) {
    char* memory = map_pages(2 * written, 'x');
    Child child([&](Stages& stages) {
      stages.at(0);
      for (size_t i = 0; i < written; ++i) memory[2 * i * kPageSize] = 'w';
      stages.at(1);
    });
    ASSERT_TRUE(child.to(0));
    const auto tracker = must_track(child.pid());
    ASSERT_TRUE(tracker);
    must_look(*tracker);
    ASSERT_TRUE(child.to(1));
    const PageRange window = pages_at(memory, 0, 2 * written);
    const Look look = must_look(*tracker);
    const Pages changed = pages_in(look.changed, window);
    ASSERT_EQ(changed.size(), written);
    for (size_t i = 0; i < written; ++i) ASSERT_EQ(changed[i], 2 * i);
    EXPECT_EQ(pages_in(look.populated, window).size(), 2 * written);
    ::munmap(memory, 2 * written * kPageSize);
  }
}

// As when the process has called read(2) on a page.
TEST(Tracker, SeesWhatTheKernelWrites) {
  char* memory = map_pages(4, 'x');
  Child child([&](Stages& stages) {
    const int zero = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
    stages.at(0);
    stages.value[0] = static_cast<uint64_t>(::read(zero, memory + 2 * kPageSize, 100));
    stages.at(1);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  must_look(*tracker);
  ASSERT_TRUE(child.to(1));
  EXPECT_EQ(child.stages().value[0], 100u);
  EXPECT_EQ(pages_in(must_look(*tracker).changed, pages_at(memory, 0, 4)), Pages{2});
  ::munmap(memory, 4 * kPageSize);
}

TEST(Tracker, MappingsComeAndGo) {
  char* area = map_pages(32, 0, PROT_NONE);
  const auto map_at = [&](size_t page, size_t count) {
    ::mmap(area + page * kPageSize, count * kPageSize, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  };
  Child child([&](Stages& stages) {
    map_at(0, 8);
    for (size_t i = 0; i < 8; ++i) area[i * kPageSize] = 'x';
    stages.at(0);
    map_at(16, 8);  // new, two pages of it populated
    area[17 * kPageSize] = 'n';
    area[20 * kPageSize] = 'n';
    ::madvise(area + 2 * kPageSize, kPageSize, MADV_DONTNEED);
    ::munmap(area + 6 * kPageSize, 2 * kPageSize);  // shrinks
    stages.at(1);
    map_at(0, 4);  // another in its place, one page populated
    area[3 * kPageSize] = 'y';
    stages.at(2);
    // Moves with its pages, which were seen where they came from.
    ::mremap(area + 16 * kPageSize, 8 * kPageSize, 8 * kPageSize, MREMAP_MAYMOVE | MREMAP_FIXED,
             area + 24 * kPageSize);
    stages.at(3);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  const PageRange window = pages_at(area, 0, 32);
  Look look = must_look(*tracker);
  EXPECT_EQ(pages_in(look.populated, window), (Pages{0, 1, 2, 3, 4, 5, 6, 7}));

  ASSERT_TRUE(child.to(1));
  look = must_look(*tracker);
  EXPECT_EQ(pages_in(look.changed, window), (Pages{17, 20}));
  EXPECT_EQ(pages_in(look.populated, window), (Pages{0, 1, 3, 4, 5, 17, 20}));
  EXPECT_EQ(pages_in(look.mapped, pages_at(area, 6, 2)), Pages{});

  ASSERT_TRUE(child.to(2));
  look = must_look(*tracker);
  EXPECT_EQ(pages_in(look.changed, window), Pages{3});
  EXPECT_EQ(pages_in(look.populated, window), (Pages{3, 4, 5, 17, 20}));

  ASSERT_TRUE(child.to(3));
  look = must_look(*tracker);
  EXPECT_EQ(pages_in(look.changed, window), (Pages{25, 28})) << "new at this address";
  EXPECT_EQ(pages_in(look.populated, window), (Pages{3, 4, 5, 25, 28}));
  ::munmap(area, 32 * kPageSize);
}

// The heap and the stack grow in place.
TEST(Tracker, MappingsThatGrow) {
  Child child([](Stages& stages) {
    char* end = static_cast<char*>(::sbrk(static_cast<intptr_t>(4 * kPageSize)));
    end += kPageSize - reinterpret_cast<uint64_t>(end) % kPageSize;
    *end = 'x';
    stages.value[0] = reinterpret_cast<uint64_t>(end);
    stages.at(0);
    ::sbrk(static_cast<intptr_t>(64 * kPageSize));
    end[40 * kPageSize] = 'y';
    stages.at(1);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  const uint64_t end = child.stages().value[0];
  const PageRange window{end, end + 60 * kPageSize};
  EXPECT_EQ(pages_in(must_look(*tracker).changed, window), Pages{0});
  ASSERT_TRUE(child.to(1));
  const Look look = must_look(*tracker);
  EXPECT_EQ(pages_in(look.changed, window), Pages{40});
  EXPECT_EQ(pages_in(look.populated, window), (Pages{0, 40}));
}

TEST(Tracker, PagesThatHoldNothingAreNotPopulated) {
  char* memory = map_pages(4, 0);
  Child child([&](Stages& stages) {
    memory[0] = 'x';
    stages.value[0] = static_cast<uint64_t>(memory[kPageSize]);  // the kernel's zero page
    stages.at(0);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  EXPECT_EQ(pages_in(must_look(*tracker).populated, pages_at(memory, 0, 4)), Pages{0});
  ::munmap(memory, 4 * kPageSize);
}

TEST(Tracker, ChildrenOfTheProcessAreNotTracked) {
  char* memory = map_pages(4, 'x');
  Child child([&](Stages& stages) {
    stages.at(0);
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (size_t i = 0; i < 4; ++i) memory[i * kPageSize] = 'g';
      stages.value[0] = static_cast<uint64_t>(::getpid());
      for (;;) ::pause();
    }
    while (stages.value[0] == 0) ::sched_yield();
    stages.at(1);
    memory[2 * kPageSize] = 'p';
    stages.at(2);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  must_look(*tracker);
  ASSERT_TRUE(child.to(1));
  const PageRange window = pages_at(memory, 0, 4);
  EXPECT_EQ(pages_in(must_look(*tracker).changed, window), Pages{});
  EXPECT_TRUE(is_registered(child.pid()));
  EXPECT_FALSE(is_registered(static_cast<pid_t>(child.stages().value[0])));
  ASSERT_TRUE(child.to(2));
  EXPECT_EQ(pages_in(must_look(*tracker).changed, window), Pages{2})
      << "pages shared with the child since the fork";
  ::munmap(memory, 4 * kPageSize);
}

TEST(Tracker, NothingIsLeftBehind) {
  char* memory = map_pages(64, 'x');
  Child child([&](Stages& stages) {
    stages.at(0);
    memory[0] = 'y';
    stages.at(1);
  });
  ASSERT_TRUE(child.to(0));
  const std::string maps = proc_file(child.pid(), "maps");
  const auto fds = list_dir("/proc/" + std::to_string(child.pid()) + "/fd");
  auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  EXPECT_EQ(*list_dir("/proc/" + std::to_string(child.pid()) + "/fd"), *fds);
  must_look(*tracker);
  EXPECT_TRUE(is_registered(child.pid()));
  tracker.reset();
  EXPECT_FALSE(is_registered(child.pid()));
  EXPECT_EQ(proc_file(child.pid(), "maps"), maps);
  EXPECT_NE(proc_file(child.pid(), "status").find("TracerPid:\t0\n"), std::string::npos);
  ASSERT_TRUE(child.to(1));
  tracker = must_track(child.pid());
  ASSERT_TRUE(tracker) << "and again";
  EXPECT_EQ(pages_in(must_look(*tracker).changed, pages_at(memory, 0, 64)).size(), 64u);
  ::munmap(memory, 64 * kPageSize);
}

TEST(Tracker, NothingIsLeftBehindWhenTheTrackersProcessIsKilled) {
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  Child other([&](Stages& stages) {
    const auto tracker = must_track(child.pid());
    if (tracker == nullptr || !tracker->look().ok()) return;
    stages.at(0);
  });
  ASSERT_TRUE(other.to(0));
  EXPECT_TRUE(is_registered(child.pid()));
  other.end();
  EXPECT_FALSE(is_registered(child.pid()));
}

TEST(Tracker, OneThatIsTracedIsRefused) {
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  Child debugger([&](Stages& stages) {
    stages.value[0] = ::ptrace(PTRACE_SEIZE, child.pid(), 0, 0) == 0;
    stages.at(0);
  });
  ASSERT_TRUE(debugger.to(0));
  ASSERT_EQ(debugger.stages().value[0], 1u);
  const auto refused = track(child.pid(), TrackMethod::kWriteProtect);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), Code::kConflict);
  EXPECT_NE(refused.error().message().find(std::to_string(debugger.pid())), std::string::npos)
      << refused.error().message();
}

TEST(Tracker, OneThatHasEndedIsNotFound) {
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  const pid_t pid = child.pid();
  ::kill(pid, SIGKILL);
  ASSERT_FALSE(child.await([] { return false; }));
  for (const auto& look : {tracker->look(), tracker->look()}) {
    ASSERT_FALSE(look.ok());
    EXPECT_EQ(look.error().code(), Code::kNotFound);
  }
  auto zombie = track(pid, TrackMethod::kWriteProtect);
  ASSERT_FALSE(zombie.ok());
  EXPECT_EQ(zombie.error().code(), Code::kNotFound);
  EXPECT_EQ(child.end() & 0x7f, SIGKILL) << "its end is its parent's to fetch";
  auto gone = track(pid, TrackMethod::kWriteProtect);
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code(), Code::kNotFound);
}

TEST(Tracker, OneThatExecutesAnotherProgramIsNotFound) {
  Child child([](Stages& stages) {
    stages.at(0);
    ::execlp("sleep", "sleep", "1000", nullptr);
  });
  ASSERT_TRUE(child.to(0));
  const auto tracker = must_track(child.pid());
  ASSERT_TRUE(tracker);
  child.stages().allowed = 1;
  ASSERT_TRUE(child.await([&] { return proc_file(child.pid(), "comm") == "sleep\n"; }));
  const auto look = tracker->look();
  ASSERT_FALSE(look.ok());
  EXPECT_EQ(look.error().code(), Code::kNotFound);
}

// Whenever it dies, that is said, and neither a descriptor nor a trace of it stays.
TEST(Tracker, AProcessMayDieAtAnyMoment) {
  auto random = test_random();
  const size_t open_before = list_dir("/proc/self/fd")->size();
  constexpr size_t kPages = 2048;
  int attached = 0;
  for (int round = 0; round < 200; ++round) {
    Child child([](Stages& stages) {
      char* memory = map_pages(kPages, 'x');
      stages.value[0] = reinterpret_cast<uint64_t>(memory);
      stages.reached = 0;
      for (;; memory[static_cast<size_t>(::rand()) % kPages * kPageSize] = 1) {
      }
    });
    ASSERT_TRUE(child.await([&] { return child.stages().reached == 0; }));
    const pid_t pid = child.pid();
    const timespec delay{0, static_cast<long>(random() % 3'000'000)};
    std::thread killer([pid, delay] {
      ::nanosleep(&delay, nullptr);
      ::kill(pid, SIGKILL);
    });
    auto tracker = track(pid, TrackMethod::kWriteProtect);
    attached += tracker.ok();
    if (!tracker.ok()) {
      EXPECT_EQ(tracker.error().code(), Code::kNotFound) << tracker.error().message();
    }
    while (tracker.ok()) {
      const auto look = (*tracker)->look();
      const void* memory = reinterpret_cast<void*>(child.stages().value[0].load());
      if (look.ok()) {
        EXPECT_EQ(pages_in(look->populated, pages_at(memory, 0, kPages)).size(), kPages);
        continue;
      }
      EXPECT_EQ(look.error().code(), Code::kNotFound) << look.error().message();
      break;
    }
    killer.join();
    EXPECT_EQ(child.end() & 0x7f, SIGKILL);
  }
  std::cout << attached << " of 200 lived long enough to be tracked" << std::endl;
  EXPECT_EQ(list_dir("/proc/self/fd")->size(), open_before);
}

TEST(Tracker, SoftDirtyBitsAreReadAsTheKernelDocumentsThem) {
  constexpr uint64_t kPresent = 1ull << 63;
  constexpr uint64_t kSwapped = 1ull << 62;
  constexpr uint64_t kSoftDirty = 1ull << 55;
  const uint64_t entries[] = {kPresent | kSoftDirty | 0x123, kPresent | 0x124, 0, kSoftDirty,
                              kSwapped | kSoftDirty,         kSwapped,         0};
  Look look;
  take_entries(entries, std::size(entries), 0x10000, look);
  const PageRange window{0x10000, 0x10000 + std::size(entries) * kPageSize};
  EXPECT_EQ(pages_in(look.populated, window), (Pages{0, 1, 4, 5}));
  EXPECT_EQ(pages_in(look.changed, window), (Pages{0, 4}));
}

TEST(Tracker, AMethodThatTheKernelLacksIsRefused) {
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  const auto tracker = track(child.pid(), TrackMethod::kSoftDirty);
  EXPECT_EQ(tracker.ok(), probe_tracking().soft_dirty);
  if (!tracker.ok()) {
    EXPECT_EQ(tracker.error().code(), Code::kUnsupported);
  }
}

}  // namespace
}  // namespace dvs::mover
