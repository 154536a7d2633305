// dvs-soak-server HISTORY BYTES: applies each request to its state and answers. An ordinary server:
// nothing in it knows that it is moved.
#include <cstdio>
#include <cstdlib>
#include <map>

#include "soak/history.h"
#include "soak/protocol.h"

namespace dvs::soak {
namespace {

int serve(History& history, size_t bytes) {
  State state(bytes);
  std::map<uint32_t, uint64_t> taken;  // by client
  Entry entry;
  int rc = dvk_wait4bind_T(TIMEOUT_MOLCALL);
  while (!DVK_IS_ERROR(rc)) {
    message m;
    if (rc = dvk_rcvrqst(&m); rc != OK) break;
    entry.peer = static_cast<uint32_t>(m.m2_i1);
    entry.number = static_cast<uint64_t>(m.m2_l1);
    entry.count += 1;
    entry.own = ++taken[entry.peer];
    entry.digest = state.apply(entry.peer, entry.number);
    history.add(entry);
    message answer = {};
    answer.m_type = kAnswer;
    answer.m4_l1 = static_cast<long>(entry.number);
    answer.m4_l2 = static_cast<long>(entry.count);
    answer.m4_l3 = static_cast<long>(entry.own);
    answer.m4_l4 = static_cast<long>(entry.digest);
    entry.rc = dvk_reply(m.m_source, &answer);
  }
  std::fprintf(stderr, "dvs-soak-server: error %d\n", rc);
  return 1;
}

}  // namespace
}  // namespace dvs::soak

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: dvs-soak-server HISTORY BYTES\n");
    return 2;
  }
  dvs::soak::History* history = dvs::soak::map_history(argv[1], false);
  if (history == nullptr) {
    std::perror(argv[1]);
    return 1;
  }
  return dvs::soak::serve(*history, std::strtoull(argv[2], nullptr, 10));
}
