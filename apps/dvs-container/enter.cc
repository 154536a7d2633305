#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "birth.h"
#include "commands.h"
#include "inside.h"

namespace dvs::helper {
namespace {

constexpr int kCannotEnter = 125;
constexpr int kCannotExecute = 126;
constexpr int kNoSuchProgram = 127;

int fail(int status, const std::string& message) {
  std::fprintf(stderr, "dvs-container: %s\n", message.c_str());
  return status;
}

// Ends this process with the helper, however that ends. getppid() cannot tell whether it already
// did: the parent is in another pid namespace.
void die_with(const UniqueFd& helper) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  pollfd ended{helper.get(), POLLIN, 0};
  if (::poll(&ended, 1, 0) > 0) ::_exit(kCannotEnter);
}

[[noreturn]] void become_command(const Options& options, const BirthGroups& groups,
                                 const UniqueFd& helper, const sigset_t& mask) {
  die_with(helper);
  auto ready = groups.join();
  if (ready) ready = keep_pid_counter(options.pids);
  if (!ready) ::_exit(fail(kCannotEnter, ready.error().message()));
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  ::execvp(options.command[0], options.command);
  const int error = errno;
  fail(0, "cannot execute " + std::string(options.command[0]) + ": " + std::strerror(error));
  ::_exit(error == ENOENT ? kNoSuchProgram : kCannotExecute);
}

// Waits for the child and forwards the signals that ask a program to end.
int wait_for(pid_t child, const sigset_t& signals) {
  for (;;) {
    int status = 0;
    if (::waitpid(child, &status, WNOHANG) == child) {
      return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
    const int signal = ::sigwaitinfo(&signals, nullptr);
    if (signal > 0 && signal != SIGCHLD) ::kill(child, signal);
  }
}

}  // namespace

int run_enter(const Options& options) {
  if (options.command == nullptr || *options.command == nullptr) {
    return fail(kCannotEnter, "no program given");
  }
  sigset_t signals;
  sigset_t mask;
  ::sigemptyset(&signals);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &mask);
  ::signal(SIGCHLD, SIG_DFL);

  auto helper = open_process(::getpid());
  if (!helper) return fail(kCannotEnter, helper.error().message());
  auto groups = BirthGroups::open(options.cgroups);
  if (!groups) return fail(kCannotEnter, groups.error().message());
  if (auto entered = enter_container(options); !entered) {
    return fail(kCannotEnter, entered.error().message());
  }
  auto child = groups->fork();
  if (!child) return fail(kCannotEnter, child.error().message());
  if (*child == 0) become_command(options, *groups, *helper, mask);
  return wait_for(*child, signals);
}

}  // namespace dvs::helper
