// The engine by CRIU: one run of criu per dump or restore, inside the DC (EngineSite::prefix).
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cstdio>
#include <map>
#include <set>
#include <sstream>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "migrate/engine/command.h"
#include "migrate/engine/criu_log.h"
#include "migrate/engine/engine.h"
#include "migrate/engine/filter_files.h"
#include "migrate/engine/gate.h"
#include "migrate/engine/preflight.h"
#include "migrate/engine/process_tree.h"

namespace dvs {
namespace {

constexpr const char* kDump = "dump";
constexpr const char* kRestore = "restore";
constexpr int kImagesFd = 3;  // in apps/dvs-criu
constexpr int kFreezerFd = 4;
constexpr std::chrono::seconds kGiveUpLimit{10};
constexpr std::chrono::seconds kKillLimit{10};

Json dump_job(const DumpRequest& request) {
  return {{"do", kDump}, {"pid", request.root_pid}, {"apart", request.apart}};
}

Result<UniqueFd> open_directory(const std::string& dir) {
  UniqueFd fd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + dir);
  return fd;
}

bool full(const std::string& dir) {
  struct statvfs stat {};
  return ::statvfs(dir.c_str(), &stat) == 0 && (stat.f_bavail == 0 || stat.f_favail == 0);
}

// Why a run of criu in this site failed. On a full tmpfs criu cannot even write its log.
Error failure(const EngineSite& site, const char* log_name, const ChildResult& result) {
  const auto log = read_file(site.dir + "/" + log_name);
  Error error = explain_criu_log(log.ok() ? *log : "");
  if (error.code() == Code::kInternal && full(site.dir)) {
    return Error(Code::kNoSpace, "no space is left in " + site.dir);
  }
  if (log.ok() && !log->empty()) return error;
  return Error(Code::kInternal, "criu wrote no log; " + result.describe());
}

uint64_t image_bytes(const std::string& dir) {
  uint64_t bytes = 0;
  const auto names = list_dir(dir);
  if (!names.ok()) return 0;
  for (const auto& name : *names) {
    struct stat info {};
    if (::stat((dir + "/" + name).c_str(), &info) == 0 && name.ends_with(".img")) {
      bytes += static_cast<uint64_t>(info.st_size);
    }
  }
  return bytes;
}

// A dump or a restore under way: criu's end, the gate and the time-out call into it.
class Operation : public std::enable_shared_from_this<Operation> {
 public:
  Operation(Executor& executor, EngineSite site, std::shared_ptr<CriuCommand> command)
      : executor_(executor), site_(std::move(site)), command_(command), timer_(executor) {}
  virtual ~Operation() = default;

 protected:
  // Lets criu begin; after `limit` it is ended.
  void go(std::chrono::milliseconds limit);
  virtual void held() {}
  virtual void done() {}
  virtual void ended(const ChildResult& result) = 0;
  virtual void timed_out() = 0;

  Executor& executor_;
  const EngineSite site_;
  const std::weak_ptr<CriuCommand> command_;
  boost::asio::steady_timer timer_;
  bool late_ = false;
  const int64_t started_ns_ = monotonic_ns();
};

void Operation::go(std::chrono::milliseconds limit) {
  timer_.expires_after(limit);
  timer_.async_wait([self = shared_from_this()](boost::system::error_code cancelled) {
    if (cancelled) return;
    self->late_ = true;
    self->timed_out();
  });
  auto self = shared_from_this();
  command_.lock()->go({[self] { self->held(); }, [self] { self->done(); },
                       [self](const ChildResult& result) {
                         self->timer_.cancel();
                         self->ended(result);
                       }});
}

class Dump final : public Operation {
 public:
  using Operation::Operation;

  void start(DumpRequest request, std::chrono::milliseconds limit, Done<DumpResult> done) {
    done_ = std::move(done);
    request_ = std::move(request);
    go(limit);
  }

 private:
  void done() override;
  void ended(const ChildResult& result) override;
  void timed_out() override;
  void fail_frozen(Error error);

  DumpRequest request_;
  Done<DumpResult> done_;  // empty once called
};

void Dump::done() {
  if (late_) return;
  timer_.cancel();
  // With it criu would make a time namespace of its own for the restored process, in which the
  // clock stood still since the dump. Without it the process follows the clock of the target's
  // DC, which is the same clock.
  ::unlink((site_.dir + "/timens-0.img").c_str());
  const auto done = std::exchange(done_, nullptr);
  if (request_.apart) {
    if (auto hidden = check_hidden(site_.dir, request_.processes); !hidden.ok()) {
      return done(hidden.error());
    }
  }
  done(DumpResult{image_bytes(site_.dir), monotonic_ns() - started_ns_});
}

void Dump::ended(const ChildResult& result) {
  if (!done_) return;
  Error error = late_ ? Error(Code::kTimeout, "the checkpoint took too long")
                      : failure(site_, kDumpLog, result);
  if (result.signal != 0 || result.exit_code > 128) return fail_frozen(std::move(error));
  done_(std::move(error));
}

// Asks criu to give up, and ends it only when it does not.
void Dump::timed_out() {
  auto command = command_.lock();
  if (!command) return;
  command->fail_writes();
  timer_.expires_after(kGiveUpLimit);
  timer_.async_wait([self = shared_from_this(), weak = command_](boost::system::error_code ended) {
    auto stuck = weak.lock();
    if (ended || !stuck) return;
    log::error("criu is stuck in a checkpoint and is killed");
    stuck->kill();
  });
}

// criu thaws the cgroup while it traces the tree. One that was killed cannot freeze it again.
void Dump::fail_frozen(Error error) {
  const std::string v1 = request_.freezer_dir + "/freezer.state";
  log::if_failed(::access(v1.c_str(), F_OK) == 0
                     ? write_control_file(v1, "FROZEN")
                     : write_control_file(request_.freezer_dir + "/cgroup.freeze", "1"));
  done_(std::move(error));
}

class Restore final : public Operation {
 public:
  using Operation::Operation;

  Status start(std::chrono::milliseconds limit, Done<std::unique_ptr<HeldTree>> done);

 private:
  void held() override;
  void ended(const ChildResult& result) override;
  void timed_out() override;
  void finish(Result<std::unique_ptr<HeldTree>> result);

  Done<std::unique_ptr<HeldTree>> done_;  // empty once called
};

Status Restore::start(std::chrono::milliseconds limit, Done<std::unique_ptr<HeldTree>> done) {
  DVS_TRY(record_command(site_.dir, command_.lock()->pid()));
  done_ = std::move(done);
  go(limit);
  return {};
}

void Restore::finish(Result<std::unique_ptr<HeldTree>> result) {
  timer_.cancel();
  if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
}

void Restore::held() {
  if (!late_) finish(open_held_tree(executor_, site_.dir));
}

void Restore::ended(const ChildResult& result) {
  if (!late_ && done_) finish(failure(site_, kRestoreLog, result));
}

void Restore::timed_out() {
  ProcessHandles tree;
  if (auto command = command_.lock(); command && command->running()) {
    tree = kill_tree(command->pid());
  }
  auto self = std::static_pointer_cast<Restore>(shared_from_this());
  await_processes(executor_, std::move(tree), Until::kEnded, kKillLimit, [self](bool) {
    self->finish(Error(Code::kTimeout, "the restore took too long"));
  });
}

class CriuEngine final : public Engine {
 public:
  CriuEngine(Executor& executor, CriuOptions options, std::string version,
             std::string why_not_apart)
      : executor_(executor),
        options_(std::move(options)),
        version_("criu " + version),
        why_not_apart_(std::move(why_not_apart)) {}
  ~CriuEngine() override;

  const std::string& version() const override { return version_; }
  const std::string& why_not_apart() const override { return why_not_apart_; }
  void prepare_dump(const DumpRequest& request, std::function<void()> ready) override;
  void prepare_restore(const RestoreRequest& request, std::function<void()> ready) override;
  void warm_up(const EngineSite& site) override { probe_kernel(site); }
  void discard(const EngineSite& site) override;
  void dump(DumpRequest request, Done<DumpResult> done) override;
  void restore(RestoreRequest request, Done<std::unique_ptr<HeldTree>> done) override;
  void describe_cpu(const std::string& scratch_dir, Done<std::string> done) override {
    dvs::describe_cpu(executor_, options_, scratch_dir, std::move(done));
  }
  void check_cpu(const std::string& scratch_dir, const std::string& description,
                 Done<bool> done) override {
    dvs::check_cpu(executor_, options_, scratch_dir, description, std::move(done));
  }
  Result<std::unique_ptr<HeldTree>> find_held(const EngineSite& site) override {
    return open_held_tree(executor_, site.dir);
  }
  bool has_resumed(const EngineSite& site) const override { return has_passed_gate(site.dir); }

 private:
  using Command = std::shared_ptr<CriuCommand>;

  // criu keeps what it learns about the kernel in the DC's /run/criu.kdat; learning it takes 25 to
  // 50 ms. Once per DC, so that it is there when it counts.
  void probe_kernel(const EngineSite& site);
  Result<Command> launch_dump(const DumpRequest& request);
  Result<Command> launch_restore(const RestoreRequest& request);
  Result<Command> launch(const EngineSite& site, const Json& job, int freezer,
                         const std::vector<std::string>& cgroups);
  // The command prepared for this site, if there is one.
  Command take(const char* verb, const EngineSite& site);
  void keep(const std::string& name, Result<Command> command, std::function<void()> ready);
  Status try_dump(const DumpRequest& request, const Done<DumpResult>& done);
  Status try_restore(const RestoreRequest& request, const Done<std::unique_ptr<HeldTree>>& done);

  Executor& executor_;
  const CriuOptions options_;
  const std::string version_;
  const std::string why_not_apart_;
  std::map<std::string, Command> prepared_;    // by "VERB DIR"
  std::set<std::vector<std::string>> probed_;  // prefixes
};

std::string key(const std::string& verb, const EngineSite& site) { return verb + " " + site.dir; }

CriuEngine::~CriuEngine() {
  for (auto& [name, command] : prepared_) command->give_up();
}

void CriuEngine::probe_kernel(const EngineSite& site) {
  if (!probed_.insert(site.prefix).second) return;
  ChildOptions options;
  options.argv = site.prefix;
  options.argv.insert(options.argv.end(), {options_.program, "check", "--feature", "timens"});
  options.timeout = options_.timeout;
  auto started = run_child(executor_, std::move(options), [](const ChildResult&) {});
  if (!started.ok()) probed_.erase(site.prefix);
}

Result<CriuEngine::Command> CriuEngine::launch_dump(const DumpRequest& request) {
  const std::string& dir = request.site.dir;
  DVS_TRY(make_dirs(dir));
  DVS_ASSIGN(const auto names, list_dir(dir));
  if (!names.empty()) return Error(Code::kInvalid, dir + " is not empty");
  DVS_ASSIGN(const UniqueFd freezer, open_directory(request.freezer_dir));
  return launch(request.site, dump_job(request), freezer.get(), {});
}

Result<CriuEngine::Command> CriuEngine::launch_restore(const RestoreRequest& request) {
  DVS_TRY(make_dirs(request.site.dir));
  return launch(request.site, {{"do", kRestore}, {"apart", request.apart}}, -1,
                request.cgroup_procs_files);
}

Result<CriuEngine::Command> CriuEngine::launch(const EngineSite& site, const Json& job, int freezer,
                                               const std::vector<std::string>& cgroups) {
  DVS_ASSIGN(const UniqueFd images, open_directory(site.dir));
  std::vector<std::pair<int, int>> descriptors = {{images.get(), kImagesFd}};
  if (freezer >= 0) descriptors.emplace_back(freezer, kFreezerFd);
  std::vector<std::string> argv = site.prefix;
  argv.insert(argv.end(), {options_.runner, options_.program});
  return CriuCommand::start(executor_, std::move(argv), job, std::move(descriptors), cgroups);
}

CriuEngine::Command CriuEngine::take(const char* verb, const EngineSite& site) {
  auto node = prepared_.extract(key(verb, site));
  return !node.empty() && node.mapped()->running() ? node.mapped() : nullptr;
}

void CriuEngine::keep(const std::string& name, Result<Command> command,
                      std::function<void()> ready) {
  if (command.ok()) prepared_[name] = *command;
  if (ready == nullptr) return;
  if (command.ok()) return (*command)->await_ready(std::move(ready));
  boost::asio::post(executor_, std::move(ready));
}

void CriuEngine::prepare_dump(const DumpRequest& request, std::function<void()> ready) {
  discard(request.site);
  probe_kernel(request.site);
  keep(key(kDump, request.site), launch_dump(request), std::move(ready));
}

void CriuEngine::prepare_restore(const RestoreRequest& request, std::function<void()> ready) {
  discard(request.site);
  probe_kernel(request.site);
  keep(key(kRestore, request.site), launch_restore(request), std::move(ready));
}

void CriuEngine::discard(const EngineSite& site) {
  for (const char* verb : {kDump, kRestore}) {
    auto node = prepared_.extract(key(verb, site));
    if (!node.empty()) node.mapped()->give_up();
  }
}

Status CriuEngine::try_dump(const DumpRequest& request, const Done<DumpResult>& done) {
  const bool prepared = prepared_.count(key(kDump, request.site)) != 0;
  Command command = take(kDump, request.site);
  if (command == nullptr) {
    // It has failed, and left its log. Once more, to learn why.
    if (prepared) DVS_TRY(remove_tree(request.site.dir));
    DVS_ASSIGN(command, launch_dump(request));
  }
  if (request.apart) {
    DVS_TRY(hide_movable_memory(request.site.dir, request.processes, request.notes));
  }
  std::make_shared<Dump>(executor_, request.site, command)->start(request, options_.timeout, done);
  return {};
}

Status CriuEngine::try_restore(const RestoreRequest& request,
                               const Done<std::unique_ptr<HeldTree>>& done) {
  DVS_TRY(create_gate(request.site.dir));
  Command command = take(kRestore, request.site);
  if (command == nullptr) {
    DVS_ASSIGN(command, launch_restore(request));
  }
  auto started =
      std::make_shared<Restore>(executor_, request.site, command)->start(options_.timeout, done);
  if (!started.ok()) command->give_up();
  return started;
}

void CriuEngine::dump(DumpRequest request, Done<DumpResult> done) {
  if (auto started = try_dump(request, done); !started.ok()) {
    boost::asio::post(executor_, [done, error = started.error()] { done(error); });
  }
}

void CriuEngine::restore(RestoreRequest request, Done<std::unique_ptr<HeldTree>> done) {
  if (auto started = try_restore(request, done); !started.ok()) {
    boost::asio::post(executor_, [done, error = started.error()] { done(error); });
  }
}

// "Version: 4.2.1\n..." -> "4.2.1"; empty when it is no such text or older than 4.2.
std::string usable_version(const std::string& output) {
  int major = 0;
  int minor = 0;
  const char* text = output.c_str();
  if (std::sscanf(text, "Version: %d.%d", &major, &minor) != 2) return {};
  if (major < 4 || (major == 4 && minor < 2)) return {};
  const std::string_view line(text, output.find('\n'));
  return std::string(line.substr(line.find(' ') + 1));
}

// A criu that is linked statically, or is run by a wrapper that cleans the environment, does not
// load the library that hides memory from it. (The wrapper's shell may.)
std::string why_not_apart(const CriuOptions& options) {
  constexpr int kProbeFd = 3;
  const std::string library =
      options.runner.substr(0, options.runner.rfind('/') + 1) + kFilterLibrary;
  if (::access(library.c_str(), R_OK) != 0) return library + " is missing";
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return "no pipe can be made";
  const UniqueFd told(ends[0]);
  const UniqueFd tell(ends[1]);
  ChildOptions run;
  run.argv = {options.program, "--version"};
  run.env = {"LD_PRELOAD=" + library, std::string(kFilterProbe) + "=" + std::to_string(kProbeFd)};
  run.pass_fds = {{tell.get(), kProbeFd}};
  run.timeout = std::chrono::seconds(10);
  static_cast<void>(run_child_blocking(std::move(run)));
  char text[4096];
  const ssize_t size = ::read(told.get(), text, sizeof text);
  std::istringstream programs(std::string(text, size > 0 ? static_cast<size_t>(size) : 0));
  for (std::string program; std::getline(programs, program);) {
    if (program != "sh" && program != "dash" && program != "bash") return {};
  }
  return options.program + " does not load libraries by LD_PRELOAD";
}

}  // namespace

Result<std::unique_ptr<Engine>> open_criu(Executor& executor, CriuOptions options) {
  ChildOptions run;
  run.argv = {options.program, "--version"};
  run.capture_output = true;
  run.timeout = std::chrono::seconds(10);
  auto result = run_child_blocking(std::move(run));
  const std::string advice = "; scripts/setup installs one that works";
  if (!result.ok()) {
    return Error(Code::kUnsupported, "cannot run criu: " + result.error().message() + advice);
  }
  const std::string version = usable_version(result->output);
  if (version.empty()) {
    return Error(Code::kUnsupported, options.program + " is not criu 4.2 or newer" + advice);
  }
  if (::access(options.runner.c_str(), X_OK) != 0) {
    return errno_error("cannot run " + options.runner);
  }
  std::string why_not = why_not_apart(options);
  return std::unique_ptr<Engine>(
      std::make_unique<CriuEngine>(executor, std::move(options), version, std::move(why_not)));
}

}  // namespace dvs
