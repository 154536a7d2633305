#include "migrate/engine/gate.h"

#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>

#include <sstream>

#include "base/file.h"
#include "base/log.h"
#include "migrate/engine/criu_log.h"
#include "migrate/engine/process_tree.h"

namespace dvs {
namespace {

// How long the restoring command is expected to take from the decision to its end.
constexpr std::chrono::seconds kDecisionLimit{5};

std::string gate_file(const std::string& dir, const char* suffix) { return dir + "/gate" + suffix; }

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

Result<UniqueFd> open_fifo(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot open " + path);
  return fd;
}

Result<pid_t> recorded_command(const std::string& dir) {
  const Error none(Code::kNotFound, "no restored tree is waiting in " + dir);
  const auto record = read_file(gate_file(dir, ".command"));
  if (!record.ok()) return none;
  std::istringstream words(*record);
  pid_t pid = 0;
  uint64_t started = 0;
  if (!(words >> pid >> started) || pid <= 0 || start_time(pid) != started) return none;
  return pid;
}

// One held tree. Shared by the HeldTree that the caller has and by the decision under way.
class Gate : public std::enable_shared_from_this<Gate> {
 public:
  Gate(Executor& executor, std::string dir, UniqueFd decision)
      : executor_(executor), dir_(std::move(dir)), decision_(std::move(decision)) {}

  void resume(Done<bool> done);
  void kill(Done<bool> done);

 private:
  bool say(std::string_view word);
  void await(ProcessHandles handles, Until until, std::function<void(bool)> then);
  void await_all_gone(ProcessHandles all, std::function<void(bool)> then);
  void await_resumed(Done<bool> done);
  void resumed(bool in_time, const Done<bool>& done);
  void kill_by_force(Done<bool> done);

  Executor& executor_;
  const std::string dir_;
  UniqueFd decision_;  // open until the end, so that the word stays in the FIFO until it is read
};

bool Gate::say(std::string_view word) {
  return ::write(decision_.get(), word.data(), word.size()) == static_cast<ssize_t>(word.size());
}

void Gate::await(ProcessHandles handles, Until until, std::function<void(bool)> then) {
  await_processes(
      executor_, std::move(handles), until, kDecisionLimit,
      [self = shared_from_this(), then = std::move(then)](bool in_time) { then(in_time); });
}

// `all`: the restoring command, then everything below it. The command itself is its parent's to
// reap.
void Gate::await_all_gone(ProcessHandles all, std::function<void(bool)> then) {
  ProcessHandles command;
  if (!all.empty()) {
    command.push_back(std::move(all.front()));
    all.erase(all.begin());
  }
  auto shared = std::make_shared<ProcessHandles>(std::move(command));
  await(std::move(all), Until::kReaped, [this, shared, then = std::move(then)](bool in_time) {
    if (!in_time) return then(false);
    await(std::move(*shared), Until::kEnded, then);
  });
}

void Gate::resume(Done<bool> done) {
  if (recorded_command(dir_).ok()) say("go\n");
  await_resumed(std::move(done));
}

// For as long as it takes: what is held is the only copy now.
void Gate::await_resumed(Done<bool> done) {
  ProcessHandles command;
  if (auto pid = recorded_command(dir_); pid.ok()) {
    command = open_tree(*pid);
    command.resize(std::min<size_t>(command.size(), 1));
  }
  await(std::move(command), Until::kEnded,
        [this, done = std::move(done)](bool in_time) { resumed(in_time, done); });
}

void Gate::resumed(bool in_time, const Done<bool>& done) {
  if (has_passed_gate(dir_)) return done(true);
  if (!in_time) {
    log::warn("the restored tree in {} has been told to run, and does not yet", dir_);
    return await_resumed(done);
  }
  const auto log = read_file(dir_ + "/" + kRestoreLog);
  done(explain_criu_log(log.ok() ? *log : "").context("cannot let the restored tree run"));
}

// criu ends the tree and removes what it had created for it. Where it does not answer, or is not
// that far yet, it is ended with everything it made.
void Gate::kill(Done<bool> done) {
  const auto pid = recorded_command(dir_);
  if (!pid.ok() || !exists(gate_file(dir_, ".held"))) return kill_by_force(std::move(done));
  ProcessHandles all = open_tree(*pid);
  say("no\n");
  await_all_gone(std::move(all), [this, done = std::move(done)](bool in_time) {
    in_time ? done(true) : kill_by_force(done);
  });
}

void Gate::kill_by_force(Done<bool> done) {
  ProcessHandles all;
  if (auto pid = recorded_command(dir_); pid.ok()) all = kill_tree(*pid);
  await_all_gone(std::move(all), [this, done = std::move(done)](bool in_time) {
    if (has_passed_gate(dir_)) {
      return done(Error(Code::kConflict, "the restored tree runs already"));
    }
    if (!in_time) return done(Error(Code::kTimeout, "the restored tree did not end in time"));
    done(true);
  });
}

class GatedTree final : public HeldTree {
 public:
  explicit GatedTree(std::shared_ptr<Gate> gate) : gate_(std::move(gate)) {}
  void resume(Done<bool> done) override { gate_->resume(std::move(done)); }
  void kill(Done<bool> done) override { gate_->kill(std::move(done)); }

 private:
  std::shared_ptr<Gate> gate_;
};

}  // namespace

Status create_gate(const std::string& dir) {
  for (const char* suffix : {".in", ".command", ".held", ".resumed"}) {
    ::unlink(gate_file(dir, suffix).c_str());
  }
  const std::string path = gate_file(dir, ".in");
  if (::mkfifo(path.c_str(), 0600) != 0) return errno_error("cannot create " + path);
  return {};
}

bool has_passed_gate(const std::string& dir) { return exists(gate_file(dir, ".resumed")); }

Status record_command(const std::string& dir, pid_t pid) {
  const auto started = start_time(pid);
  if (!started) return Error(Code::kInternal, "criu ended at once");
  return replace_file(gate_file(dir, ".command"), fmt::format("{} {}\n", pid, *started));
}

Result<std::unique_ptr<HeldTree>> open_held_tree(Executor& executor, const std::string& dir) {
  DVS_TRY(recorded_command(dir));
  DVS_ASSIGN(UniqueFd decision, open_fifo(gate_file(dir, ".in")));
  return std::unique_ptr<HeldTree>(
      std::make_unique<GatedTree>(std::make_shared<Gate>(executor, dir, std::move(decision))));
}

}  // namespace dvs
