#include <sys/mman.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <istream>

#include "base/check.h"
#include "base/child.h"
#include "base/unique_fd.h"
#include "container/helper.h"

namespace dvs {
namespace {

using boost::system::error_code;

constexpr std::chrono::seconds kAnswerLimit{10};
constexpr int kSpecFd = 3;  // in the helper
constexpr size_t kLineLimit = 64 << 10;

// The conversation with one helper. Kept by whoever waits for an answer; closing it makes the
// helper end the program, unless that was told to go.
class HelperChannel : public std::enable_shared_from_this<HelperChannel> {
 public:
  explicit HelperChannel(Executor& executor) : socket_(executor), timer_(executor) {}

  Status start(Executor& executor, std::vector<std::string> command, const LaunchSpec& spec);
  void read_line(Done<Json> done);
  // Never blocks: nothing else was written, so the one byte has room.
  void say_go() {
    error_code ec;
    boost::asio::write(socket_, boost::asio::buffer("g", 1), ec);
  }
  void close() {
    error_code ec;
    socket_.close(ec);
  }

 private:
  Result<Json> line_or_error(const error_code& ec);

  boost::asio::local::stream_protocol::socket socket_;
  boost::asio::steady_timer timer_;
  boost::asio::streambuf input_{kLineLimit};
  bool timed_out_ = false;
};

// As dvs-container run wants it (apps/dvs-container/commands.h).
Result<std::string> encode(const LaunchSpec& spec) {
  std::string text;
  bool valid = !spec.argv.empty() && !spec.log_path.empty();
  auto add = [&](const char* name, const std::string& value) {
    valid = valid && value.find('\0') == std::string::npos;
    text.append(name).append("=").append(value).push_back('\0');
  };
  for (const auto& value : spec.argv) add("arg", value);
  for (const auto& value : spec.env) add("env", value);
  for (const auto& value : spec.cgroup_procs_files) add("cgroup", value);
  add("cwd", spec.cwd);
  add("log", spec.log_path);
  if (valid) return text;
  return Error(Code::kInvalid, "no program, no log file, or a null byte in a string");
}

// A descriptor from which `text` can be read. Not a pipe: that could be too small for it.
Result<UniqueFd> readable(const std::string& text) {
  UniqueFd fd(::memfd_create("dvs-launch", MFD_CLOEXEC));
  if (!fd.valid()) return errno_error("cannot create a memory file");
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::lseek(fd.get(), 0, SEEK_SET) != 0) {
    return errno_error("cannot fill a memory file");
  }
  return fd;
}

Status HelperChannel::start(Executor& executor, std::vector<std::string> command,
                            const LaunchSpec& spec) {
  DVS_ASSIGN(const std::string text, encode(spec));
  DVS_ASSIGN(const UniqueFd spec_fd, readable(text));
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return errno_error("cannot create a socket pair");
  }
  const UniqueFd theirs(ends[1]);
  socket_.assign(boost::asio::local::stream_protocol(), ends[0]);
  ChildOptions options;
  options.argv = std::move(command);
  options.stdin_fd = theirs.get();
  options.stdout_fd = theirs.get();
  options.pass_fds = {{spec_fd.get(), kSpecFd}};
  // How the helper ended is of no interest: it has told everything before.
  auto pid = run_child(executor, std::move(options), [](const ChildResult&) {});
  return pid ? Status() : pid.error();
}

void HelperChannel::read_line(Done<Json> done) {
  timer_.expires_after(kAnswerLimit);
  timer_.async_wait([self = shared_from_this()](const error_code& ec) {
    if (ec) return;
    self->timed_out_ = true;
    self->close();
  });
  boost::asio::async_read_until(
      socket_, input_, '\n',
      [self = shared_from_this(), done = std::move(done)](const error_code& ec, size_t) {
        self->timer_.cancel();
        done(self->line_or_error(ec));
      });
}

Result<Json> HelperChannel::line_or_error(const error_code& ec) {
  if (timed_out_) return Error(Code::kTimeout, "dvs-container run does not answer");
  if (ec) return Error(Code::kInternal, "dvs-container run ended without an answer");
  std::string line;
  std::istream stream(&input_);
  std::getline(stream, line);
  return parse_helper_line(line);
}

class LaunchImpl : public Launch {
 public:
  LaunchImpl(std::shared_ptr<HelperChannel> channel, pid_t host_pid, pid_t dc_pid)
      : channel_(std::move(channel)), host_pid_(host_pid), dc_pid_(dc_pid) {}
  ~LaunchImpl() override {
    if (channel_) channel_->close();
  }

  pid_t host_pid() const override { return host_pid_; }
  pid_t dc_pid() const override { return dc_pid_; }

  void go(Done<bool> done) override {
    DVS_CHECK(channel_ != nullptr, "go() called twice");
    channel_->say_go();
    channel_->read_line([channel = channel_, done = std::move(done)](const Result<Json>& line) {
      channel->close();
      if (!line) return done(line.error());
      done(true);
    });
    channel_.reset();
  }

 private:
  std::shared_ptr<HelperChannel> channel_;  // until go()
  const pid_t host_pid_;
  const pid_t dc_pid_;
};

Result<std::unique_ptr<Launch>> make_launch(std::shared_ptr<HelperChannel> channel,
                                            const Result<Json>& line) {
  DVS_TRY(line);
  DVS_ASSIGN(const pid_t host_pid, json_get<pid_t>(*line, "host_pid"));
  DVS_ASSIGN(const pid_t dc_pid, json_get<pid_t>(*line, "dc_pid"));
  return std::unique_ptr<Launch>(
      std::make_unique<LaunchImpl>(std::move(channel), host_pid, dc_pid));
}

}  // namespace

void launch_program(Executor& executor, std::vector<std::string> run_command, LaunchSpec spec,
                    Done<std::unique_ptr<Launch>> done) {
  auto channel = std::make_shared<HelperChannel>(executor);
  if (auto started = channel->start(executor, std::move(run_command), spec); !started) {
    boost::asio::post(executor, [error = started.error(), done] { done(error); });
    return;
  }
  channel->read_line([channel, done = std::move(done)](const Result<Json>& line) {
    auto launch = make_launch(channel, line);
    if (!launch) channel->close();
    done(std::move(launch));
  });
}

}  // namespace dvs
