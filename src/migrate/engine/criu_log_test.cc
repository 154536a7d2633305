#include "migrate/engine/criu_log.h"

#include <gtest/gtest.h>

#include <string>

namespace dvs {
namespace {

struct Case {
  const char* name;
  const char* line;  // as criu 4.2.1 printed it
  Code code;
  const char* message;
};

class KnownReason : public ::testing::TestWithParam<Case> {};

TEST_P(KnownReason, IsToldInAUsersWords) {
  const std::string before =
      "Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not "
      "permitted\nWarn  (criu/kerndat.c:1): something of no importance\n";
  const std::string after = "\nError (criu/cr-dump.c:1975): Dumping FAILED.\n";
  const Error error = explain_criu_log(before + GetParam().line + after);
  EXPECT_EQ(error.code(), GetParam().code);
  EXPECT_EQ(error.message(), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    Table, KnownReason,
    ::testing::Values(
        Case{"io_uring", "pie: 5002: Error (criu/pie/parasite.c:588): send_fds failed (-22)",
             Code::kUnsupported,
             "process 5002 holds an io_uring; the engine cannot move one: let it use epoll"},
        Case{"fuse",
             "Error (criu/files-ext.c:94): Can't dump file 3 of that type [20600] (chr 10:229)",
             Code::kUnsupported,
             "descriptor 3 is the device /dev/fuse; devices stay with their machine"},
        Case{"without_tun",
             "Error (criu/tun.c:85): tun: Unable to create tun: No such file or directory\n"
             "pie: 7: Error (criu/pie/parasite.c:588): send_fds failed (-22)",
             Code::kUnsupported,
             "process 7 holds an io_uring; the engine cannot move one: let it use epoll"},
        Case{"userfaultfd",
             "Error (criu/files-ext.c:94): Can't dump file 3 of that type [600] (anon "
             "anon_inode:[userfaultfd])",
             Code::kUnsupported, "descriptor 3 is a userfaultfd; the engine cannot move one"},
        Case{"socket",
             "Error (criu/sockets.c:767): sockets: BUG! Unknown socket collected (family 40)",
             Code::kUnsupported,
             "a socket of address family 40 is held; the engine moves unix, TCP, UDP, netlink and "
             "packet sockets"},
        Case{"traced",
             "Warn  (compel/src/lib/infect.c:132): Unable to interrupt task: 5002 (Operation not "
             "permitted)",
             Code::kUnsupported, "process 5002 is being traced by a debugger; detach it first"},
        Case{"outside",
             "Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=10 path=/dev/null",
             Code::kUnsupported,
             "descriptor 10 (/dev/null) was opened outside of the DC; open it inside"},
        Case{
            "missing",
            "  5002: Error (criu/files-reg.c:2353): Can't open file run/dvs/victim.log on restore: "
            "No such file or directory",
            Code::kNotFound,
            "/run/dvs/victim.log does not exist on this node; the process has it open or mapped"},
        Case{"cpu",
             "Error (criu/arch/x86/cpu.c:222): cpu: CPU instruction capabilities do not match run "
             "time",
             Code::kUnsupported, "this node's CPU lacks a feature that the process may be using"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(CriuLog, FirstReasonCounts) {
  const Error error = explain_criu_log(
      "Error (criu/mem.c:1): Can't open file a/b on restore: No such file or directory\n"
      "Error (criu/page-xfer.c:2): Unable to write: No space left on device\n");
  EXPECT_EQ(error.code(), Code::kNotFound);
}

TEST(CriuLog, UnknownReasonIsCriusFirstErrorLine) {
  const Error error = explain_criu_log(
      "Warn  (criu/a.c:1): hm\n  7: Error (criu/b.c:2): The frobnicator is gone\n"
      "Error (criu/c.c:3): Restoring FAILED.\n");
  EXPECT_EQ(error.code(), Code::kInternal);
  EXPECT_EQ(error.message(), "criu: The frobnicator is gone");
}

TEST(CriuLog, AnyBytesAreAnswered) {
  EXPECT_EQ(explain_criu_log("").message(), "criu failed and did not say why");
  EXPECT_EQ(explain_criu_log("Error (").code(), Code::kInternal);
  const std::string zeros(3000, '\0');
  EXPECT_EQ(explain_criu_log(zeros + "\n\n").code(), Code::kInternal);
  EXPECT_EQ(explain_criu_log(std::string(1 << 20, 'x')).code(), Code::kInternal);
}

}  // namespace
}  // namespace dvs
