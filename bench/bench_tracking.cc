// What tracking costs the process that is tracked: `bench-tracking ROUNDS JSON`. A program that
// does nothing but write memory, as fast as it can, is measured untracked and tracked by turns, for
// each interval between two looks. Prints a table, and writes the numbers behind it to the file
// JSON.
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "mover/tracker.h"

namespace {

using namespace dvs;

constexpr size_t kBytes = 256 << 20;
constexpr size_t kLine = 64;
constexpr int64_t kTurnNs = 2'000'000'000;

// Lines written, told by the program.
using Count = std::atomic<uint64_t>;

[[noreturn]] void write_memory(Count& count) {
  std::vector<char> bytes(kBytes);
  for (;;) {
    for (size_t at = 0; at < kBytes; at += kLine) {
      *static_cast<volatile char*>(&bytes[at]) = static_cast<char>(at);
      if (at % (1 << 20) == 0) count += (1 << 20) / kLine;
    }
  }
}

// Bytes per second over one turn; with a look each `interval_ms`, 0: without a tracker.
double turn(pid_t pid, const Count& count, int interval_ms) {
  std::unique_ptr<mover::Tracker> tracker;
  if (interval_ms > 0) {
    auto made = mover::track(pid, mover::TrackMethod::kWriteProtect);
    if (!made.ok() || !(*made)->look().ok()) {
      std::fprintf(stderr, "bench-tracking: cannot track\n");
      std::exit(1);
    }
    tracker = std::move(*made);
  }
  const uint64_t before = count;
  const int64_t began = monotonic_ns();
  while (monotonic_ns() - began < kTurnNs) {
    std::this_thread::sleep_for(std::chrono::milliseconds(interval_ms > 0 ? interval_ms : 100));
    if (tracker != nullptr) static_cast<void>(tracker->look().ok());
  }
  return static_cast<double>((count - before) * kLine) * 1e9 /
         static_cast<double>(monotonic_ns() - began);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc == 3 ? std::atoi(argv[1]) : 0;
  if (rounds < 1) {
    std::fprintf(stderr, "usage: bench-tracking ROUNDS JSON\n");
    return 2;
  }
  auto* count = new (::mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Count(0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    write_memory(*count);
  }
  while (*count < 2 * kBytes / kLine) ::usleep(1000);
  Json cases = Json::array();
  std::printf("looks each   untracked MB/s   tracked MB/s   cost\n");
  for (const int interval_ms : {100, 300, 1000, 2000}) {
    std::vector<double> plain;
    std::vector<double> tracked;
    std::vector<double> ratios;
    for (int i = 0; i < rounds; ++i) {
      plain.push_back(turn(pid, *count, 0));
      tracked.push_back(turn(pid, *count, interval_ms));
      ratios.push_back(tracked.back() / plain.back());
    }
    const double cost = 1 - median(ratios);
    std::printf("%7d ms   %14.0f   %12.0f   %3.1f %%\n", interval_ms, median(plain) / 1e6,
                median(tracked) / 1e6, cost * 100);
    cases.push_back({{"look_interval_ms", interval_ms},
                     {"untracked_bytes_s", plain},
                     {"tracked_bytes_s", tracked},
                     {"cost", cost}});
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  std::ofstream(argv[2]) << Json{{"bytes", kBytes}, {"cases", cases}}.dump(1) << "\n";
}
