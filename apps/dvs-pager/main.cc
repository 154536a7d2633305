// dvs-pager PATIENCE_MS KILL_FILE...: gives restored processes their memory, for dvsd.
//
// Descriptor 3 is a migration's directory of images, with the store of memory in it
// (mover/store.h). There criu ("restore --lazy-pages") connects to lazy-pages.socket and sends each
// process's userfaultfd. Page faults are answered from the store, and when all is restored
// everything else is put where it belongs as well. What the store is owed this program asks dvsd
// for (mover/pager_words.h), over the SOCK_SEQPACKET socket that is its standard input; a dvsd that
// was restarted connects to pager.socket. For what is in the store no dvsd is needed. When it
// closes the socket before criu has come, this program ends. How it went is in memory.outcome at
// the end.
//
// If it cannot go on, the processes must not: what they have not got would be zeros to them. So a
// guardian holds their userfaultfds, too. When the pager fails, it ends them by writing "1" to each
// KILL_FILE (cgroup.kill; of cgroup.procs it kills who is listed), and only then lets go.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/pass_fd.h"
#include "pager.h"

namespace dvs::helper {
namespace {

constexpr int kDirectoryFd = 3;
constexpr int kBadStart = 2;
constexpr int kFailed = 3;

// In the current directory.
UniqueFd listen_at(const char* name, int type) {
  UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, name);
  ::unlink(address.sun_path);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(socket.get(), 1) != 0) {
    fail(std::string("cannot listen at ") + name);
  }
  return socket;
}

void kill_by(const std::string& file) {
  if (file.ends_with("cgroup.kill")) {
    static_cast<void>(write_control_file(file, "1"));
    return;
  }
  const auto list = read_file(file);
  std::istringstream pids(list.ok() ? *list : "");
  for (pid_t pid = 0; pids >> pid;) {
    if (pid > 1) ::kill(pid, SIGKILL);
  }
}

void save_from_oom_killer() {
  static_cast<void>(write_control_file("/proc/self/oom_score_adj", "-1000"));
}

void say_outcome(const std::string& text) {
  static_cast<void>(replace_file(mover::kPagerOutcome, text));
}

int64_t percentile(std::vector<int64_t>& values, size_t percent) {
  if (values.empty()) return 0;
  const auto at = values.begin() + static_cast<ptrdiff_t>((values.size() - 1) * percent / 100);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

int serve(std::chrono::milliseconds patience, int guardian) {
  PagerSockets sockets;
  sockets.criu = listen_at("lazy-pages.socket", SOCK_STREAM);
  sockets.other_dvsd = listen_at(mover::kPagerSocket, SOCK_SEQPACKET);
  sockets.dvsd.reset(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
  ::close(STDIN_FILENO);
  Pager pager(std::move(sockets), patience,
              [guardian](int uffd) { static_cast<void>(send_packet(guardian, "u", uffd).ok()); });
  if (!pager.run()) return 0;
  Statistics done = pager.statistics();
  say_outcome(mover::kComplete +
              ("\n" + to_text(Json{{"faults", done.faults},
                                   {"zero_faults", done.zero_faults},
                                   {"owed_faults", done.owed_faults},
                                   {"fault_p50_ns", percentile(done.fault_ns, 50)},
                                   {"fault_p99_ns", percentile(done.fault_ns, 99)},
                                   {"installed_bytes", done.installed_bytes}})));
  return 0;
}

// Takes descriptors and never looks at them; the control data is kept by keeping them open.
void hold_descriptors(int socket) {
  char byte = 0;
  for (;;) {
    iovec data{&byte, sizeof byte};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t size = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    if (size == 0 || (size < 0 && errno != EINTR)) return;
  }
}

int guard(pid_t pager, int socket, const std::vector<std::string>& kill_files) {
  hold_descriptors(socket);
  int status = 0;
  while (::waitpid(pager, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
  if (::access(mover::kPagerOutcome, F_OK) != 0) say_outcome("the pager was killed");
  for (const std::string& file : kill_files) kill_by(file);
  return kFailed;
}

int run(std::chrono::milliseconds patience, const std::vector<std::string>& kill_files) {
  ::signal(SIGPIPE, SIG_IGN);
  if (::fchdir(kDirectoryFd) != 0) return kBadStart;
  save_from_oom_killer();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return kBadStart;
  const pid_t pager = ::fork();
  if (pager < 0) return kBadStart;
  if (pager == 0) {
    ::close(ends[0]);
    ::_exit(serve(patience, ends[1]));
  }
  ::close(ends[1]);
  return guard(pager, ends[0], kill_files);
}

}  // namespace

void fail(const std::string& why) {
  say_outcome(why);
  ::_exit(kFailed);
}

}  // namespace dvs::helper

int main(int argc, char** argv) {
  const long patience = argc < 3 ? 0 : std::strtol(argv[1], nullptr, 10);
  if (patience <= 0) {
    std::fputs("usage: dvs-pager PATIENCE_MS KILL_FILE... (started by dvsd)\n", stderr);
    return dvs::helper::kBadStart;
  }
  return dvs::helper::run(std::chrono::milliseconds(patience), {argv + 2, argv + argc});
}
