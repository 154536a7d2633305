// What the process feels of it: nothing.
#include "mover/injection.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include <thread>

#include "base/clock.h"
#include "mover/testing/child.h"

namespace dvs::mover {
namespace {

char state_of(pid_t pid) {
  const std::string stat = proc_file(pid, "stat");
  const size_t name_end = stat.rfind(')');
  return name_end == std::string::npos ? '?' : stat[name_end + 2];
}

std::string line_of(pid_t pid, const std::string& key) {
  const std::string status = proc_file(pid, "status");
  const size_t at = status.find("\n" + key + ":");
  return status.substr(at + 1, status.find('\n', at + 1) - at - 1);
}

void must_inject(pid_t pid) {
  const auto injected = inject_userfaultfd(pid);
  EXPECT_TRUE(injected.ok()) << injected.error().message();
}

// A call that waits until the test ends it, and gives `value` then.
struct Waiting {
  const char* name;
  std::function<long(int pipe_end, std::atomic<uint64_t>& word)> call;
};

long futex_wait(std::atomic<uint64_t>& word, const timespec* limit) {
  const long result = ::syscall(SYS_futex, &word, FUTEX_WAIT, 0, limit, nullptr, 0);
  return result == 0 || errno == EAGAIN ? 1 : -errno;
}

const Waiting kWaits[] = {
    {"read",
     [](int end, auto&) {
       char byte = 0;
       return ::read(end, &byte, 1);
     }},
    {"epoll_wait",
     [](int end, auto&) {
       const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
       epoll_event event{};
       event.events = EPOLLIN;
       ::epoll_ctl(epoll, EPOLL_CTL_ADD, end, &event);
       return static_cast<long>(::epoll_wait(epoll, &event, 1, -1));
     }},
    {"poll",
     [](int end, auto&) {
       pollfd entry{.fd = end, .events = POLLIN, .revents = 0};
       return static_cast<long>(::poll(&entry, 1, 60'000));
     }},
    {"ppoll with a mask",
     [](int end, auto&) {
       pollfd entry{.fd = end, .events = POLLIN, .revents = 0};
       sigset_t mask;
       ::sigemptyset(&mask);
       return static_cast<long>(::ppoll(&entry, 1, nullptr, &mask));
     }},
    {"futex", [](int, auto& word) { return futex_wait(word, nullptr); }},
    {"futex with a time-out",
     [](int, auto& word) {
       const timespec limit{60, 0};
       return futex_wait(word, &limit);
     }},
};

TEST(Injection, CallsThatWaitGoOnWaiting) {
  for (const Waiting& waiting : kWaits) {
    SCOPED_TRACE(waiting.name);
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    Child child([&](Stages& stages) {
      stages.reached = 0;
      stages.value[1] = static_cast<uint64_t>(waiting.call(ends[0], stages.value[0]));
      stages.reached = 1;
    });
    ASSERT_TRUE(child.await([&] { return state_of(child.pid()) == 'S'; }));
    for (int i = 0; i < 20; ++i) must_inject(child.pid());
    ASSERT_TRUE(child.await([&] { return state_of(child.pid()) == 'S'; }));
    EXPECT_EQ(child.stages().reached, 0) << "it was woken";
    child.stages().value[0] = 1;
    ASSERT_EQ(::write(ends[1], "x", 1), 1);
    ::syscall(SYS_futex, &child.stages().value[0], FUTEX_WAKE, 1, nullptr, nullptr, 0);
    EXPECT_EQ(child.finish(), 0);
    EXPECT_EQ(static_cast<long>(child.stages().value[1]), 1);
    ::close(ends[0]);
    ::close(ends[1]);
  }
}

TEST(Injection, ASleepLastsAsLongAsItShould) {
  Child child([](Stages& stages) {
    const int64_t began = monotonic_ns();
    timespec left{1, 0};
    stages.reached = 0;
    stages.value[0] = ::nanosleep(&left, &left) == 0 ? 1 : 0;
    stages.value[1] = monotonic_ns() - began >= 1'000'000'000 ? 1 : 0;
  });
  ASSERT_TRUE(child.await([&] { return state_of(child.pid()) == 'S'; }));
  must_inject(child.pid());
  for (int i = 1; i < 50 && child.stages().value[0] == 0; ++i) {
    static_cast<void>(inject_userfaultfd(child.pid()).ok());  // it may just be ending
  }
  EXPECT_EQ(child.finish(), 0);
  EXPECT_EQ(child.stages().value[0], 1u) << "interrupted";
  EXPECT_EQ(child.stages().value[1], 1u) << "too short";
}

// A computation in registers, with signals that arrive all the time.
TEST(Injection, RegistersAndSignalsAreAsBefore) {
  static std::atomic<uint64_t>* alarms = nullptr;
  Child child([](Stages& stages) {
    alarms = &stages.value[0];
    struct sigaction action {};
    action.sa_handler = [](int) { ++*alarms; };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGALRM, &action, nullptr);
    action.sa_handler = SIG_IGN;
    ::sigaction(SIGTRAP, &action, nullptr);
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGUSR1);
    ::sigprocmask(SIG_SETMASK, &mask, nullptr);
    const itimerval often{{0, 100}, {0, 100}};
    ::setitimer(ITIMER_REAL, &often, nullptr);
    stages.reached = 0;
    uint64_t integers = 1;
    double reals = 1;
    uint64_t rounds = 0;
    for (; stages.allowed < 1; ++rounds) {
      integers = integers * 6364136223846793005u + rounds;
      reals = reals * 1.0000001 + 1e-9;
      if ((rounds & 0xff) == 0) ::getppid();
    }
    uint64_t expected_integers = 1;
    double expected_reals = 1;
    for (uint64_t i = 0; i < rounds; ++i) {
      expected_integers = expected_integers * 6364136223846793005u + i;
      expected_reals = expected_reals * 1.0000001 + 1e-9;
    }
    stages.value[1] = integers == expected_integers && reals == expected_reals ? 1 : 0;
  });
  ASSERT_TRUE(child.await([&] { return child.stages().value[0] > 10; }));
  const auto signals = [&] {
    return line_of(child.pid(), "SigBlk") + line_of(child.pid(), "SigIgn") +
           line_of(child.pid(), "SigCgt");
  };
  const std::string before = signals();
  for (int i = 0; i < 300; ++i) must_inject(child.pid());
  EXPECT_TRUE(child.await([&] { return signals() == before; })) << before << "\n" << signals();
  const uint64_t seen = child.stages().value[0];
  EXPECT_TRUE(child.await([&] { return child.stages().value[0] > seen; })) << "no more signals";
  EXPECT_EQ(child.finish(), 0);
  EXPECT_EQ(child.stages().value[1], 1u);
}

TEST(Injection, AStoppedProcessStaysStopped) {
  Child child([](Stages& stages) {
    stages.reached = 0;
    for (;;) ++stages.value[0];
  });
  ASSERT_TRUE(child.await([&] { return child.stages().value[0] > 0; }));
  ::kill(child.pid(), SIGSTOP);
  ASSERT_TRUE(child.await([&] { return state_of(child.pid()) == 'T'; }));
  const uint64_t count = child.stages().value[0];
  for (int i = 0; i < 20; ++i) must_inject(child.pid());
  EXPECT_TRUE(child.await([&] { return state_of(child.pid()) == 'T'; }));
  EXPECT_EQ(child.stages().value[0], count);
  ::kill(child.pid(), SIGCONT);
  EXPECT_TRUE(child.await([&] { return child.stages().value[0] > count; }));
}

TEST(Injection, OtherThreadsRunOn) {
  Child child([](Stages& stages) {
    std::thread others[3];
    for (size_t i = 0; i < 3; ++i) {
      others[i] = std::thread([&stages, i] {
        while (stages.allowed < 1) ++stages.value[i];
      });
    }
    stages.reached = 0;
    for (auto& other : others) other.join();
  });
  ASSERT_TRUE(child.await([&] { return child.stages().value[2] > 0; }));
  for (int i = 0; i < 100; ++i) must_inject(child.pid());
  for (size_t i = 0; i < 3; ++i) {
    const uint64_t count = child.stages().value[i];
    EXPECT_TRUE(child.await([&] { return child.stages().value[i] > count; })) << i;
  }
  EXPECT_EQ(child.finish(), 0);
}

// A filter that ends the process for what it does not know.
TEST(Injection, AFilterOfSystemCallsIsNotAsked) {
  Child child([](Stages& stages) {
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  // the number
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{std::size(code), code};
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    stages.at(0);
    ::syscall(SYS_userfaultfd, 0);
  });
  ASSERT_TRUE(child.to(0));
  must_inject(child.pid());
  EXPECT_EQ(line_of(child.pid(), "Seccomp"), "Seccomp:\t2");
  EXPECT_EQ(child.finish() & 0x7f, SIGSYS) << "the filter is still there";
}

// It is in a restartable sequence all the time, and counts how often that was aborted. One that
// went on after an interruption would work on the data of a processor it is not on any more.
[[noreturn]] void stay_in_a_sequence(Stages& stages) {
  const uint64_t thread = reinterpret_cast<uint64_t>(__builtin_thread_pointer());
  auto* area = reinterpret_cast<struct rseq*>(thread + static_cast<uint64_t>(__rseq_offset));
  for (;;) {
    asm volatile goto(
        ".pushsection __rseq_cs, \"aw\"\n"
        ".balign 32\n"
        "3: .long 0, 0\n"
        ".quad 1f, (2f - 1f), 4f\n"
        ".popsection\n"
        "leaq 3b(%%rip), %%rax\n"
        "movq %%rax, %[section]\n"
        "1: incq %[beats]\n"
        "jmp 1b\n"
        "2:\n"
        ".byte 0x0f, 0xb9, 0x3d\n"
        ".long 0x53053053\n"  // glibc's signature
        "4: jmp %l[aborted]\n"
        :
        : [section] "m"(area->rseq_cs), [beats] "m"(stages.value[1])
        : "rax", "memory", "cc"
        : aborted);
  aborted:
    ++stages.value[0];
  }
}

TEST(Injection, RestartableSequencesAreAborted) {
  Child child([](Stages& stages) {
    if (__rseq_size > 0) stay_in_a_sequence(stages);
  });
  for (int i = 0; i < 20; ++i) {
    const auto beats_on = [&] {
      const uint64_t before = child.stages().value[1];
      return child.await([&, before] { return child.stages().value[1] > before + 1000; });
    };
    ASSERT_TRUE(beats_on()) << "no restartable sequences?";
    const uint64_t aborted = child.stages().value[0];
    must_inject(child.pid());
    ASSERT_TRUE(beats_on());
    EXPECT_GT(child.stages().value[0], aborted);
  }
}

}  // namespace
}  // namespace dvs::mover
