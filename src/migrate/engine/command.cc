#include "migrate/engine/command.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <boost/asio/post.hpp>

#include "base/check.h"
#include "base/file.h"
#include "migrate/engine/process_tree.h"

namespace dvs {
namespace {

Status join_cgroups(pid_t root, const std::vector<std::string>& cgroups) {
  Status status;
  visit_tree(root, [&](pid_t pid) {
    for (const auto& file : cgroups) {
      auto written = write_control_file(file, std::to_string(pid));
      if (!written.ok() && start_time(pid).has_value()) status = written;
    }
  });
  return status;
}

}  // namespace

Result<std::shared_ptr<CriuCommand>> CriuCommand::start(Executor& executor,
                                                        std::vector<std::string> argv,
                                                        const std::vector<std::string>& cgroups) {
  std::shared_ptr<CriuCommand> self(new CriuCommand(executor));
  DVS_TRY(self->launch(std::move(argv)));
  if (!cgroups.empty()) DVS_TRY(join_cgroups(self->pid_, cgroups));
  return self;
}

Status CriuCommand::launch(std::vector<std::string> argv) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error("cannot create a pipe");
  options_reader_.reset(ends[0]);
  options_.reset(ends[1]);
  // A comment, which tells when criu reads: the pipe is empty then.
  if (::write(ends[1], "#\n", 2) != 2) return errno_error("cannot write to a pipe");

  ChildOptions options;
  options.argv = std::move(argv);
  options.argv.insert(options.argv.end(), {"--config", "/proc/self/fd/0"});
  options.env = {"CRIU_CONFIG_FILE="};
  options.stdin_fd = options_reader_.get();
  auto pid = run_child(
      executor_, std::move(options),
      [self = shared_from_this()](ChildResult result) { self->finish(std::move(result)); });
  if (!pid.ok()) return pid.error();
  pid_ = *pid;
  return {};
}

bool CriuCommand::ready() const {
  int unread = 0;
  return !running() || !options_reader_.valid() ||
         ::ioctl(options_reader_.get(), FIONREAD, &unread) != 0 || unread == 0;
}

void CriuCommand::go(const std::string& options, std::function<void(ChildResult)> ended) {
  DVS_CHECK(options_.valid(), "go() called twice");
  // A pipe takes a page at once; should the write fail, criu ends for lack of options.
  [[maybe_unused]] const ssize_t written = ::write(options_.get(), options.data(), options.size());
  give_up();  // the end of the options
  ended_ = std::move(ended);
  if (!running()) {
    boost::asio::post(executor_, [self = shared_from_this()] { self->finish(*self->result_); });
  }
}

void CriuCommand::give_up() {
  options_.reset();
  options_reader_.reset();
}

void CriuCommand::finish(ChildResult result) {
  result_ = std::move(result);
  if (auto ended = std::exchange(ended_, nullptr)) ended(*result_);
}

void CriuCommand::fail_writes() {
  if (!running()) return;
  const rlimit none{.rlim_cur = 0, .rlim_max = 0};
  visit_tree(pid_, [&](pid_t pid) { ::prlimit(pid, RLIMIT_FSIZE, &none, nullptr); });
}

void CriuCommand::kill() {
  if (running()) kill_tree(pid_);
}

}  // namespace dvs
