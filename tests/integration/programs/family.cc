// family: a parent and three children that talk through pipes for ever. Says "round N" while every
// answer is right.
#include <array>

#include "common.h"

namespace {

struct Child {
  int to = -1;
  int from = -1;
};

[[noreturn]] void be_child(int in, int out, int index) {
  int value = 0;
  while (read(in, &value, sizeof value) == sizeof value) {
    value = value * 10 + index;
    if (write(out, &value, sizeof value) != sizeof value) break;
  }
  _exit(0);
}

Child start(int index) {
  int down[2];
  int up[2];
  if (pipe(down) != 0 || pipe(up) != 0) exit(2);
  if (fork() == 0) {
    close(down[1]);
    close(up[0]);
    be_child(down[0], up[1], index);
  }
  close(down[0]);
  close(up[1]);
  return {down[1], up[0]};
}

bool exchange(const Child& child, int index, int round) {
  int value = round;
  if (write(child.to, &value, sizeof value) != sizeof value) return false;
  return read(child.from, &value, sizeof value) == sizeof value && value == round * 10 + index;
}

}  // namespace

int main() {
  dvs::programs::lines();
  std::array<Child, 3> children;
  for (int i = 0; i < 3; ++i) children[static_cast<size_t>(i)] = start(i);
  for (int round = 1;; ++round) {
    for (int i = 0; i < 3; ++i) {
      if (!exchange(children[static_cast<size_t>(i)], i, round)) {
        printf("BAD: child %d in round %d\n", i, round);
        return 1;
      }
    }
    printf("round %d\n", round);
    usleep(10'000);
  }
}
