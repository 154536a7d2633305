// One run of criu, started ahead of its work: the process exists, is linked and in its cgroup, and
// blocks reading its last options from a pipe. Half of the time of a short criu run is that start,
// so it happens before the process to move is stopped.
//
// Owned by the wait for its process: it goes when that has ended. When dvsd dies before go(), or
// gives it up, criu reads an end of file instead of the options without which it does nothing
// (`tree`, `images-dir`), and ends by itself.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/child.h"
#include "base/executor.h"

namespace dvs {

class CriuCommand : public std::enable_shared_from_this<CriuCommand> {
 public:
  // Runs `argv` with a --config option added. The process and its children are put into the
  // cgroups named by these cgroup.procs files.
  static Result<std::shared_ptr<CriuCommand>> start(Executor& executor,
                                                    std::vector<std::string> argv,
                                                    const std::vector<std::string>& cgroups);

  // It has begun to read its options: all that can be done ahead is done.
  bool ready() const;

  // Sends the last options (lines of "name value") and lets criu begin. `ended` is called when it
  // has ended; soon, but not from inside go(), when it had ended before. Once.
  void go(const std::string& options, std::function<void(ChildResult)> ended);

  // Instead of go(): criu ends by itself, having done nothing.
  void give_up();

  bool running() const { return !result_.has_value(); }
  pid_t pid() const { return pid_; }  // of argv[0]'s process, as dvsd sees it
  // Makes every further write to a file fail, so that criu gives up in good order: it heals the
  // processes that it has code in. Needs SIGXFSZ ignored there. `ended` follows.
  void fail_writes();
  // Ends it with everything it has made. `ended` still follows. A process that criu is dumping may
  // not survive that: between two steps it has criu's registers.
  void kill();

  CriuCommand(const CriuCommand&) = delete;
  CriuCommand& operator=(const CriuCommand&) = delete;

 private:
  explicit CriuCommand(Executor& executor) : executor_(executor) {}
  Status launch(std::vector<std::string> argv);
  void finish(ChildResult result);

  Executor& executor_;
  UniqueFd options_reader_;  // kept so that a write cannot raise SIGPIPE
  UniqueFd options_;
  pid_t pid_ = -1;
  std::optional<ChildResult> result_;
  std::function<void(ChildResult)> ended_;
};

}  // namespace dvs
