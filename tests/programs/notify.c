/* notify PARENT CHILD: notifications both ways; two before they are fetched are one; with a value;
 * before messages, but not for who asks for messages only. */
#include "program.h"

static void expect_notification(int from, long value) {
  message m;
  CHECK_RC(dvk_receive_T(ANY, &m, PATIENCE_MS), OK);
  CHECK(m.NOTIFY_SOURCE == from);
  CHECK(m.NOTIFY_TYPE == (int)NOTIFY_FROM(_ENDPOINT_P(from)));
  CHECK(m.NOTIFY_ARG == value);
  CHECK(m.NOTIFY_TIMESTAMP.tv_sec > 1000000000);
}

static void be_child(int self, int parent) {
  bind_to(self);
  message m;
  CHECK_RC(dvk_rcvrqst_T(&m, PATIENCE_MS), OK); /* not the notifications, which were there before */
  CHECK(m.m_source == parent && m.m_type == 1);
  expect_notification(parent, 0);
  CHECK_RC(dvk_receive_T(ANY, &m, TIMEOUT_NOWAIT), EDVSAGAIN); /* two were merged */
  CHECK_RC(dvk_notify(parent), OK);
  CHECK_RC(dvk_reply_T(parent, &m, PATIENCE_MS), OK);
  expect_notification(parent, 4711);
  CHECK_RC(dvk_ntfy_value(SELF, parent, 4712), OK);
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
}

int main(int argc, char** argv) {
  begin(argc, 2, "notify PARENT CHILD");
  const int parent = atoi(argv[1]);
  const int child = atoi(argv[2]);
  bind_to(parent);
  const pid_t pid = fork();
  if (pid == 0) {
    be_child(child, parent);
    return EXIT_SUCCESS;
  }
  CHECK_RC(dvk_wait4bindep_T(child, PATIENCE_MS), child);
  CHECK_RC(dvk_notify(child), OK);
  CHECK_RC(dvk_src_notify(parent, child), OK);
  message m = make(1, 0);
  CHECK_RC(dvk_sendrec_T(child, &m, PATIENCE_MS), OK);
  expect_notification(child, 0);
  CHECK_RC(dvk_ntfy_value(SELF, child, 4711), OK);
  expect_notification(child, 4712);
  CHECK_RC(dvk_notify(parent), EDVSBADDEST);
  reap(pid);
  return passed("notify");
}
