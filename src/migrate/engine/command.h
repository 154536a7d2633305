// One run of criu by apps/dvs-criu, started ahead of its work: it has done all that can be done
// before the process to move is stopped, and waits for go(). Half of the time of a short run of
// criu is that.
//
// Owned by the wait for its process: it goes when that has ended. When dvsd dies before go(), or
// gives it up, it ends by itself. After go() it does not need dvsd any more.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/child.h"
#include "base/executor.h"
#include "base/json.h"

namespace dvs {

class CriuCommand : public std::enable_shared_from_this<CriuCommand> {
 public:
  struct Events {
    std::function<void()> held;              // a restored tree waits at its gate
    std::function<void()> done;              // the work is done
    std::function<void(ChildResult)> ended;  // the process has ended; comes last
  };

  // Runs `argv`, gives it the descriptors (ours, its) and tells it its `job` (apps/dvs-criu). The
  // process and its children are put into the cgroups named by these cgroup.procs files.
  static Result<std::shared_ptr<CriuCommand>> start(Executor& executor,
                                                    std::vector<std::string> argv, const Json& job,
                                                    std::vector<std::pair<int, int>> descriptors,
                                                    const std::vector<std::string>& cgroups);

  // Calls `ready` (soon, but not from inside) when it waits for go(), or never will.
  void await_ready(std::function<void()> ready);

  // Lets it begin, as soon as it can. Once. `ended` is called soon, but not from inside go(), when
  // it had ended before.
  void go(Events events);

  // Instead of go(): it ends by itself, having done nothing.
  void give_up();

  bool running() const { return !result_.has_value(); }
  pid_t pid() const { return pid_; }  // of argv[0]'s process, as dvsd sees it
  // Makes every further write to a file fail, so that criu gives up in good order: it heals the
  // processes that it has code in. `ended` follows.
  void fail_writes();
  // Ends it with everything it has made. `ended` still follows. A process that criu is dumping may
  // not survive that: between two steps it has criu's registers.
  void kill();

  CriuCommand(const CriuCommand&) = delete;
  CriuCommand& operator=(const CriuCommand&) = delete;

 private:
  explicit CriuCommand(Executor& executor) : executor_(executor), words_(executor) {}
  Status launch(std::vector<std::string> argv, const Json& job,
                std::vector<std::pair<int, int>> descriptors);
  bool say(std::string_view word);
  void listen();
  void hear_all();
  void heard(std::string_view word);
  void tell_ready();
  void finish(ChildResult result);

  Executor& executor_;
  boost::asio::posix::stream_descriptor words_;  // a SOCK_SEQPACKET socket
  pid_t pid_ = -1;
  bool ready_ = false;
  std::function<void()> on_ready_;
  std::optional<ChildResult> result_;
  Events events_;
};

}  // namespace dvs
