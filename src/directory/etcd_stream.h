// A connection to etcd, plain or inside TLS: what beast reads from and writes to. Internal to
// directory/.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "base/executor.h"
#include "directory/endpoint.h"

namespace dvs {

class EtcdStream {
 public:
  using Tcp = boost::beast::tcp_stream;
  using Failure = boost::system::error_code;
  using executor_type = Tcp::executor_type;

  explicit EtcdStream(Executor& executor) : tcp_(executor) {}
  EtcdStream(const EtcdStream&) = delete;
  EtcdStream& operator=(const EtcdStream&) = delete;

  // Connects, and shakes hands if the endpoint wants TLS: with a server whose certificate names
  // the endpoint's host. To be called once. `done` keeps the stream alive.
  void async_connect(const Endpoint& endpoint, std::function<void(Failure)> done);

  // Of the TCP connection below; see beast::tcp_stream.
  Tcp& tcp() { return tcp_; }
  boost::asio::ip::tcp::socket& socket() { return tcp_.socket(); }

  executor_type get_executor() { return tcp_.get_executor(); }
  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    tls_ ? tls_->async_read_some(buffers, std::forward<Handler>(handler))
         : tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    tls_ ? tls_->async_write_some(buffers, std::forward<Handler>(handler))
         : tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  Tcp tcp_;
  std::optional<boost::asio::ssl::stream<Tcp&>> tls_;
};

}  // namespace dvs
