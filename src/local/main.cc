// dvs-local: the long-lived processes of a local cluster. Started by src/local, never by hand:
//   dvs-local start DIR       creates the namespaces and the supervisor in them
//   dvs-local supervise DIR   the supervisor
//   dvs-local node NAME       the first process of a node
#include <sys/prctl.h>

#include <cstdio>
#include <string>

#include "local/node_holder.h"
#include "local/process.h"
#include "local/supervisor.h"

int main(int argc, char** argv) {
  using namespace dvs::local;
  const std::string role = argc == 3 ? argv[1] : "";
  ::prctl(PR_SET_NAME, ("dvs-" + role).c_str());  // or ps shows the "exe" it was started by
  if (role == "node") return run_node_holder(Channel(dvs::UniqueFd(kChannelFd)));
  if (role == "supervise") return run_supervisor(argv[2], Channel(dvs::UniqueFd(kChannelFd)));
  if (role == "start") {
    auto launched = launch_supervisor(argv[2], kChannelFd);
    if (launched.ok()) return 0;
    std::fprintf(stderr, "%s\n", launched.error().message().c_str());
    return 1;
  }
  std::fprintf(stderr, "dvs-local is a part of 'dvs up' and is not for use by hand\n");
  return 2;
}
