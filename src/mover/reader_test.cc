#include "mover/reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

Reader must_open(pid_t pid) {
  auto reader = Reader::open(pid);
  EXPECT_TRUE(reader.ok()) << reader.error().message();
  return std::move(*reader);
}

TEST(Reader, ReadsManyRangesOneAfterTheOther) {
  constexpr size_t kPages = 3000;
  char* memory = map_pages(kPages, 0);
  for (size_t i = 0; i < kPages; ++i) std::memcpy(memory + i * kPageSize, &i, sizeof i);
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  // Every other page in the beginning, then all of the rest.
  PageRanges ranges;
  for (size_t i = 0; i < 1000; i += 2) ranges.push_back(pages_at(memory, i, 1));
  ranges.push_back(pages_at(memory, 1000, kPages - 1000));
  std::vector<char> out(total_size(ranges), '?');
  const auto vanished = must_open(child.pid()).read(ranges, out.data());
  ASSERT_TRUE(vanished.ok()) << vanished.error().message();
  EXPECT_TRUE(vanished->empty());
  const char* at = out.data();
  for (const PageRange& range : ranges) {
    ASSERT_EQ(std::memcmp(at, reinterpret_cast<char*>(range.start), range.size()), 0);
    at += range.size();
  }
  ::munmap(memory, kPages * kPageSize);
}

TEST(Reader, PagesThatVanishedAreZerosAndTold) {
  char* memory = map_pages(16, 'x');
  Child child([&](Stages& stages) {
    ::munmap(memory + 3 * kPageSize, 2 * kPageSize);
    ::munmap(memory + 9 * kPageSize, kPageSize);
    ::munmap(memory + 15 * kPageSize, kPageSize);
    stages.at(0);
  });
  ASSERT_TRUE(child.to(0));
  std::vector<char> out(16 * kPageSize, '?');
  const auto vanished =
      must_open(child.pid()).read({pages_at(memory, 0, 8), pages_at(memory, 8, 8)}, out.data());
  ASSERT_TRUE(vanished.ok());
  EXPECT_EQ(*vanished,
            (PageRanges{pages_at(memory, 3, 2), pages_at(memory, 9, 1), pages_at(memory, 15, 1)}));
  for (size_t i = 0; i < 16; ++i) {
    const bool gone = i == 3 || i == 4 || i == 9 || i == 15;
    EXPECT_EQ(out[i * kPageSize], gone ? 0 : 'x') << i;
    EXPECT_EQ(out[i * kPageSize + 4095], gone ? 0 : 'x') << i;
  }
  ::munmap(memory, 16 * kPageSize);
}

TEST(Reader, ReadsWhatTheProcessItselfMayNot) {
  char* memory = map_pages(700, 'x', PROT_NONE);
  char* written = map_pages(2, 'w', PROT_WRITE);
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  std::vector<char> out(702 * kPageSize, '?');
  PageRanges ranges = {pages_at(memory, 0, 700), pages_at(written, 0, 2)};
  if (written < memory) std::swap(ranges[0], ranges[1]);
  const auto vanished = must_open(child.pid()).read(ranges, out.data());
  ASSERT_TRUE(vanished.ok());
  EXPECT_TRUE(vanished->empty());
  EXPECT_EQ(std::count(out.begin(), out.end(), 'x'), 700 * static_cast<long>(kPageSize));
  EXPECT_EQ(std::count(out.begin(), out.end(), 'w'), 2 * static_cast<long>(kPageSize));
  ::munmap(memory, 700 * kPageSize);
  ::munmap(written, 2 * kPageSize);
}

TEST(Reader, OneThatHasEndedIsNotFound) {
  char* memory = map_pages(4, 'x');
  Child child([](Stages& stages) {
    stages.at(0);
    ::execlp("sleep", "sleep", "1000", nullptr);
  });
  ASSERT_TRUE(child.to(0));
  const Reader reader = must_open(child.pid());
  std::vector<char> out(4 * kPageSize);
  ASSERT_TRUE(reader.read({pages_at(memory, 0, 4)}, out.data()).ok());
  const pid_t pid = child.pid();
  child.stages().allowed = 1;
  ASSERT_TRUE(child.await([&] { return proc_file(pid, "comm") == "sleep\n"; }));
  const auto other = reader.read({pages_at(memory, 0, 4)}, out.data());
  ASSERT_FALSE(other.ok()) << "it executes another program";
  EXPECT_EQ(other.error().code(), Code::kNotFound);
  child.end();
  for (const auto& read :
       {reader.read({}, out.data()), reader.read({pages_at(memory, 0, 4)}, out.data())}) {
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(read.error().code(), Code::kNotFound);
  }
  EXPECT_EQ(Reader::open(pid).error().code(), Code::kNotFound);
  ::munmap(memory, 4 * kPageSize);
}

}  // namespace
}  // namespace dvs::mover
