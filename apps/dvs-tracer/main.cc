// dvs-tracer PID: has process PID make a userfaultfd and sends it over standard input, a
// SOCK_SEQPACKET socket to dvsd (mover/injection_helper.h). While the process is stopped for that
// it must not be left alone, and dvsd may be killed at any moment.
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "mover/injection_helper.h"

int main(int argc, char** argv) {
  const long pid = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 0;
  if (pid <= 0) {
    std::fputs("usage: dvs-tracer PID (started by dvsd)\n", stderr);
    return 2;
  }
  ::setsid();
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE}) ::signal(signal, SIG_IGN);
  return dvs::mover::answer_injection(STDIN_FILENO, static_cast<pid_t>(pid)) ? 0 : 1;
}
