// memory THREADS PAGES: threads that write pages of their own and check before each write that a
// page holds what they wrote there last; mappings come, grow, shrink and go. At its endpoint it
// answers kRequest with the number of writes so far. Says "BAD" at the first wrong word.
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "common.h"

using namespace dvs::programs;

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kWords = kPage / sizeof(uint64_t);

std::atomic<uint64_t> writes;
std::atomic<int> filled;  // threads that have written all of their pages

uint64_t word_of(const uint64_t* address, uint64_t version) {
  return reinterpret_cast<uint64_t>(address) * 0x9e3779b97f4a7c15u ^ version;
}

// Memory in which each word tells its address and when it was written. Version 0: zeros.
class Region {
 public:
  explicit Region(size_t pages) : versions_(pages, 0) {
    words_ = static_cast<uint64_t*>(
        ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (words_ == MAP_FAILED) std::abort();
  }
  ~Region() { ::munmap(words_, versions_.size() * kPage); }
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  size_t pages() const { return versions_.size(); }

  void check(size_t page) const {
    const uint64_t version = versions_[page];
    for (size_t i = page * kWords; i < (page + 1) * kWords; ++i) {
      const uint64_t wanted = version == 0 ? 0 : word_of(words_ + i, version);
      if (words_[i] == wanted) continue;
      printf("BAD: %p holds %lx and not %lx (version %lu)\n", static_cast<void*>(words_ + i),
             words_[i], wanted, version);
      std::_Exit(1);
    }
  }
  void write(size_t page, uint64_t version) {
    check(page);
    for (size_t i = page * kWords; i < (page + 1) * kWords; ++i) {
      words_[i] = word_of(words_ + i, version);
    }
    versions_[page] = version;
    writes.fetch_add(1, std::memory_order_relaxed);
  }
  void drop(size_t page) {
    check(page);
    ::madvise(words_ + page * kWords, kPage, MADV_DONTNEED);
    versions_[page] = 0;
  }
  // The contents stay at their addresses, so it must not move.
  void resize(size_t pages) {
    if (::mremap(words_, versions_.size() * kPage, pages * kPage, 0) == MAP_FAILED) return;
    versions_.resize(pages, 0);
  }

 private:
  uint64_t* words_;
  std::vector<uint64_t> versions_;
};

void work(unsigned seed, size_t pages) {
  uint64_t random = seed;
  const auto below = [&](size_t limit) {
    random = random * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(random >> 33) % limit;
  };
  Region cold(pages);
  for (size_t page = 0; page < pages; ++page) cold.write(page, 1);
  filled.fetch_add(1);
  auto region = std::make_unique<Region>(64);
  for (uint64_t version = 2;; ++version) {
    const size_t what = below(1000);
    if (what < 940) {
      region->write(below(region->pages()), version);
    } else if (what < 980) {
      cold.write(below(pages), version);
    } else if (what < 990) {
      region->drop(below(region->pages()));
    } else if (what < 998) {
      region->resize(16 + below(200));
    } else {
      region = std::make_unique<Region>(16 + below(200));
    }
    if (version % 5'000 == 0) {
      for (size_t page = 0; page < pages; ++page) cold.check(page);
    }
    if (version % 16 == 0) usleep(100);
  }
}

}  // namespace

int main(int argc, char** argv) {
  lines();
  if (argc < 3) return 2;
  std::vector<std::thread> threads;
  for (int i = 0; i < atoi(argv[1]); ++i) {
    threads.emplace_back(work, i + 1, static_cast<size_t>(atoi(argv[2])));
  }
  while (filled.load() < atoi(argv[1])) usleep(1000);
  printf("going\n");
  for (;;) {
    message m;
    const int rc = dvk_rcvrqst(&m);
    if (rc != OK) {
      printf("BAD: rcvrqst: %d\n", rc);
      return 1;
    }
    m.m1_i1 = static_cast<int>(writes.load() & 0x7fffffff);
    dvk_reply(m.m_source, &m);
  }
}
