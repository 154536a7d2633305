#include "migrate/engine/movable.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "mover/testing/child.h"

namespace dvs {
namespace {

using mover::Child;
using mover::Stages;

std::vector<mover::ProcessId> alone(const Child& child) { return {{child.pid(), 77}}; }

// What is said of a process that has done this.
std::string said_of(const std::function<void(Stages&)>& body) {
  Child child([&](Stages& stages) {
    body(stages);
    stages.at(0);
  });
  if (!child.to(0)) return "it has ended";
  const Status movable = check_movable(alone(child), 77);
  if (movable.ok()) return "";
  EXPECT_EQ(movable.error().code(), Code::kUnsupported);
  return movable.error().message();
}

TEST(Movable, WhatEveryProcessHas) {
  EXPECT_EQ(said_of([](Stages&) {
              ::eventfd(0, 0);
              static_cast<void>(::open("/dev/null", O_RDWR));
              static_cast<void>(::open("/dev/urandom", O_RDONLY));
              static_cast<void>(::syscall(SYS_pidfd_open, ::getpid(), 0));
            }),
            "");
}

TEST(Movable, ADescriptorOfAKindThatStaysBehindIsNamed) {
  const std::string said = said_of([](Stages&) {
    char parameters[256] = {};
    if (::syscall(SYS_io_uring_setup, 4, parameters) < 0) ::_exit(1);
  });
  EXPECT_NE(said.find("of process 77 is io_uring"), std::string::npos) << said;
  EXPECT_NE(said.find("descriptor "), std::string::npos) << said;
  EXPECT_NE(said.find("epoll"), std::string::npos) << said;
}

TEST(Movable, SystemVSharedMemory) {
  const std::string said = said_of([](Stages&) {
    const int id = ::shmget(IPC_PRIVATE, 4096, 0600);
    const void* at = ::shmat(id, nullptr, 0);
    ::shmctl(id, IPC_RMID, nullptr);
    if (at == reinterpret_cast<void*>(-1)) ::_exit(1);
  });
  EXPECT_NE(said.find("process 77 uses System V"), std::string::npos) << said;
}

TEST(Movable, WhoIsTraced) {
  Child child([](Stages& stages) { stages.at(0); });
  ASSERT_TRUE(child.to(0));
  ASSERT_EQ(::ptrace(PTRACE_SEIZE, child.pid(), 0, 0), 0);
  const Status movable = check_movable(alone(child), 77);
  ASSERT_FALSE(movable.ok());
  EXPECT_NE(movable.error().message().find("process 77 is being traced"), std::string::npos);
}

TEST(Movable, WhoHasLostItsParent) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  Child child([](Stages& stages) {
    const pid_t between = ::fork();
    if (between == 0) {
      const pid_t orphan = ::fork();
      if (orphan == 0) {
        ::pause();
        ::_exit(0);
      }
      stages.value[0] = static_cast<uint64_t>(orphan);
      ::_exit(0);
    }
    ::waitpid(between, nullptr, 0);
    stages.at(0);
  });
  ASSERT_TRUE(child.to(0));
  const auto orphan = static_cast<pid_t>(child.stages().value[0].load());
  const Status movable = check_movable({{child.pid(), 77}, {orphan, 79}}, 77);
  ASSERT_FALSE(movable.ok());
  EXPECT_NE(movable.error().message().find("process 79 has lost its parent"), std::string::npos)
      << movable.error().message();
  ::kill(orphan, SIGKILL);
  ::waitpid(orphan, nullptr, 0);
}

TEST(Movable, WhoHasEndedIsNobodysFault) {
  EXPECT_TRUE(check_movable({{1 << 22, 77}}, 77).ok());
  EXPECT_TRUE(check_movable({{1 << 22, 78}}, 77).ok());
}

}  // namespace
}  // namespace dvs
