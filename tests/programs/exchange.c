/* exchange PARENT CHILD: a parent and its child exchange messages in every way: send and receive,
 * sendrec answered by send and by reply, the parent asking and the child asking. */
#include "program.h"

enum { ROUNDS = 200 };

/* The requests of one side, in order, and what the other does. */
static void ask(int peer) {
  for (int i = 0; i < ROUNDS; ++i) {
    message m = make(10, i);
    CHECK_RC(dvk_send_T(peer, &m, PATIENCE_MS), OK);
    CHECK_RC(dvk_receive_T(peer, &m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 11 && m.m1_i1 == i + 1);

    m = make(20, i);
    CHECK_RC(dvk_sendrec_T(peer, &m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 21 && m.m1_i1 == i + 2);

    m = make(30, i);
    CHECK_RC(dvk_sendrec_T(peer, &m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 31 && m.m1_i1 == i + 3);
  }
}

static void answer(int peer) {
  message m;
  for (int i = 0; i < ROUNDS; ++i) {
    CHECK_RC(dvk_receive_T(ANY, &m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 10 && m.m1_i1 == i);
    m = make(11, i + 1);
    CHECK_RC(dvk_send_T(peer, &m, PATIENCE_MS), OK);

    CHECK_RC(dvk_receive_T(peer, &m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 20 && m.m1_i1 == i);
    m = make(21, i + 2);
    CHECK_RC(dvk_send_T(peer, &m, PATIENCE_MS), OK); /* to who waits for it: the answer */

    CHECK_RC(dvk_rcvrqst_T(&m, PATIENCE_MS), OK);
    CHECK(m.m_source == peer && m.m_type == 30 && m.m1_i1 == i);
    m = make(31, i + 3);
    CHECK_RC(dvk_reply_T(peer, &m, PATIENCE_MS), OK);
    /* It has its answer. (After the last one it may have gone.) */
    if (i + 1 < ROUNDS) {
      CHECK_RC(dvk_reply_T(peer, &m, PATIENCE_MS), EDVSPROCSTS);
    }
  }
}

int main(int argc, char** argv) {
  begin(argc, 2, "exchange PARENT CHILD");
  const int parent = atoi(argv[1]);
  const int child = atoi(argv[2]);
  bind_to(parent);
  const pid_t pid = fork();
  if (pid == 0) {
    bind_to(child);
    answer(parent);
    ask(parent);
    CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
    return EXIT_SUCCESS;
  }
  CHECK_RC(dvk_wait4bindep_T(child, PATIENCE_MS), child);
  ask(child);
  answer(child);
  reap(pid);
  return passed("exchange");
}
