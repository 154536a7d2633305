// asker SERVER NUMBER: one sendrec; says "answer RC VALUE", then waits shortly for a second answer
// that must not come and says "then RC".
#include <cstring>

#include "common.h"

using namespace dvs::programs;

int main(int argc, char** argv) {
  lines();
  if (argc < 3) return 2;
  message m;
  memset(&m, 0, sizeof m);
  m.m_type = kRequest;
  m.m1_i1 = atoi(argv[2]);
  printf("asking\n");
  const int rc = dvk_sendrec(atoi(argv[1]), &m);
  printf("answer %d %d\n", rc, m.m1_i1);
  printf("then %d\n", dvk_receive_T(ANY, &m, 100));
  pause();
}
