#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "commands.h"
#include "inside.h"
#include "program.h"
#include "report.h"

namespace dvs::helper {
namespace {

constexpr int kSpecFd = 3;

// Both ends of the conversation between helper and program-to-be; messages keep their edges.
struct Control {
  UniqueFd helper;
  UniqueFd program;
};

Result<Control> open_control() {
  int fds[2];
  const int on = 1;
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
    return errno_error("cannot create a socket pair");
  }
  Control control{UniqueFd(fds[0]), UniqueFd(fds[1])};
  if (::setsockopt(fds[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    return errno_error("cannot ask for a sender's process id");
  }
  return control;
}

struct Message {
  std::string text;    // empty: end of file
  pid_t host_pid = 0;  // the sender, as this process sees it
};

pid_t sender_of(msghdr& header) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&header); c != nullptr; c = CMSG_NXTHDR(&header, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
    return reinterpret_cast<const ucred*>(CMSG_DATA(c))->pid;
  }
  return 0;
}

// Waits until it is not even a zombie; bounded, as a frozen one does not die.
void wait_until_gone(const UniqueFd& process) {
  pollfd ended{process.get(), POLLIN, 0};
  ::poll(&ended, 1, 5000);
  const timespec pause{0, 100'000};
  for (int i = 0; i < 10'000; ++i) {
    if (::syscall(SYS_pidfd_send_signal, process.get(), 0, nullptr, 0) != 0) return;
    ::nanosleep(&pause, nullptr);
  }
}

// The program's next word. An error that it sent is returned as one, when the sender is gone.
Result<Message> receive(const UniqueFd& control) {
  char text[16384];
  alignas(cmsghdr) char ancillary[256];
  iovec data{text, sizeof text};
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = ancillary;
  header.msg_controllen = sizeof ancillary;
  const ssize_t n = ::recvmsg(control.get(), &header, 0);
  if (n < 0) return errno_error("cannot hear from the program's process");
  if (n == 0) return Message{};
  Message message{std::string(text, static_cast<size_t>(n)), sender_of(header)};
  DVS_ASSIGN(const Json json, parse_json(message.text));
  if (!json.contains("error")) return message;
  if (auto sender = open_process(message.host_pid)) wait_until_gone(*sender);
  return error_from_json(json["error"]);
}

// The first word, unless dvsd stops listening while the program's process gets ready.
Result<Message> receive_while_wanted(const UniqueFd& control) {
  pollfd ready[] = {{control.get(), POLLIN, 0}, {STDIN_FILENO, 0, 0}};
  while (::poll(ready, 2, -1) < 0 && errno == EINTR) continue;
  if (ready[0].revents == 0) return Error(Code::kUnavailable, "dvsd does not listen any more");
  return receive(control);
}

struct Process {
  UniqueFd fd;
  pid_t host_pid = 0;
  pid_t dc_pid = 0;
};

// The program's process, once it is ready for its exec.
Result<Process> await_process(const UniqueFd& control) {
  DVS_ASSIGN(const Message hello, receive_while_wanted(control));
  if (hello.text.empty()) return Error(Code::kInternal, "the program's process ended early");
  DVS_ASSIGN(const Json json, parse_json(hello.text));
  DVS_ASSIGN(const pid_t dc_pid, json_get<pid_t>(json, "dc_pid"));
  DVS_ASSIGN(UniqueFd fd, open_process(hello.host_pid));
  return Process{std::move(fd), hello.host_pid, dc_pid};
}

// Creates it, by way of a parent that is gone when this returns.
Status create_process(const Options& options, Program& program, const Control& control) {
  DVS_ASSIGN(const BirthGroups groups, BirthGroups::open(program.cgroups));
  DVS_TRY(enter_container(options));
  const pid_t parent = ::fork();
  if (parent < 0) return errno_error("cannot create a process");
  if (parent == 0) {
    auto forked = fork_program(options, program, groups, control.program.get());
    if (!forked) write_line(control.program.get(), error_line(forked.error()));
    ::_exit(0);
  }
  ::waitpid(parent, nullptr, 0);
  return {};
}

// Waits for dvsd's word, and for the exec.
Status start_on_word(const UniqueFd& control) {
  char word = 0;
  if (::read(STDIN_FILENO, &word, 1) != 1 || word != kGo) {
    return Error(Code::kConflict, "given up before its start");
  }
  if (::write(control.get(), &kGo, 1) != 1) {
    return Error(Code::kNotFound, "the program's process was killed before its start");
  }
  auto answer = receive(control);
  return answer ? Status() : answer.error();
}

Status run(const Options& options) {
  DVS_ASSIGN(Program program, read_program(kSpecFd));
  DVS_ASSIGN(Control control, open_control());
  DVS_TRY(create_process(options, program, control));
  control.program.reset();
  DVS_ASSIGN(const Process process, await_process(control.helper));
  write_line(STDOUT_FILENO,
             to_text(Json{{"host_pid", process.host_pid}, {"dc_pid", process.dc_pid}}));
  auto started = start_on_word(control.helper);
  if (!started) {
    ::syscall(SYS_pidfd_send_signal, process.fd.get(), SIGKILL, nullptr, 0);
    wait_until_gone(process.fd);
  }
  return started;
}

}  // namespace

int run_program(const Options& options) {
  ::signal(SIGPIPE, SIG_IGN);
  auto started = run(options);
  write_line(STDOUT_FILENO,
             started ? to_text(Json{{"started", true}}) : error_line(started.error()));
  return started ? 0 : 1;
}

}  // namespace dvs::helper
