#include "local/etcd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "base/log.h"
#include "base/unique_fd.h"
#include "local/channel.h"
#include "local/process.h"

namespace dvs::local {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kLimit{10};
constexpr std::chrono::milliseconds kPoll{5};

bool is_healthy() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kEtcdPort);
  ::inet_pton(AF_INET, kEtcdAddress, &address.sin_addr);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return false;
  }
  const auto answer = http_get(fd.get(), "/health");
  return answer.ok() && answer->find("\"true\"") != std::string::npos;
}

}  // namespace

Status Etcd::start() {
  if (pid_ == 0) {
    DVS_ASSIGN(pid_, start_logged(etcd_command(config_), etcd_log(config_.dir)));
  }
  return await_health();
}

Status Etcd::await_health() {
  const auto deadline = steady_clock::now() + kLimit;
  while (!is_healthy()) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = 0;
      return Error(Code::kUnavailable, "etcd ended; " + log_tail(etcd_log(config_.dir)));
    }
    if (steady_clock::now() > deadline) {
      return Error(Code::kTimeout, "etcd does not answer; " + log_tail(etcd_log(config_.dir)));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return {};
}

void Etcd::stop() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

void Etcd::ended(pid_t pid) {
  if (pid != pid_) return;
  log::warn("etcd ended by itself");
  pid_ = 0;
}

}  // namespace dvs::local
