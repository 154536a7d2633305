#include "dvk/region_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace dvs::dvk {
namespace {

// What the signal's handler looks at: no lock, and `base` last when an entry appears.
struct Entry {
  std::atomic<uintptr_t> base{0};
  std::atomic<size_t> size{0};
  std::atomic<bool> broken{false};
};
std::array<Entry, 1024> entries;
std::mutex entries_mutex;  // of those who guard

// Puts zeros where the file has none any more. What is no guarded region's ends the program as
// without us.
void on_bus_error(int number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Entry& entry : entries) {
    const uintptr_t base = entry.base.load();
    if (base == 0 || address < base || address - base >= entry.size.load()) continue;
    const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    void* start = reinterpret_cast<void*>(address - address % page);
    entry.broken.store(true);
    if (::mmap(start, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) != MAP_FAILED) {
      return;
    }
  }
  ::signal(number, SIG_DFL);
}

void handle_bus_errors() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
  });
}

}  // namespace

RegionGuard::RegionGuard(const Region& region) {
  handle_bus_errors();
  const std::lock_guard lock(entries_mutex);
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].base.load() != 0) continue;
    entries[i].broken.store(false);
    entries[i].size.store(region.size());
    entries[i].base.store(reinterpret_cast<uintptr_t>(&region.header()));
    index_ = static_cast<int>(i);
    return;
  }
}

RegionGuard::~RegionGuard() {
  const std::lock_guard lock(entries_mutex);
  if (index_ >= 0) entries[static_cast<size_t>(index_)].base.store(0);
}

bool RegionGuard::broken() const {
  return index_ >= 0 && entries[static_cast<size_t>(index_)].broken.load();
}

}  // namespace dvs::dvk
