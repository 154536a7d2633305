#include "migrate/engine/criu_log.h"

#include <algorithm>
#include <array>
#include <optional>
#include <regex>
#include <string>
#include <vector>

namespace dvs {
namespace {

constexpr size_t kLongestLine = 1000;  // std::regex recurses per character

// A line of criu's that gives the reason away; $1, $2: its bracketed parts.
struct Reason {
  std::regex line;
  Code code;
  const char* text;
};

// Texts of criu 4.2.1. The first line of the log that matches any of them is the reason: criu
// names the cause first and then each level that gave up.
const std::vector<Reason>& reasons() {
  static const std::vector<Reason> table = {
      // What a process must not hold or be.
      {std::regex(R"(pie: (\d+): Error .*send_fds failed \(-22\))"), Code::kUnsupported,
       "process $1 holds an io_uring; the engine cannot move one: let it use epoll"},
      {std::regex(R"(Can't dump file (\d+) of that type .*\(anon anon_inode:\[?(\w+)\]?\))"),
       Code::kUnsupported, "descriptor $1 is a $2; the engine cannot move one"},
      {std::regex(R"(Can't dump file (\d+) of that type .*\(chr 10:229\))"), Code::kUnsupported,
       "descriptor $1 is the device /dev/fuse; devices stay with their machine"},
      {std::regex(R"(Can't dump file (\d+) of that type .*\(chr (\d+:\d+)\))"), Code::kUnsupported,
       "descriptor $1 is the character device $2; devices stay with their machine"},
      {std::regex(R"(Can't dump file (\d+) of that type .*\(blk (\d+:\d+)\))"), Code::kUnsupported,
       "descriptor $1 is the block device $2; devices stay with their machine"},
      {std::regex(R"(Can't dump file (\d+) of that type)"), Code::kUnsupported,
       "descriptor $1 is of a type that the engine cannot move"},
      {std::regex(R"(Error \([^)]*\): tun: (?!Unable to create))"), Code::kUnsupported,
       "a network interface (/dev/net/tun) is held; devices stay with their machine"},
      {std::regex(R"(Unknown socket collected \(family (\d+)\))"), Code::kUnsupported,
       "a socket of address family $1 is held; the engine moves unix, TCP, UDP, netlink and packet "
       "sockets"},
      {std::regex(
           R"(Error .*unix: .*(?:half of stream|External (?:stream |socket))|Can't dump half)"),
       Code::kUnsupported,
       "a unix socket is connected to a process outside of the tree; close it before a migration"},
      {std::regex(R"(Unable to interrupt task: (\d+) \(Operation not permitted\))"),
       Code::kUnsupported, "process $1 is being traced by a debugger; detach it first"},
      {std::regex(R"(Can't lookup mount=\S+ for fd=(-?\d+) path=(.*))"), Code::kUnsupported,
       "descriptor $1 ($2) was opened outside of the DC; open it inside"},
      {std::regex(R"(Can't create link remap for (\S+)\.)"), Code::kUnsupported,
       "$1 is open and was removed, but has another name; the engine cannot find that one again"},
      {std::regex(R"(Can't dump ghost file (\S+) of (\d+) size)"), Code::kUnsupported,
       "$1 is open and was removed; its $2 bytes are too many to take along"},
      {std::regex(R"(SysVIPC shmem)"), Code::kUnsupported,
       "System V shared memory is used; the engine cannot move it: use a file"},
      {std::regex(R"(session leader of (\d+)\(|leader of \S+ is outside|use the --shell-job)"),
       Code::kUnsupported,
       "the tree has a terminal or a session leader outside of it; start it by setsid"},
      {std::regex(R"(Error .*[tT]ask (\d+) .*(?:32|compat|unsupported mode))"), Code::kUnsupported,
       "process $1 runs in a mode that the engine cannot move"},
      {std::regex(R"(CPU .*(?:do not match|mismatch|unsupported bits)|FPU feature required)"),
       Code::kUnsupported, "this node's CPU lacks a feature that the process may be using"},
      // What this node must offer.
      {std::regex(R"(Can't fork for (\d+): File exists)"), Code::kConflict,
       "process id $1 is taken on this node"},
      {std::regex(R"((?:thread|tid|pid)\D{0,20}(\d+)\D{0,40}File exists)"), Code::kConflict,
       "process or thread id $1 is taken on this node"},
      {std::regex(R"(File (\S+) has bad size (\d+) \(expect (\d+)\))"), Code::kConflict,
       "/$1 has $2 bytes here, but had $3 where the process opened it"},
      {std::regex(R"(File (\S+) has bad build-ID)"), Code::kConflict,
       "/$1 is another build here than where the process runs; install the same"},
      {std::regex(R"(File (\S+) has bad mode)"), Code::kConflict,
       "/$1 has other permissions or another type here"},
      {std::regex(R"(Can't open file (\S+).*: No such file or directory)"), Code::kNotFound,
       "/$1 does not exist on this node; the process has it open or mapped"},
      {std::regex(R"(Can't open file (\S+).*: Permission denied)"), Code::kDenied,
       "/$1 cannot be opened on this node: permission denied"},
      {std::regex(R"(No space left on device)"), Code::kNoSpace,
       "the file system of the images is full"},
      {std::regex(R"(Cannot allocate memory)"), Code::kNoSpace, "this node's memory is exhausted"},
      {std::regex(R"(Magic doesn't match for (\S+))"), Code::kCorrupt, "the image $1 is damaged"},
      {std::regex(
           R"((?:Unexpected EOF on|Can't unpack|unpack.*from|Failed unpacking).*?(\S+\.img)?)"),
       Code::kCorrupt, "an image is damaged $1"},
      {std::regex(R"(Timeout reached)"), Code::kTimeout,
       "the processes could not be stopped in time"},
  };
  return table;
}

std::optional<Error> reason_of(const std::string& line) {
  for (const auto& reason : reasons()) {
    std::smatch match;
    if (std::regex_search(line, match, reason.line)) {
      return Error(reason.code, match.format(reason.text));
    }
  }
  return std::nullopt;
}

// criu complains of this on every host where it may not raise its own limit, and goes on.
bool harmless(std::string_view line) {
  return line.find("RLIMIT_NOFILE for self") != std::string_view::npos;
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!harmless(line)) lines.emplace_back(line.substr(0, kLongestLine));
  }
  return lines;
}

// "  5: Error (criu/x.c:12): text" -> "text"
std::string without_position(const std::string& line) {
  const size_t end = line.find("): ", line.find("Error ("));
  return end == std::string::npos ? line : line.substr(end + 3);
}

}  // namespace

Error explain_criu_log(std::string_view log) {
  const auto lines = lines_of(log);
  for (const auto& line : lines) {
    if (auto reason = reason_of(line)) return *reason;
  }
  for (const auto& line : lines) {
    if (line.find("Error (") != std::string::npos) {
      return Error(Code::kInternal, "criu: " + without_position(line));
    }
  }
  return Error(Code::kInternal, "criu failed and did not say why");
}

}  // namespace dvs
