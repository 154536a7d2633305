#include "container/container.h"

#include <fcntl.h>
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

using boost::asio::posix::stream_descriptor;

constexpr std::chrono::seconds kCreateLimit{10};
constexpr std::chrono::seconds kDestroyLimit{15};

bool has_ended(int process) {
  pollfd ended{process, POLLIN, 0};
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
  bool alive() const override { return !has_ended(init_.get()); }
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

// Waits for the end of a process, but not for ever.
class EndOfProcess : public std::enable_shared_from_this<EndOfProcess> {
 public:
  EndOfProcess(Executor& executor, UniqueFd process, Error too_late, Done<bool> done)
      : process_(executor, process.release()),
        timer_(executor),
        too_late_(std::move(too_late)),
        done_(std::move(done)) {}

  void start() {
    timer_.expires_after(kDestroyLimit);
    timer_.async_wait([self = shared_from_this()](const auto& ec) {
      if (!ec) self->process_.cancel();
    });
    wait();
  }

 private:
  // The reactor may wake a wait for the sake of a descriptor that was closed meanwhile.
  void wait() {
    process_.async_wait(stream_descriptor::wait_read, [self = shared_from_this()](const auto& ec) {
      if (!ec && !has_ended(self->process_.native_handle())) return self->wait();
      self->finish(!ec);
    });
  }

  // The descriptor is a copy, so closing it alone would not take it out of the reactor's epoll.
  void finish(bool ended) {
    UniqueFd closed(process_.release());
    timer_.cancel();
    if (ended) return done_(true);
    done_(too_late_);
  }

  stream_descriptor process_;
  boost::asio::steady_timer timer_;
  const Error too_late_;
  const Done<bool> done_;
};

// The kernel ends all processes of the pid namespace before its first one counts as ended. The wait
// owns a descriptor of its own: this object may go meanwhile.
void ContainerImpl::destroy(Done<bool> done) {
  ::syscall(SYS_pidfd_send_signal, init_.get(), SIGKILL, nullptr, 0);
  UniqueFd init(::fcntl(init_.get(), F_DUPFD_CLOEXEC, 0));
  if (!init.valid()) {
    auto error = errno_error("cannot wait for the end of DC " + spec_.name);
    return boost::asio::post(executor_, [error, done = std::move(done)] { done(error); });
  }
  Error too_late(Code::kTimeout, "DC " + spec_.name + " does not end: a process in it is frozen, " +
                                     "or its parent outside does not reap it");
  std::make_shared<EndOfProcess>(executor_, std::move(init), std::move(too_late), std::move(done))
      ->start();
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
                  "--next-pid",
                  std::to_string(spec.next_pid),
                  "--monotonic-offset",
                  std::to_string(spec.monotonic_offset_ns)};
  const std::pair<const char*, const std::vector<std::string>&> paths[] = {
      {"--show", spec.shown}, {"--writable", spec.writable}, {"--hide", spec.hidden}};
  for (const auto& [name, values] : paths) {
    for (const std::string& value : values) options.argv.insert(options.argv.end(), {name, value});
  }
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
  if (!init.valid() || !start_time || *start_time != handle.init_start_time ||
      has_ended(init.get())) {
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
