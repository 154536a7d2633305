// dvs-criu CRIU: one dump or restore by criu inside a DC, for dvsd. It stands between them so that
// a restored tree that waits for the decision does not depend on dvsd's life.
//
// Standard input is a SOCK_SEQPACKET socket to dvsd (migrate/engine/command.h). First comes what to
// do, as JSON:
//
//   {"do": "dump", "pid": ROOT, "apart": BOOL} | {"do": "restore", "apart": BOOL}
//
// apart: private memory is not in the images. A dump passes over it (memory_filter.cc); a restored
// process's page faults are answered by whoever listens on lazy-pages.socket.
//
// Descriptor 3 is the directory of the images, 4 (for a dump) the tree's frozen cgroup. Both are
// out of sight in the DC: whoever could write them, could make criu do what only criu may.
//
// It does all that can be done ahead, says "ready", and waits for "go". Later it says "held" when
// a restored tree waits at its gate, and "done" when the work is done. When the socket is closed
// before "go" it ends, having touched nothing.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "gate.h"
#include "migrate/engine/criu_log.h"
#include "migrate/engine/filter_files.h"
#include "service.h"

namespace dvs::helper {
namespace {

constexpr int kBadRequest = 2;
constexpr int kNoCriu = 127;
constexpr uint32_t kGhostBytes = 64 << 20;  // contents of a removed file that move along
// For criu's collecting of a tree that is frozen already: milliseconds, unless another tracer
// holds a process, which criu waits for until then.
constexpr uint32_t kCollectSeconds = 2;

constexpr int kImagesFd = 3;
constexpr int kFreezerFd = 4;

struct Job {
  bool dump = false;
  bool apart = false;
  int pid = 0;
};

void say(std::string_view word) {
  ::send(STDIN_FILENO, word.data(), word.size(),
         MSG_NOSIGNAL);  // a dvsd that has died hears nothing
}

std::string hear() {
  char text[4096];
  ssize_t size = 0;
  while ((size = ::recv(STDIN_FILENO, text, sizeof text, 0)) < 0 && errno == EINTR) {
  }
  return size <= 0 ? std::string() : std::string(text, static_cast<size_t>(size));
}

// By which criu finds a directory that this process has open.
std::string path_of(int fd) {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(fd);
}

Result<Job> hear_job() {
  DVS_ASSIGN(const Json json, parse_json(hear()));
  Job job;
  DVS_ASSIGN(const auto what, json_get<std::string>(json, "do"));
  job.dump = what == "dump";
  DVS_ASSIGN(job.apart, json_get_or<bool>(json, "apart", false));
  if (job.dump) {
    DVS_ASSIGN(job.pid, json_get<int>(json, "pid"));
  }
  return job;
}

criu_rpc::Request request_of(const Job& job) {
  criu_rpc::Request request;
  request.set_type(job.dump ? criu_rpc::DUMP : criu_rpc::RESTORE);
  criu_rpc::Options& options = *request.mutable_opts();
  options.set_images_dir_fd(-1);
  options.set_images_dir(path_of(kImagesFd));
  options.set_log_file(job.dump ? kDumpLog : kRestoreLog);
  options.set_notify_scripts(true);
  options.set_manage_cgroups_mode(criu_rpc::IGNORE);
  options.set_file_locks(true);
  options.set_tcp_established(true);
  options.set_tcp_skip_in_flight(true);
  options.set_ext_unix_sk(true);
  if (job.dump) {
    options.set_pid(job.pid);
    options.set_freeze_cgroup(path_of(kFreezerFd));
    options.set_leave_running(true);
    options.set_network_lock(criu_rpc::SKIP);
    options.set_ghost_limit(kGhostBytes);
    options.set_timeout(kCollectSeconds);
  }
  if (job.apart && !job.dump) options.set_lazy_pages(true);
  return request;
}

// criu waits for ever for a tree whose first process was killed at the gate; told in time, it gives
// the tree up in good order.
bool is_alive(int pid) {
  char stat[512] = {};
  std::FILE* file = std::fopen(("/proc/" + std::to_string(pid) + "/stat").c_str(), "re");
  if (file == nullptr) return false;
  const size_t size = std::fread(stat, 1, sizeof stat - 1, file);
  std::fclose(file);
  const char* name_end = size > 0 ? std::strrchr(stat, ')') : nullptr;
  return name_end != nullptr && std::strncmp(name_end, ") Z", 3) != 0;
}

// criu is up when it answers this.
bool await_criu(CriuService& criu) {
  criu_rpc::Request version;
  version.set_type(criu_rpc::VERSION);
  version.set_keep_open(true);
  return criu.send(version) && criu.receive().has_value();
}

bool has_lazy_pages(CriuService& criu) {
  criu_rpc::Request request;
  request.set_type(criu_rpc::FEATURE_CHECK);
  request.set_keep_open(true);
  request.mutable_features()->set_lazy_pages(true);
  if (!criu.send(request)) return false;
  const auto response = criu.receive();
  return response && response->success() && response->features().lazy_pages();
}

// criu hides what it shall pass over from itself, see memory_filter.cc.
bool load_filter() {
  char self[512];
  const ssize_t size = ::readlink("/proc/self/exe", self, sizeof self - 1);
  if (size <= 0) return false;
  std::string library(self, static_cast<size_t>(size));
  library.resize(library.rfind('/') + 1);
  library += kFilterLibrary;
  return ::access(library.c_str(), R_OK) == 0 && ::setenv("LD_PRELOAD", library.c_str(), 1) == 0 &&
         ::setenv("DVS_IMAGES", path_of(kImagesFd).c_str(), 1) == 0;
}

bool await_go() {
  say("ready");
  return hear() == "go";
}

bool on_notification(CriuService& criu, const criu_rpc::Notification& notification) {
  const std::string& script = notification.script();
  // Nothing is stopped yet; what criu knows of itself and the kernel, it knows now.
  if (script == "pre-dump") return await_go();
  if (script == "post-restore") {
    criu.watch(notification.pid());
    return hold_at_gate(path_of(kImagesFd) + "/gate", [] { say("held"); }) &&
           is_alive(notification.pid());
  }
  if (script == "post-resume") return mark_resumed(path_of(kImagesFd) + "/gate");
  return true;
}

bool carry_out(CriuService& criu, const Job& job) {
  if (!await_criu(criu)) return false;
  if (job.apart && !job.dump && !has_lazy_pages(criu)) return false;
  if (!job.dump && !await_go()) return false;
  if (!criu.send(request_of(job))) return false;
  while (auto response = criu.receive()) {
    if (response->type() != criu_rpc::NOTIFY) return response->success();
    if (!criu.acknowledge(on_notification(criu, response->notify()))) return false;
  }
  return false;
}

int run(const char* program) {
  for (const int fd : {kImagesFd, kFreezerFd}) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  auto job = hear_job();
  if (!job.ok()) return kBadRequest;
  // So that a dump can be made to give up in good order (CriuCommand::fail_writes()).
  ::signal(SIGXFSZ, job->dump ? SIG_IGN : SIG_DFL);
  if (job->dump && job->apart && !load_filter()) return kNoCriu;
  CriuService criu;
  if (!criu.start(program)) return kNoCriu;
  const bool done = carry_out(criu, *job);
  if (done) say("done");
  const int status = criu.finish();
  return done ? 0 : status == 0 ? 1 : status < 0 ? 129 : status;
}

}  // namespace
}  // namespace dvs::helper

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: dvs-criu CRIU (started by dvsd)\n", stderr);
    return dvs::helper::kBadRequest;
  }
  return dvs::helper::run(argv[1]);
}
