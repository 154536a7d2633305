// A forked child whose memory a test looks at from outside. It goes from stage to stage when told.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>
#include <string>

#include "base/file.h"
#include "mover/page_range.h"

namespace dvs::mover {

// What both see. `value` is for whatever the test wants to know from its child.
struct Stages {
  std::atomic<int> reached{-1};
  std::atomic<int> allowed{-1};
  std::atomic<uint64_t> value[8]{};

  // In the child: says that it got here and waits until it may leave.
  void at(int stage) {
    reached = stage;
    while (allowed <= stage) ::sched_yield();
  }
};

class Child {
 public:
  explicit Child(const std::function<void(Stages&)>& body)
      : stages_(new (::mmap(nullptr, sizeof(Stages), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0)) Stages) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    body(*stages_);
    ::_exit(0);
  }
  ~Child() {
    end();
    ::munmap(stages_, sizeof(Stages));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  Stages& stages() { return *stages_; }
  // Lets it go on to this stage and waits until it is there; false: it has ended before.
  bool to(int stage) {
    stages_->allowed = stage;
    return await([&] { return stages_->reached == stage; });
  }
  // Until then; false: the child has ended, or it took more than half a minute.
  bool await(const std::function<bool()>& there) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!there()) {
      siginfo_t info{};
      ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
      if (info.si_pid != 0 || std::chrono::steady_clock::now() > deadline) return false;
      ::sched_yield();
    }
    return true;
  }
  // Kills it if it runs still; its status as waitpid() has it.
  int end(int signal = SIGKILL) {
    if (pid_ <= 0) return 0;
    ::kill(pid_, signal);
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }
  // Lets it run to its end.
  int finish() {
    stages_->allowed = 1'000'000;
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    return status;
  }

 private:
  Stages* stages_;
  pid_t pid_ = 0;
};

// Populated pages of the test's own.
inline char* map_pages(size_t count, char fill, int protection = PROT_READ | PROT_WRITE) {
  void* memory = ::mmap(nullptr, count * kPageSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  for (size_t i = 0; fill != 0 && i < count * kPageSize; ++i) static_cast<char*>(memory)[i] = fill;
  ::mprotect(memory, count * kPageSize, protection);
  return static_cast<char*>(memory);
}

inline PageRange pages_at(const void* address, size_t first, size_t count) {
  const auto start = reinterpret_cast<uint64_t>(address) + first * kPageSize;
  return {start, start + count * kPageSize};
}

inline std::string proc_file(pid_t pid, const std::string& name) {
  const auto text = read_file("/proc/" + std::to_string(pid) + "/" + name);
  return text.ok() ? *text : "";
}

// The test's random numbers: another seed by DVS_TEST_SEED.
inline std::mt19937_64 test_random() {
  const char* given = std::getenv("DVS_TEST_SEED");
  const uint64_t seed =
      given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device()();
  std::cout << "DVS_TEST_SEED=" << seed << std::endl;
  return std::mt19937_64(seed);
}

}  // namespace dvs::mover
