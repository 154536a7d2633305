#include "mover/memory_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

std::string entry(const std::string& first, const std::string& flags) {
  return first + "\nSize:                 12 kB\nKernelPageSize:        4 kB\n" +
         "Private_Hugetlb:       0 kB\nTHPeligible:           0\nVmFlags: " + flags + " \n";
}

MemoryKind kind_of(const std::string& first, const std::string& flags = "rd wr mr mw me ac sd") {
  const auto map = parse_memory_map(entry(first, flags));
  EXPECT_TRUE(map.ok() && map->size() == 1) << first;
  return map.ok() ? map->front().kind : MemoryKind::kKernel;
}

TEST(MemoryMap, TheMoverHasPrivateAnonymousMemory) {
  const auto anonymous = MemoryKind::kAnonymous;
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-p 00000000 00:00 0 "), anonymous);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-p 00000000 00:00 0"), anonymous);
  EXPECT_EQ(kind_of("55e0c000-55e2d000 rw-p 00000000 00:00 0                          [heap]"),
            anonymous);
  EXPECT_EQ(kind_of("7ffc0000-7ffe1000 rw-p 00000000 00:00 0                          [stack]",
                    "rd wr mr mw me gd ac"),
            anonymous);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 ---p 00000000 00:00 0 ", "mr mw me ac sd"), anonymous);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-p 00000000 00:00 0      [anon:arena 1]"), anonymous);
  EXPECT_EQ(kind_of("7f200000-7f600000 rw-p 00000000 00:00 0 ", "rd wr mr mw me ac hg"), anonymous)
      << "transparent huge pages are ordinary memory";
}

TEST(MemoryMap, TheEngineHasTheRest) {
  const std::string plain = "7f200000-7f600000 rw-p 00000000 00:00 0 ";
  EXPECT_EQ(kind_of(plain, "rd wr mr mw me lo ac"), MemoryKind::kLocked);
  EXPECT_EQ(kind_of(plain, "rd wr mr mw me dp"), MemoryKind::kKernel) << "MAP_DROPPABLE";
  EXPECT_EQ(kind_of(plain, "rd wr mr mw me ss"), MemoryKind::kKernel) << "a shadow stack";
  EXPECT_EQ(kind_of("7f200000-7f600000 rw-p 00000000 00:0f 42   /anon_hugepage (deleted)",
                    "rd wr mr mw me de ht"),
            MemoryKind::kHugetlb);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-s 00000000 00:01 1026   /memfd:x (deleted)"),
            MemoryKind::kShared);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-p 00000000 00:01 1026   /memfd:x (deleted)"),
            MemoryKind::kPrivateFile);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-s 00000000 00:01 33   /dev/zero (deleted)"),
            MemoryKind::kShared);
  EXPECT_EQ(kind_of("7f10a000-7f10d000 rw-p 00002000 fe:00 5210   /usr/lib/libc.so.6"),
            MemoryKind::kPrivateFile);
  EXPECT_EQ(kind_of("7ffe3000-7ffe7000 r--p 00000000 00:00 0    [vvar]", "rd mr pf io de dd"),
            MemoryKind::kKernel);
  EXPECT_EQ(kind_of("7ffe3000-7ffe7000 r--p 00000000 00:00 0    [vvar_vclock]"),
            MemoryKind::kKernel);
  EXPECT_EQ(kind_of("7ffe7000-7ffe9000 r-xp 00000000 00:00 0    [vdso]"), MemoryKind::kKernel);
  EXPECT_EQ(kind_of("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0    [vsyscall]"),
            MemoryKind::kKernel);
}

TEST(MemoryMap, RangesAccessAndNamesAreReadAsTheyAre) {
  const auto map = parse_memory_map(
      "55e0c000-55e2d000 r--p 00000000 fe:00 5210       /opt/a b/c\\012d\n"
      "7f10a000-7f10d000 -w-p 00000000 00:00 0 \n"
      "7f10d000-7f10f000 rw-p 00000000 00:00 0 [stack]\n"
      "VmFlags: rd wr gd ac \n");
  ASSERT_TRUE(map.ok()) << map.error().message();
  ASSERT_EQ(map->size(), 3u);
  EXPECT_EQ((*map)[0].name, "/opt/a b/c\\012d");
  EXPECT_EQ((*map)[0].range, (PageRange{0x55e0c000, 0x55e2d000}));
  EXPECT_FALSE((*map)[1].readable);
  EXPECT_TRUE((*map)[1].writable);
  EXPECT_FALSE((*map)[1].grows_down);
  EXPECT_TRUE((*map)[2].grows_down);
  EXPECT_EQ(movable(*map), (PageRanges{{0x7f10a000, 0x7f10d000}, {0x7f10d000, 0x7f10f000}}))
      << "the edges of mappings are kept";
}

TEST(MemoryMap, NonsenseIsRefused) {
  const std::string good = "7f10a000-7f10d000 rw-p 00000000 00:00 0 \n";
  ASSERT_TRUE(parse_memory_map(good).ok());
  for (const std::string& bad : {
           good + good,                                          // the same again
           good + "7f10c000-7f10f000 rw-p 00000000 00:00 0 \n",  // overlap
           good + "7f109000-7f10a000 rw-p 00000000 00:00 0 \n",  // descending
           std::string("7f10d000-7f10a000 rw-p 00000000 00:00 0 \n"),
           std::string("7f10a000-7f10a000 rw-p 00000000 00:00 0 \n"),
           std::string("7f10a001-7f10d000 rw-p 00000000 00:00 0 \n"),
           std::string("7f10a000-7f10d000 rw-x 00000000 00:00 0 \n"),
           std::string("7f10a000-1ffffffffffffffff rw-p 00000000 00:00 0 \n"),
           std::string("7f10a000 7f10d000 rw-p 00000000 00:00 0 \n"),
           std::string("VmFlags: rd wr\n"),  // of what?
           good + "something else\n",
           good + ":\n",
           good + "\n",
       }) {
    EXPECT_FALSE(parse_memory_map(bad).ok()) << bad;
  }
  const std::string whole = entry("7f10a000-7f10d000 rw-p 00000000 00:00 0   [heap]", "rd wr");
  for (size_t size = 1; size < whole.size(); ++size) {
    const auto part = parse_memory_map(whole.substr(0, size));
    EXPECT_EQ(part.ok(), whole[size - 1] == '\n') << size;
  }
}

MemoryKind kind_at(const MemoryMap& map, const void* address) {
  for (const Mapping& mapping : map) {
    const auto at = reinterpret_cast<uint64_t>(address);
    if (mapping.range.start <= at && at < mapping.range.end) return mapping.kind;
  }
  ADD_FAILURE() << "nothing is mapped there";
  return MemoryKind::kKernel;
}

TEST(MemoryMap, OfThisProcess) {
  char* plain = map_pages(2, 'x');
  char* locked = map_pages(2, 'x');
  // Not mlock(): a sanitizer makes nothing of it.
  ASSERT_EQ(::syscall(SYS_mlock, locked, 2 * kPageSize), 0);
  void* shared = ::mmap(nullptr, kPageSize, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  static char bss[3 * kPageSize];
  int on_stack = 0;
  const auto map = read_memory_map(::getpid(), MapDetail::kSmaps);
  ASSERT_TRUE(map.ok()) << map.error().message();
  EXPECT_EQ(kind_at(*map, plain), MemoryKind::kAnonymous);
  EXPECT_EQ(kind_at(*map, locked), MemoryKind::kLocked);
  EXPECT_EQ(kind_at(*map, shared), MemoryKind::kShared);
  EXPECT_EQ(kind_at(*map, bss + kPageSize), MemoryKind::kAnonymous);
  EXPECT_EQ(kind_at(*map, &on_stack), MemoryKind::kAnonymous);
  EXPECT_EQ(kind_at(*map, "a constant"), MemoryKind::kPrivateFile);
  ::munmap(plain, 2 * kPageSize);
  ::munmap(locked, 2 * kPageSize);
  ::munmap(shared, kPageSize);
}

TEST(MemoryMap, OfAProcessThatHasEnded) {
  Child child([](Stages&) {});
  const pid_t pid = child.pid();
  ASSERT_FALSE(child.await([] { return false; }));  // a zombie now
  for (const auto detail : {MapDetail::kMaps, MapDetail::kSmaps}) {
    const auto zombie = read_memory_map(pid, detail);
    ASSERT_FALSE(zombie.ok());
    EXPECT_EQ(zombie.error().code(), Code::kNotFound);
  }
  child.finish();
  const auto gone = read_memory_map(pid, MapDetail::kMaps);
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code(), Code::kNotFound);
}

}  // namespace
}  // namespace dvs::mover
