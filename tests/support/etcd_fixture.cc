#include "support/etcd_fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/unique_fd.h"

namespace dvs {
namespace {

constexpr int64_t kReadyNs = 20'000'000'000;
constexpr int kPollMs = 5;
constexpr int kStartAttempts = 3;

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

bool is_free(int port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  return ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

// Below the kernel's range for outgoing connections, so that the port is still free when etcd is
// started again on it.
int free_port() {
  static std::mt19937 random(std::random_device{}());
  std::uniform_int_distribution<int> ports(20000, 32000);
  int port = ports(random);
  while (!is_free(port)) port = ports(random);
  return port;
}

// What etcd answers to a whole HTTP/1.0 request; empty when it does not.
std::string ask(int port, const std::string& request) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  const timeval patience{1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return {};
  }
  std::string answer;
  char part[1024];
  for (ssize_t got; (got = ::recv(fd.get(), part, sizeof part, 0)) > 0;) {
    answer.append(part, static_cast<size_t>(got));
  }
  return answer;
}

// Whether etcd says that it serves linearizable reads.
bool is_healthy(int port) {
  return ask(port, "GET /health HTTP/1.0\r\n\r\n").find("\"health\":\"true\"") != std::string::npos;
}

// Only calls that are safe between fork and exec.
[[noreturn]] void become(char* const* argv, const char* log_path, pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int log = ::open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int null = ::open("/dev/null", O_RDONLY);
  ::dup2(null, STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
  if (::getppid() == parent) ::execvp(argv[0], argv);
  ::_exit(127);
}

pid_t spawn(std::vector<std::string> arguments, const std::string& log_path) {
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  DVS_CHECK(pid >= 0, "fork: errno {}", errno);
  if (pid == 0) become(argv.data(), log_path.c_str(), parent);
  return pid;
}

Result<std::string> make_directory() {
  std::string dir = "/dev/shm/dvs-test-etcd.XXXXXX";
  if (::mkdtemp(dir.data()) == nullptr) return errno_error("cannot create " + dir);
  return dir;
}

std::string local_url(int port) { return "http://127.0.0.1:" + std::to_string(port); }

}  // namespace

EtcdFixture::EtcdFixture(std::string dir, Tls tls) : dir_(std::move(dir)), tls_(std::move(tls)) {}

Result<std::unique_ptr<EtcdFixture>> EtcdFixture::create() { return create({}); }

Result<std::unique_ptr<EtcdFixture>> EtcdFixture::create(Tls tls) {
  DVS_ASSIGN(const std::string dir, make_directory());
  std::unique_ptr<EtcdFixture> fixture(new EtcdFixture(dir, std::move(tls)));
  // Another program may take a port between our look and etcd's start: then with other ports.
  Status started;
  for (int attempt = 0; attempt < kStartAttempts; ++attempt) {
    fixture->choose_ports();
    started = fixture->start();
    if (started.ok()) return fixture;
    fixture->kill();
    DVS_TRY(remove_tree(dir + "/data"));
  }
  return started.error();
}

Result<std::vector<std::unique_ptr<EtcdFixture>>> EtcdFixture::create_members(size_t number) {
  Status started;
  for (int attempt = 0; attempt < kStartAttempts; ++attempt) {
    std::vector<std::unique_ptr<EtcdFixture>> members;
    std::string all;
    for (size_t i = 0; i < number; ++i) {
      DVS_ASSIGN(const std::string dir, make_directory());
      members.emplace_back(new EtcdFixture(dir, {}));
      members[i]->name_ = "m" + std::to_string(i);
      members[i]->choose_ports();
      all += (i == 0 ? "" : ",") + members[i]->name_ + "=" + members[i]->peer_url();
    }
    for (const auto& member : members) {
      member->members_ = all;
      member->spawn_etcd();
    }
    started = {};
    for (const auto& member : members) {
      if (started.ok()) started = member->wait_until_ready();
    }
    if (started.ok()) return members;
  }
  return started.error();
}

EtcdFixture::~EtcdFixture() {
  kill();
  const Status removed = remove_tree(dir_);
  if (!removed.ok()) std::fprintf(stderr, "%s\n", removed.error().message().c_str());
}

std::string EtcdFixture::url() const {
  std::string url = local_url(client_port_);
  return tls_.authority.empty() ? url : url.insert(4, "s");
}

void EtcdFixture::choose_ports() {
  client_port_ = free_port();
  do peer_port_ = free_port();
  while (peer_port_ == client_port_);
  do health_port_ = free_port();
  while (health_port_ == client_port_ || health_port_ == peer_port_);
}

std::string EtcdFixture::peer_url() const { return local_url(peer_port_); }

Status EtcdFixture::start() {
  spawn_etcd();
  return wait_until_ready();
}

void EtcdFixture::spawn_etcd() {
  DVS_CHECK(pid_ < 0, "etcd runs already");
  const std::string peer = peer_url();
  std::vector<std::string> arguments = {
      "etcd", "--name", name_, "--data-dir", dir_ + "/data", "--logger", "zap",
      "--listen-client-urls", url(), "--advertise-client-urls", url(), "--listen-peer-urls", peer,
      "--initial-advertise-peer-urls", peer, "--initial-cluster",
      members_.empty() ? name_ + "=" + peer : members_, "--listen-metrics-urls",
      local_url(health_port_), "--unsafe-no-fsync",
      // Leases have at least 1.5 election timeouts: allows those of one second.
      "--heartbeat-interval", "50", "--election-timeout", "500"};
  if (!tls_.authority.empty()) {
    arguments.insert(arguments.end(), {"--trusted-ca-file", tls_.authority, "--client-cert-auth",
                                       "--cert-file", tls_.certificate, "--key-file", tls_.key});
  }
  pid_ = spawn(std::move(arguments), dir_ + "/log");
}

Status EtcdFixture::wait_until_ready() {
  const int64_t deadline = monotonic_ns() + kReadyNs;
  while (!is_healthy(health_port_)) {
    if (has_ended()) return failure("etcd has ended");
    if (monotonic_ns() > deadline) return failure("etcd did not answer in time");
    ::poll(nullptr, 0, kPollMs);
  }
  return {};
}

bool EtcdFixture::has_ended() {
  if (::waitpid(pid_, nullptr, WNOHANG) == 0) return false;
  pid_ = -1;
  return true;
}

Error EtcdFixture::failure(const std::string& what) const {
  const auto log = read_file(dir_ + "/log");
  const std::string text = log.ok() ? *log : "no log";
  return Error(
      Code::kUnavailable,
      what + "; its log ends:\n" + text.substr(text.size() - std::min<size_t>(text.size(), 2000)));
}

void EtcdFixture::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
  pid_ = -1;
}

void EtcdFixture::freeze() {
  DVS_CHECK(pid_ > 0, "etcd does not run");
  ::kill(pid_, SIGSTOP);
  while (::waitpid(pid_, nullptr, WUNTRACED) < 0 && errno == EINTR) continue;  // all its threads
}

void EtcdFixture::thaw() {
  DVS_CHECK(pid_ > 0, "etcd does not run");
  ::kill(pid_, SIGCONT);
}

void EtcdFixture::compact(int64_t revision) {
  const std::string body = "{\"revision\":\"" + std::to_string(revision) + "\"}";
  const std::string answer =
      ask(client_port_, "POST /v3/kv/compaction HTTP/1.0\r\nContent-Length: " +
                            std::to_string(body.size()) + "\r\n\r\n" + body);
  DVS_CHECK(answer.find(" 200 OK") != std::string::npos, "etcd answers: {}", answer);
}

}  // namespace dvs
