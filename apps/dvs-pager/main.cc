// dvs-pager KILL_FILE...: gives restored processes their memory, for dvsd.
//
// Descriptor 3 is a migration's directory of images, with the store of memory in it
// (mover/store.h). There criu ("restore --lazy-pages") connects to lazy-pages.socket and sends each
// process's userfaultfd. Page faults are answered from the store, and when all is restored
// everything else is put where it belongs as well. Standard input is a SOCK_SEQPACKET socket to
// dvsd: "ready" when criu may come, and at the end what was done, as JSON. dvsd is not needed in
// between. When it closes the socket before criu has come, this program ends.
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

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "pager.h"

namespace dvs::helper {
namespace {

constexpr int kDirectoryFd = 3;
constexpr int kBadStart = 2;
constexpr int kFailed = 3;

void say(std::string_view word) {
  ::send(STDIN_FILENO, word.data(), word.size(), MSG_NOSIGNAL);  // a dead dvsd hears nothing
}

UniqueFd listen_for_criu() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, "lazy-pages.socket");
  ::unlink(address.sun_path);
  if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  if (::listen(socket.get(), 1) != 0) return {};
  return socket;
}

void send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec data{&byte, sizeof byte};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  ::sendmsg(socket, &message, MSG_NOSIGNAL);
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

int serve(int guardian) {
  Pager pager(listen_for_criu(), STDIN_FILENO,
              [guardian](int uffd) { send_descriptor(guardian, uffd); });
  say("ready");
  pager.run();
  const Statistics& done = pager.statistics();
  say(to_text(Json{{"faults", done.faults},
                   {"zero_faults", done.zero_faults},
                   {"installed_bytes", done.installed_bytes}}));
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
  for (const std::string& file : kill_files) kill_by(file);
  return kFailed;
}

int run(const std::vector<std::string>& kill_files) {
  ::signal(SIGPIPE, SIG_IGN);
  if (::fchdir(kDirectoryFd) != 0) return kBadStart;
  save_from_oom_killer();
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return kBadStart;
  const pid_t pager = ::fork();
  if (pager < 0) return kBadStart;
  if (pager == 0) {
    ::close(ends[0]);
    ::_exit(serve(ends[1]));
  }
  ::close(ends[1]);
  return guard(pager, ends[0], kill_files);
}

}  // namespace
}  // namespace dvs::helper

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: dvs-pager KILL_FILE... (started by dvsd)\n", stderr);
    return dvs::helper::kBadStart;
  }
  return dvs::helper::run({argv + 1, argv + argc});
}
