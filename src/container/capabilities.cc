#include "container/capabilities.h"

#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace dvs {
namespace {

constexpr int kWords = _LINUX_CAPABILITY_U32S_3;

struct Sets {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct words[kWords] = {};

  void remove(int capability) {
    const auto mask = ~CAP_TO_MASK(capability);
    auto& word = words[CAP_TO_INDEX(capability)];
    word.effective &= mask;
    word.permitted &= mask;
    word.inheritable &= mask;
  }
};

}  // namespace

Status give_up_capabilities() {
  Sets sets;
  if (::syscall(SYS_capget, &sets.header, sets.words) != 0) {
    return errno_error("cannot read this process's capabilities");
  }
  for (const int capability : kGivenUp) {
    sets.remove(capability);
    // (EINVAL: this kernel does not know it.)
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0 && errno != EINVAL) {
      return errno_error("cannot give up a capability");
    }
  }
  if (::syscall(SYS_capset, &sets.header, sets.words) != 0) {
    return errno_error("cannot give up capabilities");
  }
  return {};
}

}  // namespace dvs
