/* loops ROLE KIND PAIRS LOOPS FIRST: PAIRS pairs of a server, at FIRST, FIRST + 2, ..., and its
 * client, one number higher. KIND is what they do LOOPS times: send     the client sends, the
 * server sends back sendrec  the client asks, the server replies notify   the client notifies, the
 * server notifies back vcopy    the client asks, the server copies 100,000 bytes from and to the
 * client's memory ROLE is `both`, or `servers` on one node and `clients` on another. */
#include "program.h"

enum { BYTES = 100000 };
static char buffer[BYTES];

typedef void Step(int peer, int i);

static void expect(int peer, int type, int number) {
  message m;
  CHECK_RC(dvk_receive_T(peer, &m, PATIENCE_MS), OK);
  CHECK(m.m_source == peer && m.m_type == type && m.m1_i1 == number);
}
static void send_number(int peer, int type, int number) {
  message m = make(type, number);
  CHECK_RC(dvk_send_T(peer, &m, PATIENCE_MS), OK);
}
static void await_notification(int peer) {
  message m;
  CHECK_RC(dvk_receive_T(peer, &m, PATIENCE_MS), OK);
  CHECK(m.m_source == peer && m.m_type == (int)NOTIFY_FROM(_ENDPOINT_P(peer)));
}

static void send_client(int peer, int i) {
  send_number(peer, 1, i);
  expect(peer, 2, i);
}
static void send_server(int peer, int i) {
  expect(peer, 1, i);
  send_number(peer, 2, i);
}

static void sendrec_client(int peer, int i) {
  message m = make(1, i);
  CHECK_RC(dvk_sendrec_T(peer, &m, PATIENCE_MS), OK);
  CHECK(m.m_source == peer && m.m_type == 2 && m.m1_i1 == i);
}
static void sendrec_server(int peer, int i) {
  message m;
  CHECK_RC(dvk_rcvrqst_T(&m, PATIENCE_MS), OK);
  CHECK(m.m_source == peer && m.m_type == 1 && m.m1_i1 == i);
  m.m_type = 2;
  CHECK_RC(dvk_reply_T(peer, &m, PATIENCE_MS), OK);
}

static void notify_client(int peer, int i) {
  (void)i;
  CHECK_RC(dvk_notify_T(peer, PATIENCE_MS), OK);
  await_notification(peer);
}
static void notify_server(int peer, int i) {
  (void)i;
  await_notification(peer);
  CHECK_RC(dvk_notify_T(peer, PATIENCE_MS), OK);
}

static void vcopy_client(int peer, int i) {
  fill(buffer, BYTES, i);
  message m = make(1, i);
  m.m1_p1 = buffer;
  CHECK_RC(dvk_sendrec_T(peer, &m, PATIENCE_MS), OK);
  CHECK(m.m1_i1 == i && is_filled(buffer, BYTES, i + 1));
}
static void vcopy_server(int peer, int i) {
  message m;
  CHECK_RC(dvk_rcvrqst_T(&m, PATIENCE_MS), OK);
  CHECK(m.m_source == peer && m.m1_i1 == i);
  CHECK_RC(dvk_vcopy(peer, m.m1_p1, SELF, buffer, BYTES), OK);
  CHECK(is_filled(buffer, BYTES, i));
  fill(buffer, BYTES, i + 1);
  CHECK_RC(dvk_vcopy(SELF, buffer, peer, m.m1_p1, BYTES), OK);
  CHECK_RC(dvk_reply_T(peer, &m, PATIENCE_MS), OK);
}

static const struct {
  const char* name;
  Step *client, *server;
} kinds[] = {{"send", send_client, send_server},
             {"sendrec", sendrec_client, sendrec_server},
             {"notify", notify_client, notify_server},
             {"vcopy", vcopy_client, vcopy_server}};

static pid_t start(int self, int peer, int loops, Step* step) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) return pid;
  bind_to(self);
  CHECK_RC(dvk_wait4bindep_T(peer, PATIENCE_MS), peer);
  for (int i = 0; i < loops; ++i) step(peer, i);
  /* A last request and its answer, and then the client leaves first: nobody leaves while the other
   * waits to hear that a message, or a notification, has arrived. */
  if (self > peer) {
    sendrec_client(peer, loops);
  } else {
    sendrec_server(peer, loops);
    CHECK_RC(dvk_wait4unbind_T(peer, PATIENCE_MS), OK);
  }
  CHECK_RC(dvk_unbind(my_dc(), SELF), OK);
  exit(EXIT_SUCCESS);
}

int main(int argc, char** argv) {
  const char* usage = "loops both|servers|clients send|sendrec|notify|vcopy PAIRS LOOPS FIRST";
  begin(argc, 5, usage);
  const int servers = strcmp(argv[1], "clients") != 0;
  const int clients = strcmp(argv[1], "servers") != 0;
  const int pairs = atoi(argv[3]);
  const int loops = atoi(argv[4]);
  const int first = atoi(argv[5]);
  size_t kind = 0;
  while (kind < sizeof kinds / sizeof kinds[0] && strcmp(kinds[kind].name, argv[2]) != 0) ++kind;
  enum { MAX_PAIRS = 100 };
  if (kind == sizeof kinds / sizeof kinds[0] || pairs < 1 || pairs > MAX_PAIRS || loops < 1) {
    begin(0, 5, usage);
  }
  pid_t pids[2 * MAX_PAIRS];
  int started = 0;
  for (int i = 0; i < pairs; ++i) {
    const int server = first + 2 * i;
    const int client = server + 1;
    if (servers) pids[started++] = start(server, client, loops, kinds[kind].server);
    if (clients) pids[started++] = start(client, server, loops, kinds[kind].client);
  }
  for (int i = 0; i < started; ++i) reap(pids[i]);
  return passed(kinds[kind].name);
}
