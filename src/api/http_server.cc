#include "api/http_server.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>

#include "api/http_connection.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace dvs {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Local = asio::local::stream_protocol;
using Tcp = asio::ip::tcp;

Error system_error(const std::string& what, const error_code& error) {
  return errno_error(what, error.value());
}

// Accepts for as long as it is open; the ServerHandle closes it.
template <typename Protocol>
class Server : public std::enable_shared_from_this<Server<Protocol>> {
 public:
  using Acceptor = typename Protocol::acceptor;
  using Socket = typename Protocol::socket;

  Server(Executor& executor, Acceptor acceptor, std::shared_ptr<ServerState> state)
      : acceptor_(std::move(acceptor)), retry_(executor), state_(std::move(state)) {}

  ServerState& state() { return *state_; }

  void accept() {
    acceptor_.async_accept([self = this->shared_from_this()](error_code error, Socket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void close() {
    state_->closed = true;
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
    for (const auto& weak : connections_) {
      if (auto connection = weak.lock()) connection->close();
    }
  }

 private:
  void on_accept(error_code error, Socket socket) {
    if (state_->closed) return;
    if (error) return accept_later(error);
    ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);  // (asio does not)
    std::erase_if(connections_, [](const auto& weak) {
      const auto connection = weak.lock();
      return connection == nullptr || connection->gone();
    });
    // (A connection that is closed here is dropped; else the new one would not be.)
    if (connections_.size() < state_->limits.clients || drop_oldest()) {
      connections_.push_back(serve_connection(std::move(socket), state_));
    }
    accept();
  }

  // Of those who have not said what they want: honest clients do at once.
  bool drop_oldest() {
    for (auto each = connections_.begin(); each != connections_.end(); ++each) {
      const auto connection = each->lock();
      if (connection == nullptr || !connection->waits_for_request()) continue;
      connection->close();
      connections_.erase(each);
      return true;
    }
    return false;
  }

  // Out of descriptors, most likely: leaves the clients in the queue for a moment.
  void accept_later(error_code error) {
    log::warn("cannot accept an API client: {}", error.message());
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait([self = this->shared_from_this()](error_code cancelled) {
      if (!cancelled && !self->state_->closed) self->accept();
    });
  }

  Acceptor acceptor_;
  asio::steady_timer retry_;
  const std::shared_ptr<ServerState> state_;
  std::vector<std::weak_ptr<HttpConnection>> connections_;  // oldest first
};

// What the caller owns: closes the Server, which pending operations may keep a little longer.
template <typename Protocol>
class ServerHandle : public HttpServer {
 public:
  ServerHandle(std::shared_ptr<Server<Protocol>> server, uint16_t port)
      : server_(std::move(server)), port_(port) {
    server_->accept();
  }
  ~ServerHandle() override { server_->close(); }
  void add(const std::string& method, const std::string& path, HttpHandler handler,
           Role role) override {
    server_->state().router.add(method, path, std::move(handler), role);
  }
  uint16_t port() const override { return port_; }

 private:
  const std::shared_ptr<Server<Protocol>> server_;
  const uint16_t port_;
};

// With the file of its socket, which goes before the lock: nobody else's can be there yet.
class LocalHandle : public ServerHandle<Local> {
 public:
  LocalHandle(std::shared_ptr<Server<Local>> server, std::string path, UniqueFd lock)
      : ServerHandle(std::move(server), 0), path_(std::move(path)), lock_(std::move(lock)) {}
  ~LocalHandle() override { ::unlink(path_.c_str()); }

 private:
  const std::string path_;
  const UniqueFd lock_;
};

Result<UniqueFd> lock_path(const std::string& socket_path) {
  const std::string path = socket_path + ".lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) return errno_error("cannot open " + path);
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) return lock;
  if (errno != EWOULDBLOCK) return errno_error("cannot lock " + path);
  return Error(Code::kConflict, "another server listens on " + socket_path);
}

// REQUIRES: the lock is held.
Status remove_stale_socket(const std::string& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    return errno == ENOENT ? Status() : errno_error("cannot look at " + path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return Error(Code::kConflict, path + " exists and is not a socket");
  }
  return ::unlink(path.c_str()) == 0 ? Status() : errno_error("cannot remove " + path);
}

Status give_to(const std::string& path, const std::string& group) {
  if (group.empty()) {
    return ::chmod(path.c_str(), 0600) == 0 ? Status()
                                            : errno_error("cannot set the mode of " + path);
  }
  const struct group* found = ::getgrnam(group.c_str());
  if (found == nullptr) return Error(Code::kNotFound, "there is no group '" + group + "'");
  if (::chown(path.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0 ||
      ::chmod(path.c_str(), 0660) != 0) {
    return errno_error("cannot give " + path + " to the group " + group);
  }
  return {};
}

// Nobody can connect between bind and listen, so never with a wrong mode.
Status listen_on(Local::acceptor& acceptor, const std::string& path, const std::string& group) {
  error_code error;
  acceptor.open(Local(), error);
  if (error) return system_error("cannot open a socket", error);
  ::fcntl(acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
  acceptor.bind(Local::endpoint(path), error);
  if (error) return system_error("cannot bind " + path, error);
  DVS_TRY(give_to(path, group));
  acceptor.listen(Local::acceptor::max_listen_connections, error);
  return error ? system_error("cannot listen on " + path, error) : Status();
}

Status listen_on(Tcp::acceptor& acceptor, const std::string& address, uint16_t port) {
  error_code error;
  const auto ip = asio::ip::make_address(address, error);
  if (error) return Error(Code::kInvalid, "'" + address + "' is not an address");
  const Tcp::endpoint endpoint(ip, port);
  acceptor.open(endpoint.protocol(), error);
  if (!error) ::fcntl(acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
  if (!error) acceptor.set_option(Tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(Tcp::acceptor::max_listen_connections, error);
  if (!error) return {};
  return system_error("cannot listen on " + address + ":" + std::to_string(port), error);
}

}  // namespace

Result<std::unique_ptr<HttpServer>> open_http_server(Executor& executor,
                                                     const std::string& socket_path,
                                                     const std::string& group) {
  if (socket_path.empty() || socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Code::kInvalid, "a socket's path has 1 to 107 characters: '" + socket_path + "'");
  }
  DVS_ASSIGN(UniqueFd lock, lock_path(socket_path));
  DVS_TRY(remove_stale_socket(socket_path));
  Local::acceptor acceptor(executor);
  DVS_TRY(listen_on(acceptor, socket_path, group));
  constexpr HttpLimits kLimits = {.request = std::chrono::seconds(30)};
  auto state = std::make_shared<ServerState>();
  state->limits = kLimits;
  auto server = std::make_shared<Server<Local>>(executor, std::move(acceptor), std::move(state));
  return std::unique_ptr<HttpServer>(
      std::make_unique<LocalHandle>(std::move(server), socket_path, std::move(lock)));
}

Result<std::unique_ptr<HttpServer>> open_https_server(Executor& executor, HttpsOptions options) {
  Tcp::acceptor acceptor(executor);
  DVS_TRY(listen_on(acceptor, options.address, options.port));
  error_code ignored;
  const uint16_t port = acceptor.local_endpoint(ignored).port();
  auto state = std::make_shared<ServerState>();
  state->identity = std::move(options.identity);
  state->tokens = std::move(options.tokens);
  state->limits = options.limits;
  if (options.limits.requests_per_second > 0) {
    state->rate = std::make_shared<RateLimit>(options.limits.requests_per_second);
  }
  auto server = std::make_shared<Server<Tcp>>(executor, std::move(acceptor), std::move(state));
  return std::unique_ptr<HttpServer>(std::make_unique<ServerHandle<Tcp>>(std::move(server), port));
}

}  // namespace dvs
