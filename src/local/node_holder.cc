#include "local/node_holder.h"

#include <sched.h>
#include <signal.h>
#include <spdlog/fmt/fmt.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "base/file.h"
#include "base/log.h"
#include "local/process.h"

namespace dvs::local {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono::steady_clock;

// A dvsd that ends sooner than this after its start is not started again at once.
constexpr auto kRestartDelay = 200ms;
constexpr auto kNoEvent = std::chrono::milliseconds(60'000);
constexpr std::chrono::seconds kSpecLimit{10};

Status mount_fs(const char* type, const char* where, unsigned long flags, const char* options) {
  if (::mount(type, where, type, flags, options) == 0) return {};
  return errno_error(fmt::format("cannot mount {} on {}", type, where));
}

Status set_up_mounts(const NodeSpec& spec) {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_error("cannot make mounts private");
  }
  DVS_TRY(mount_fs("proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr));
  const std::string options = fmt::format("mode=0755,size={}", spec.run_bytes);
  return mount_fs("tmpfs", "/run", MS_NOSUID | MS_NODEV, options.c_str());
}

Status set_up_network(const NodeSpec& spec) {
  const std::string& ip = spec.ip_program;
  DVS_TRY(run_tool({ip, "link", "set", "lo", "up"}));
  DVS_TRY(run_tool({ip, "address", "add", spec.address, "dev", "eth0"}));
  return run_tool({ip, "link", "set", "eth0", "up"});
}

// The children of this process will live in the new time namespace; it stays outside.
Status set_up_clock(const NodeSpec& spec) {
  if (spec.clock_offset_s == 0) return {};
  if (::unshare(CLONE_NEWTIME) != 0) return errno_error("cannot create a time namespace");
  auto set =
      write_control_file("/proc/self/timens_offsets",
                         fmt::format("monotonic {0} 0\nboottime {0} 0\n", spec.clock_offset_s));
  if (!set.ok()) {
    return set.error().context(fmt::format("cannot shift the clock by {} s", spec.clock_offset_s));
  }
  return {};
}

// dvsd as a child that comes back. SIGCHLD is blocked and waited for.
class Keeper {
 public:
  explicit Keeper(NodeSpec spec) : spec_(std::move(spec)) {}

  Status start();
  // Forever: reaps at once whatever ends in the node, and starts dvsd again when it is due.
  [[noreturn]] void run();

 private:
  void reap();
  void restart_if_due();

  const NodeSpec spec_;
  pid_t dvsd_ = 0;  // 0: not running
  steady_clock::time_point started_;
  steady_clock::time_point due_;
};

Status Keeper::start() {
  started_ = steady_clock::now();
  DVS_ASSIGN(dvsd_, start_logged(spec_.dvsd_command, spec_.dvsd_log));
  return {};
}

void Keeper::reap() {
  int status = 0;
  for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid != dvsd_) continue;
    log::info("dvsd ended with wait status {:#x}", status);
    dvsd_ = 0;
    due_ = started_ + kRestartDelay;
  }
}

void Keeper::restart_if_due() {
  if (dvsd_ != 0 || !spec_.restart_dvsd || steady_clock::now() < due_) return;
  if (auto started = start(); !started.ok()) {
    log::error("{}", started.error().message());
    due_ = steady_clock::now() + kRestartDelay;
  }
}

void Keeper::run() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  for (;;) {
    reap();
    restart_if_due();
    const auto wait = dvsd_ == 0 && spec_.restart_dvsd ? due_ - steady_clock::now() : kNoEvent;
    const auto ns = std::max<int64_t>(std::chrono::nanoseconds(wait).count(), 0);
    const timespec limit{ns / 1'000'000'000, ns % 1'000'000'000};
    ::sigtimedwait(&child, nullptr, &limit);
  }
}

void block_sigchld() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &child, nullptr);
}

Status set_up(const NodeSpec& spec) {
  DVS_TRY(set_up_mounts(spec));
  DVS_TRY(set_up_network(spec));
  return set_up_clock(spec);
}

}  // namespace

Json node_spec_to_json(const NodeSpec& spec) {
  return {{"name", spec.name},
          {"ip_program", spec.ip_program},
          {"address", spec.address},
          {"run_bytes", spec.run_bytes},
          {"clock_offset_s", spec.clock_offset_s},
          {"restart_dvsd", spec.restart_dvsd},
          {"dvsd_command", spec.dvsd_command},
          {"dvsd_log", spec.dvsd_log}};
}

Result<NodeSpec> node_spec_from_json(const Json& json) {
  NodeSpec spec;
  DVS_ASSIGN(spec.name, json_get<std::string>(json, "name"));
  DVS_ASSIGN(spec.ip_program, json_get<std::string>(json, "ip_program"));
  DVS_ASSIGN(spec.address, json_get<std::string>(json, "address"));
  DVS_ASSIGN(spec.run_bytes, json_get<uint64_t>(json, "run_bytes"));
  DVS_ASSIGN(spec.clock_offset_s, json_get<int64_t>(json, "clock_offset_s"));
  DVS_ASSIGN(spec.restart_dvsd, json_get<bool>(json, "restart_dvsd"));
  DVS_ASSIGN(spec.dvsd_command, json_get<std::vector<std::string>>(json, "dvsd_command"));
  DVS_ASSIGN(spec.dvsd_log, json_get<std::string>(json, "dvsd_log"));
  return spec;
}

int run_node_holder(Channel supervisor) {
  block_sigchld();
  auto json = supervisor.receive(kSpecLimit);
  auto spec = json.ok() ? node_spec_from_json(*json) : Result<NodeSpec>(json.error());
  if (!spec.ok()) return 1;  // without a supervisor that means it there is nobody to tell
  log::init(spec->name.c_str());
  Keeper keeper(*spec);
  Status ready = set_up(*spec);
  if (ready.ok()) ready = keeper.start();
  (void)supervisor.send(ready.ok() ? Json::object()
                                   : Json{{"error", error_to_json(ready.error())}});
  if (!ready.ok()) return 1;
  supervisor.close();
  keeper.run();
}

}  // namespace dvs::local
