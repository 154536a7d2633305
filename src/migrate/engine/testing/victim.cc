// A program to be checkpointed: `victim MODE STATE_FILE LOG_FILE CGROUP_PROCS_FILE`. Becomes a
// daemon in the cgroup, writes its pid to stdout and does what the mode says.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "migrate/engine/testing/shared_state.h"

namespace {

using dvs::testing::kCounters;
using dvs::testing::SharedState;

SharedState* state = nullptr;

void pause_briefly() {
  const timespec pause{0, 500000};
  nanosleep(&pause, nullptr);
}

void fail(const char* what) {
  std::perror(what);
  std::_Exit(1);
}

// Counts, and tells what its clock says, as long as it lives.
void count(int index) {
  for (;;) {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    state->clock_ns = now.tv_sec * 1000000000 + now.tv_nsec;
    ++state->counters[index];
    pause_briefly();
  }
}

void ready_and_count() {
  state->ready = 1;
  count(0);
}

void wait_on_futex(const timespec* limit) {
  state->ready = 1;
  for (;;) {
    const long result = syscall(SYS_futex, &state->word, FUTEX_WAIT, 0, limit, nullptr, 0);
    state->result = result == 0 ? 0 : errno;
    ++state->answer;
    if (state->word != 0) ready_and_count();
  }
}

void thread_counts(int index) {
  const long id = syscall(SYS_gettid);
  for (;;) {
    if (syscall(SYS_gettid) != id) ++state->wrong_ids;
    ++state->counters[index];
    pause_briefly();
  }
}

void threads() {
  std::vector<std::thread> others;
  for (int i = 1; i < kCounters; ++i) others.emplace_back(thread_counts, i);
  state->ready = 1;
  thread_counts(0);
}

// A child with a child of its own, and a dead child that nobody has waited for yet.
void tree() {
  if (fork() == 0) {
    if (fork() == 0) count(2);
    count(1);
  }
  const pid_t dead = fork();
  if (dead == 0) _exit(7);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(dead), &info, WEXITED | WNOWAIT);
  state->ready = 1;
  while (state->order == 0) {
    ++state->counters[0];
    pause_briefly();
  }
  int status = 0;
  const pid_t reaped = waitpid(dead, &status, 0);
  state->result = reaped == dead ? WEXITSTATUS(status) : -1;
  state->answer = 1;
  count(0);
}

void write_log() {
  std::printf("before\n");
  std::fflush(stdout);
  state->ready = 1;
  while (state->order == 0) ++state->counters[0], pause_briefly();
  std::printf("after\n");
  std::fflush(stdout);
  state->answer = 1;
  count(0);
}

// Holds a file that was removed.
void removed() {
  const int fd = open("/run/dvs/doomed", O_RDWR | O_CREAT, 0600);
  if (fd < 0 || write(fd, "kept", 4) != 4) fail("doomed");
  unlink("/run/dvs/doomed");
  state->ready = 1;
  while (state->order == 0) pause_briefly();
  char text[5] = {};
  state->result = pread(fd, text, 4, 0) == 4 && std::strcmp(text, "kept") == 0 ? 1 : -1;
  state->answer = 1;
  count(0);
}

// Holds a file that was removed under the name it was opened by, but has another.
void renamed() {
  const int fd = open("/run/dvs/first", O_RDWR | O_CREAT, 0600);
  if (fd < 0 || link("/run/dvs/first", "/run/dvs/second") != 0) fail("link");
  unlink("/run/dvs/first");
  ready_and_count();
}

void hold(int descriptor, const char* what) {
  if (descriptor < 0) fail(what);
  ready_and_count();
}

void map_file() {
  const int fd = open("/run/dvs/mapped", O_RDWR);
  if (fd < 0 || mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) fail("mapped");
  close(fd);
  ready_and_count();
}

void big() {
  const size_t size = 64 << 20;
  std::vector<char> memory(size);
  for (size_t i = 0; i < size; i += 64) memory[i] = static_cast<char>(i * 31);
  ready_and_count();
}

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = 2 << 20;

// Memory of each kind, filled with what its address says.
struct Filled {
  char* memory;
  size_t size;
  int protection;
};

uint64_t word_at(const char* address, uint64_t who) {
  return reinterpret_cast<uint64_t>(address) * 0x9e3779b97f4a7c15u ^ who;
}

Filled fill(size_t size, int fd, int protection, uint64_t who, int flags = MAP_PRIVATE) {
  if (fd < 0) flags |= MAP_ANONYMOUS;
  auto* memory = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, fd, 0));
  if (memory == MAP_FAILED) fail("mmap");
  if (size >= kHugePage) madvise(memory, size, MADV_HUGEPAGE);
  for (size_t i = 0; i < size; i += 64) {
    const uint64_t word = word_at(memory + i, who);
    memcpy(memory + i, &word, sizeof word);
  }
  mprotect(memory, size, protection);
  return {memory, size, protection};
}

int64_t wrong_words(const Filled& filled, uint64_t who) {
  int64_t wrong = 0;
  mprotect(filled.memory, filled.size, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < filled.size; i += 64) {
    uint64_t word = 0;
    memcpy(&word, filled.memory + i, sizeof word);
    wrong += word == word_at(filled.memory + i, who) ? 0 : 1;
  }
  return wrong;
}

// A child shares what it has not written with its parent. Asked, both count what is wrong.
void memory_kinds() {
  constexpr int kReadWrite = PROT_READ | PROT_WRITE;
  std::vector<Filled> all = {fill(4096 * kPage, -1, kReadWrite, 1),
                             fill(16 * kPage, -1, PROT_NONE, 1), fill(16 * kPage, -1, PROT_READ, 1),
                             fill(16 * kPage, -1, kReadWrite, 1, MAP_SHARED),
                             fill(2 * kHugePage, -1, kReadWrite, 1, MAP_PRIVATE | MAP_HUGETLB)};
  const Filled locked = fill(16 * kPage, -1, kReadWrite, 1);
  mlock(locked.memory, locked.size);
  all.push_back(locked);
  const Filled swapped = fill(256 * kPage, -1, kReadWrite, 1);
  madvise(swapped.memory, swapped.size, MADV_PAGEOUT);
  all.push_back(swapped);
  const int file = open("/proc/self/exe", O_RDONLY);
  all.push_back(fill(4 * kPage, file, kReadWrite, 1));
  close(file);
  if (fork() == 0) {
    const Filled own = fill(64 * kPage, -1, kReadWrite, 2);
    ++state->ready;
    while (state->order == 0) pause_briefly();
    int64_t wrong = wrong_words(own, 2);
    for (const Filled& each : all) wrong += wrong_words(each, 1);
    state->clock_ns = wrong;
    ++state->answer;
    pause();
  }
  ++state->ready;
  while (state->order == 0) pause_briefly();
  int64_t wrong = 0;
  for (const Filled& each : all) wrong += wrong_words(each, 1);
  state->result = wrong;
  ++state->answer;
  pause();
}

void alg_socket() {
  const int fd = socket(AF_ALG, SOCK_SEQPACKET, 0);
  hold(fd, "alg");
}

void io_uring() {
  char params[256] = {};
  hold(static_cast<int>(syscall(SYS_io_uring_setup, 4, params)), "io_uring");
}

void watch_inotify() {
  const int fd = inotify_init();
  if (inotify_add_watch(fd, "/run/dvs", IN_CREATE) < 0) fail("inotify");
  hold(fd, "inotify");
}

const std::map<std::string, std::function<void()>> kModes = {
    {"count", ready_and_count},
    {"futex", [] { wait_on_futex(nullptr); }},
    {"futex_timed",
     [] {
       const timespec limit{100, 0};
       wait_on_futex(&limit);
     }},
    {"threads", threads},
    {"tree", tree},
    {"log", write_log},
    {"removed", removed},
    {"renamed", renamed},
    {"map", map_file},
    {"big", big},
    {"memory", memory_kinds},
    {"io_uring", io_uring},
    {"inotify", watch_inotify},
    {"fanotify",
     [] { hold(static_cast<int>(syscall(SYS_fanotify_init, 0, O_RDONLY)), "fanotify"); }},
    {"fuse", [] { hold(open("/dev/fuse", O_RDWR), "fuse"); }},
    {"tun", [] { hold(open("/dev/net/tun", O_RDWR), "tun"); }},
    {"packet", [] { hold(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "packet"); }},
    {"alg", alg_socket},
    {"vsock", [] { hold(socket(AF_VSOCK, SOCK_STREAM, 0), "vsock"); }},
    {"userfault", [] { hold(static_cast<int>(syscall(SYS_userfaultfd, 1)), "userfault"); }},
    {"pidfd", [] { hold(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)), "pidfd"); }},
};

void map_state(const char* path) {
  const int fd = open(path, O_RDWR);
  void* mapped = mmap(nullptr, sizeof(SharedState), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (fd < 0 || mapped == MAP_FAILED) fail(path);
  close(fd);
  state = static_cast<SharedState*>(mapped);
}

void join_cgroup(const char* procs_file) {
  const int fd = open(procs_file, O_WRONLY);
  if (fd < 0 || write(fd, "0", 1) != 1) fail(procs_file);
  close(fd);
}

void replace_stdio(const char* log) {
  const int in = open("/dev/null", O_RDONLY);
  const int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (in < 0 || out < 0) fail(log);
  dup2(in, 0);
  dup2(out, 1);
  dup2(out, 2);
  close_range(3, ~0U, 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 || kModes.count(argv[1]) == 0) return 2;
  map_state(argv[2]);
  join_cgroup(argv[4]);
  const pid_t child = fork();
  if (child < 0) return 1;
  if (child > 0) {
    std::printf("%d\n", child);
    return 0;
  }
  setsid();
  replace_stdio(argv[3]);
  kModes.at(argv[1])();
}
