#include "mover/injection_helper.h"

#include <sys/socket.h>

#include "base/child.h"
#include "base/json.h"
#include "base/pass_fd.h"

namespace dvs::mover {
namespace {

Error no_answer(const std::string& program, const std::string& why) {
  return Error(Code::kInternal, program + " did not answer: " + why);
}

}  // namespace

// It is not ended when it takes long: it is never, then, that the other process is stopped.
Result<InjectedFd> inject_by_helper(const std::string& program, pid_t pid) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("cannot make a socket");
  }
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  ChildOptions options;
  options.argv = {program, std::to_string(pid)};
  options.stdin_fd = theirs.get();
  DVS_ASSIGN(const ChildResult ended, run_child_blocking(std::move(options)));
  theirs.reset();
  DVS_ASSIGN(Packet packet, receive_packet(ours.get()));
  if (packet.bytes.empty()) return no_answer(program, ended.describe());
  DVS_ASSIGN(const Json answer, parse_json(packet.bytes));
  DVS_ASSIGN(const auto why, json_get_or<std::string>(answer, "error", ""));
  DVS_ASSIGN(const auto code, json_get_or<int>(answer, "code", 0));
  if (!why.empty()) return Error(static_cast<Code>(code), why);
  DVS_ASSIGN(const auto stopped_ns, json_get<int64_t>(answer, "stopped_ns"));
  if (!packet.fd.valid()) return no_answer(program, "no descriptor came along");
  return InjectedFd{std::move(packet.fd), stopped_ns};
}

}  // namespace dvs::mover
