#include "api/http_server.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>

#include "api/http_connection.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace dvs {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using Protocol = asio::local::stream_protocol;

Error system_error(const std::string& what, error_code error) {
  return errno_error(what, error.value());
}

class Server : public HttpServer, public std::enable_shared_from_this<Server> {
 public:
  Server(Executor& executor, UniqueFd lock, Protocol::acceptor acceptor)
      : lock_(std::move(lock)), acceptor_(std::move(acceptor)), retry_(executor) {}

  void add(const std::string& method, const std::string& path, HttpHandler handler) override {
    state_->router.add(method, path, std::move(handler));
  }

  void accept() {
    acceptor_.async_accept([self = shared_from_this()](error_code error, Protocol::socket socket) {
      self->on_accept(error, std::move(socket));
    });
  }

  void close() {
    state_->closed = true;
    error_code ignored;
    // The file goes before the lock: nobody else's socket can be there yet.
    const std::string path = acceptor_.local_endpoint(ignored).path();
    if (!path.empty()) ::unlink(path.c_str());
    acceptor_.close(ignored);
    retry_.cancel();
    for (const auto& weak : connections_) {
      if (auto connection = weak.lock()) connection->close();
    }
    lock_.reset();
  }

 private:
  void on_accept(error_code error, Protocol::socket socket) {
    if (state_->closed) return;
    if (error) return accept_later(error);
    std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
    connections_.push_back(serve_connection(std::move(socket), state_));
    accept();
  }

  // Out of descriptors, most likely: leaves the clients in the queue for a moment.
  void accept_later(error_code error) {
    log::warn("cannot accept an API client: {}", error.message());
    retry_.expires_after(std::chrono::milliseconds(100));
    retry_.async_wait([self = shared_from_this()](error_code cancelled) {
      if (!cancelled && !self->state_->closed) self->accept();
    });
  }

  UniqueFd lock_;
  Protocol::acceptor acceptor_;
  asio::steady_timer retry_;
  std::shared_ptr<ServerState> state_ = std::make_shared<ServerState>();
  std::vector<std::weak_ptr<HttpConnection>> connections_;
};

// What the caller owns: closes the Server, which pending operations may keep a little longer.
class ServerHandle : public HttpServer {
 public:
  explicit ServerHandle(std::shared_ptr<Server> server) : server_(std::move(server)) {}
  ~ServerHandle() override { server_->close(); }
  void add(const std::string& method, const std::string& path, HttpHandler handler) override {
    server_->add(method, path, std::move(handler));
  }

 private:
  std::shared_ptr<Server> server_;
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

// Nobody can connect between bind and listen, so never with a wrong mode.
Status listen_on(Protocol::acceptor& acceptor, const std::string& path) {
  error_code error;
  acceptor.open(Protocol(), error);
  if (error) return system_error("cannot open a socket", error);
  acceptor.bind(Protocol::endpoint(path), error);
  if (error) return system_error("cannot bind " + path, error);
  if (::chmod(path.c_str(), 0660) != 0) return errno_error("cannot set the mode of " + path);
  acceptor.listen(Protocol::acceptor::max_listen_connections, error);
  return error ? system_error("cannot listen on " + path, error) : Status();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> open_http_server(Executor& executor,
                                                     const std::string& socket_path) {
  if (socket_path.empty() || socket_path.size() >= sizeof(sockaddr_un::sun_path)) {
    return Error(Code::kInvalid, "a socket's path has 1 to 107 characters: '" + socket_path + "'");
  }
  DVS_ASSIGN(UniqueFd lock, lock_path(socket_path));
  DVS_TRY(remove_stale_socket(socket_path));
  Protocol::acceptor acceptor(executor);
  DVS_TRY(listen_on(acceptor, socket_path));
  auto server = std::make_shared<Server>(executor, std::move(lock), std::move(acceptor));
  server->accept();
  return std::unique_ptr<HttpServer>(std::make_unique<ServerHandle>(std::move(server)));
}

}  // namespace dvs
