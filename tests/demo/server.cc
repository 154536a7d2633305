// dvs-demo-server: applies each request to its state, copies a block of it into the client's
// memory, answers. An ordinary server: nothing in it knows that it is going to be moved.
#include <unistd.h>

#include <cstdio>

#include "demo/protocol.h"

namespace dvs::demo {
namespace {

// What was wrong with the order and the contents of the requests so far.
struct Faults {
  long missed = 0;
  long repeated = 0;
  long corrupted = 0;
};

void check(const message& request, long last, Faults& faults) {
  const long sequence = request.m2_l1;
  if (request.m_type != kRequest || request.m2_l2 != token(static_cast<uint64_t>(sequence))) {
    ++faults.corrupted;
  } else if (sequence <= last) {
    ++faults.repeated;
  } else {
    faults.missed += sequence - last - 1;
  }
}

message answer_to(long sequence, const Faults& faults) {
  dvs_usr_t info;
  message answer = {};
  answer.m_type = kAnswer;
  answer.m4_l1 = sequence;
  answer.m4_l2 = getpid();
  answer.m4_l3 = dvk_getdvsinfo(&info);
  answer.m4_l4 = faults.missed;
  answer.m4_l5 = faults.repeated | faults.corrupted << 32;
  return answer;
}

int serve() {
  State state;
  Faults faults;
  long last = 0;
  int rc = dvk_wait4bind_T(TIMEOUT_MOLCALL);
  while (!DVK_IS_ERROR(rc)) {
    message request;
    if (rc = dvk_rcvrqst(&request); rc != OK) break;
    check(request, last, faults);
    last = request.m2_l1;
    const uint64_t* block = state.apply(static_cast<uint64_t>(last));
    rc = dvk_vcopy(SELF, block, request.m_source, request.m2_p1, State::kBlockBytes);
    if (rc != OK) break;
    message answer = answer_to(last, faults);
    if (rc = dvk_reply(request.m_source, &answer); rc != OK) break;
  }
  std::fprintf(stderr, "dvs-demo-server: after request %ld: error %d\n", last, rc);
  return 1;
}

}  // namespace
}  // namespace dvs::demo

int main() { return dvs::demo::serve(); }
