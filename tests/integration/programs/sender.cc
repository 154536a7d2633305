// sender ENDPOINT TYPE NUMBER: sends one message and says "sent RC".
#include <cstring>

#include "common.h"

int main(int argc, char** argv) {
  dvs::programs::lines();
  if (argc < 4) return 2;
  message m;
  memset(&m, 0, sizeof m);
  m.m_type = atoi(argv[2]);
  m.m1_i1 = atoi(argv[3]);
  printf("sent %d\n", dvk_send_T(atoi(argv[1]), &m, 20'000));
}
