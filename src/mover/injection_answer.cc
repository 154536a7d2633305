#include "base/json.h"
#include "base/pass_fd.h"
#include "mover/injection_helper.h"

namespace dvs::mover {

// {"stopped_ns"} with the descriptor, or {"error", "code"}.
bool answer_injection(int socket, pid_t pid) {
  const auto injected = inject_userfaultfd(pid);
  if (injected.ok()) {
    const Json answer = {{"stopped_ns", injected->stopped_ns}};
    return send_packet(socket, to_text(answer), injected->fd.get()).ok();
  }
  const Error& error = injected.error();
  const Json answer = {{"error", error.message()}, {"code", static_cast<int>(error.code())}};
  return send_packet(socket, to_text(answer)).ok();
}

}  // namespace dvs::mover
