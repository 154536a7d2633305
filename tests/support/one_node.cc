#include "support/one_node.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace dvs::testing {

using namespace std::chrono_literals;

namespace {

bool eventually(const std::function<bool()>& condition, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(1ms);
  }
  return true;
}

// The process of a thread; 0 when there is no such thread.
pid_t process_of(pid_t tid) {
  std::ifstream status("/proc/" + std::to_string(tid) + "/status");
  pid_t process = 0;
  for (std::string word; process == 0 && status >> word;) {
    if (word == "Tgid:") status >> process;
  }
  return process;
}

}  // namespace

OneNode& OneNode::instance() {
  static OneNode node;
  return node;
}

OneNode::OneNode() : path_("/tmp/dvk_one_node." + std::to_string(getpid())) {
  auto made = dvk::Region::create(path_, {});
  if (!made.ok()) std::abort();
  region_ = std::move(*made);
  ::setenv("DVK_REGION", path_.c_str(), 1);
  binder_ = std::thread([this] { serve(); });
}

OneNode::~OneNode() {
  stop_.store(true);
  region_.ring_doorbell();
  binder_.join();
  std::filesystem::remove(path_);
}

// ---- endpoints ----

void OneNode::bind(int endpoint, pid_t pid, pid_t tid) {
  const std::lock_guard lock(mutex_);
  const uint32_t slot = region_.slot_of(endpoint);
  dvk::Identity identity;
  identity.incarnation = ++incarnation_;
  identity.endpoint = endpoint;
  identity.epoch = 1;
  identity.kind = dvk::Kind::kLocal;
  identity.pid = pid;
  identity.tid = tid;
  while (!dvk::bind(region_, slot, identity)) sched_yield();
}

void OneNode::bind_me(int endpoint) {
  bind(endpoint, getpid(), static_cast<pid_t>(syscall(SYS_gettid)));
}

void OneNode::unbind(int endpoint) {
  const std::lock_guard lock(mutex_);
  while (!dvk::unbind(region_, region_.slot_of(endpoint))) sched_yield();
}

bool OneNode::is_bound(int endpoint) const {
  return dvk::load_kind(region_.at(region_.slot_of(endpoint))) != dvk::Kind::kFree;
}

bool OneNode::await_waiting(int endpoint) const {
  const dvk::Descriptor& d = region_.at(region_.slot_of(endpoint));
  return eventually([&] { return dvk::load_rx(d).phase == dvk::RxPhase::kWaiting; }, 10s);
}

void OneNode::serve() {
  while (!stop_.load()) {
    const uint32_t prepared = dvk::event_prepare(region_.header().doorbell);
    for (dvk::ControlSlot& slot : region_.header().control) serve_request(slot);
    dvk::event_sleep(region_.header().doorbell, prepared, dvk::Deadline::after_ms(100));
  }
}

void OneNode::serve_request(dvk::ControlSlot& slot) {
  auto posted = static_cast<uint32_t>(dvk::ControlPhase::kPosted);
  if (slot.phase.load() != posted) return;
  int result = EDVSNOSYS;
  const int endpoint = slot.endpoint.load();
  if (slot.op.load() == static_cast<uint32_t>(dvk::ControlOp::kBind)) {
    result = serve_bind(slot.command.load(), slot.pid.load(), endpoint);
  } else if (slot.op.load() == static_cast<uint32_t>(dvk::ControlOp::kUnbind)) {
    unbind(endpoint);
    result = OK;
  }
  slot.result.store(result);
  slot.phase.compare_exchange_strong(posted, static_cast<uint32_t>(dvk::ControlPhase::kDone));
  dvk::futex_wake_all(slot.phase);
}

// A backup or a remote endpoint needs another node.
int OneNode::serve_bind(int kind, int pid, int endpoint) {
  if (kind != SELF_BIND && kind != LCL_BIND) return EDVSBADNODEID;
  const uint32_t slot = region_.slot_of(endpoint);
  if (slot >= region_.slots()) return EDVSENDPOINT;
  const dvk::Descriptor& d = region_.at(slot);
  if (is_bound(endpoint)) return d.tid.load() == pid ? d.endpoint.load() : EDVSSLOTUSED;
  const pid_t process = process_of(pid);
  if (process == 0) return EDVSBADPID;
  bind(endpoint, process, pid);
  return endpoint;
}

// ---- processes ----

pid_t OneNode::start(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::_exit(body());
}

pid_t OneNode::start_program(const std::vector<std::string>& argv) {
  return start([&] {
    std::vector<char*> args;
    for (const std::string& arg : argv) args.push_back(const_cast<char*>(arg.c_str()));
    args.push_back(nullptr);
    ::execv(args[0], args.data());
    ::perror(args[0]);
    return 127;
  });
}

int OneNode::finish(pid_t pid, std::chrono::seconds limit) {
  int status = 0;
  const bool ended = eventually([&] { return ::waitpid(pid, &status, WNOHANG) == pid; }, limit);
  if (!ended) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
  }
  clean_up_after(pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void OneNode::clean_up_after(pid_t pid) {
  const std::lock_guard lock(mutex_);
  for (uint32_t slot = 0; slot < region_.slots(); ++slot) {
    const dvk::Descriptor& d = region_.at(slot);
    if (dvk::load_kind(d) == dvk::Kind::kFree || d.pid.load() != pid) continue;
    dvk::bury(region_, slot);
    dvk::unbind(region_, slot);
  }
}

}  // namespace dvs::testing
