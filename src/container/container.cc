#include "container/container.h"

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>

#include "base/check.h"
#include "base/child.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "container/helper.h"
#include "container/paths.h"

namespace dvs {
namespace {

constexpr std::chrono::seconds kCreateLimit{10};

bool has_ended(const UniqueFd& process) {
  pollfd ended{process.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) != 0;
}

class ContainerImpl : public Container {
 public:
  ContainerImpl(Executor& executor, std::string helper, ContainerSpec spec, ContainerHandle handle,
                UniqueFd init)
      : executor_(executor),
        helper_(std::move(helper)),
        spec_(std::move(spec)),
        handle_(handle),
        init_(std::move(init)) {}

  const ContainerSpec& spec() const override { return spec_; }
  pid_t init_pid() const override { return handle_.init_pid; }
  bool alive() const override { return !has_ended(init_); }
  ContainerHandle handle() const { return handle_; }

  std::vector<std::string> enter_prefix() const override {
    auto prefix = command("enter");
    prefix.emplace_back("--");
    return prefix;
  }

  void launch(LaunchSpec spec, Done<std::unique_ptr<Launch>> done) override {
    launch_program(executor_, command("run"), std::move(spec), std::move(done));
  }

  void destroy(Done<bool> done) override;

 private:
  std::vector<std::string> command(const char* subcommand) const {
    return {helper_,   subcommand,
            "--init",  std::to_string(handle_.init_pid),
            "--start", std::to_string(handle_.init_start_time),
            "--pids",  std::to_string(spec_.first_pid) + ":" + std::to_string(spec_.last_pid)};
  }

  Executor& executor_;
  const std::string helper_;
  const ContainerSpec spec_;
  const ContainerHandle handle_;
  const UniqueFd init_;  // pidfd
};

// The kernel ends all processes of the pid namespace before its first one counts as ended. The wait
// owns a descriptor of its own: this object may go meanwhile.
void ContainerImpl::destroy(Done<bool> done) {
  ::syscall(SYS_pidfd_send_signal, init_.get(), SIGKILL, nullptr, 0);
  const int copy = ::fcntl(init_.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) {
    auto error = errno_error("cannot wait for the end of DC " + spec_.name);
    return boost::asio::post(executor_, [error, done = std::move(done)] { done(error); });
  }
  auto init = std::make_shared<boost::asio::posix::stream_descriptor>(executor_, copy);
  init->async_wait(boost::asio::posix::stream_descriptor::wait_read,
                   [init, done = std::move(done)](auto) { done(true); });
}

Status check_spec(const ContainerSpec& spec) {
  if (spec.first_pid > 1 && spec.first_pid <= spec.last_pid) return {};
  return Error(Code::kInvalid, "the range of process ids " + std::to_string(spec.first_pid) +
                                   " to " + std::to_string(spec.last_pid) +
                                   " is empty or holds id 1");
}

Status make_directories(const std::string& dir) {
  DVS_TRY(make_dirs(paths::logs_dir(dir)));
  DVS_TRY(make_dirs(paths::engine_dir(dir)));
  return make_dirs(paths::tasks_dir(dir));
}

ChildOptions init_command(const std::string& helper, const ContainerSpec& spec) {
  ChildOptions options;
  options.argv = {helper,
                  "init",
                  "--dir",
                  spec.dir,
                  "--pids",
                  std::to_string(spec.first_pid) + ":" + std::to_string(spec.last_pid),
                  "--monotonic-offset",
                  std::to_string(spec.monotonic_offset_ns)};
  options.capture_output = true;
  options.timeout = kCreateLimit;
  return options;
}

Result<std::unique_ptr<Container>> adopt(Executor& executor, const std::string& helper,
                                         const ContainerSpec& spec, const ChildResult& result) {
  if (result.output.empty()) {
    return Error(Code::kInternal, "dvs-container init: " + result.describe());
  }
  DVS_ASSIGN(const Json line, parse_helper_line(result.output));
  DVS_ASSIGN(const pid_t pid, json_get<pid_t>(line, "pid"));
  DVS_ASSIGN(const uint64_t start_time, process_start_time(pid));
  return reopen_container(executor, helper, spec, {pid, start_time});
}

}  // namespace

Result<Json> parse_helper_line(const std::string& line) {
  auto json = parse_json(line);
  if (!json || !json->is_object()) {
    return Error(Code::kInternal, "dvs-container said: " + line);
  }
  if (json->contains("error")) return error_from_json((*json)["error"]);
  return json;
}

void create_container(Executor& executor, std::string helper, ContainerSpec spec,
                      Done<std::unique_ptr<Container>> done) {
  const std::string what = "cannot create DC " + spec.name;
  auto fail = [&executor, what, done](const Error& error) {
    boost::asio::post(executor, [error = error.context(what), done] { done(error); });
  };
  if (auto checked = check_spec(spec); !checked) return fail(checked.error());
  if (auto made = make_directories(spec.dir); !made) return fail(made.error());
  auto started = run_child(executor, init_command(helper, spec),
                           [&executor, helper, spec, done, what](const ChildResult& result) {
                             auto container = adopt(executor, helper, spec, result);
                             if (!container) return done(container.error().context(what));
                             done(std::move(container));
                           });
  if (!started) fail(started.error());
}

Result<std::unique_ptr<Container>> reopen_container(Executor& executor, std::string helper,
                                                    ContainerSpec spec, ContainerHandle handle) {
  const Error gone(Code::kNotFound, "the first process of DC " + spec.name + " (" +
                                        std::to_string(handle.init_pid) + ") is gone");
  UniqueFd init(static_cast<int>(::syscall(SYS_pidfd_open, handle.init_pid, 0)));
  // Looked at after the pidfd was opened: it is that very process then.
  auto start_time = process_start_time(handle.init_pid);
  if (!init.valid() || !start_time || *start_time != handle.init_start_time || has_ended(init)) {
    return gone;
  }
  return std::unique_ptr<Container>(std::make_unique<ContainerImpl>(
      executor, std::move(helper), std::move(spec), handle, std::move(init)));
}

Result<ContainerHandle> container_handle(const Container& container) {
  const auto* ours = dynamic_cast<const ContainerImpl*>(&container);
  DVS_CHECK(ours != nullptr);
  return ours->handle();
}

}  // namespace dvs
