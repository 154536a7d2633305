#include "proxy/link_connection.h"

#include <fcntl.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "base/check.h"
#include "proxy/link_hello.h"

namespace dvs {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReceiveBuffer = 256u << 10;
constexpr size_t kCongested = 1u << 20;

std::string describe(const tcp::endpoint& endpoint) {
  std::ostringstream text;
  text << endpoint;
  return text.str();
}

// Asio does not do it: without this, programs that dvsd starts would keep its links open.
void close_on_exec(tcp::socket& socket) { ::fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC); }

std::string why(const error_code& error) {
  return error == boost::asio::error::eof ? "closed by the peer" : error.message();
}

}  // namespace

LinkConnection::LinkConnection(Executor& executor, tcp::socket socket,
                               std::optional<NodeId> dialled, Timing timing, Handler& handler)
    : timing_(timing),
      handler_(handler),
      socket_(std::move(socket)),
      timer_(executor),
      dialled_(dialled),
      reader_(dialled ? wire::kMaxBody : kMaxHello),
      received_(std::make_unique_for_overwrite<char[]>(kReceiveBuffer)) {}

std::shared_ptr<LinkConnection> LinkConnection::dial(Executor& executor, NodeId to,
                                                     const tcp::endpoint& address, Timing timing,
                                                     Handler& handler) {
  std::shared_ptr<LinkConnection> connection(
      new LinkConnection(executor, tcp::socket(executor), to, timing, handler));
  connection->address_ = describe(address);
  connection->arm(connection->born_ + timing.hello);
  connection->connect(address);
  return connection;
}

std::shared_ptr<LinkConnection> LinkConnection::accept(Executor& executor, tcp::socket socket,
                                                       Timing timing, Handler& handler) {
  std::shared_ptr<LinkConnection> connection(
      new LinkConnection(executor, std::move(socket), std::nullopt, timing, handler));
  close_on_exec(connection->socket_);
  error_code ignored;
  connection->address_ = describe(connection->socket_.remote_endpoint(ignored));
  connection->arm(connection->born_ + timing.hello);
  connection->start();
  return connection;
}

void LinkConnection::connect(const tcp::endpoint& address) {
  socket_.async_connect(address, [self = shared_from_this()](const error_code& error) {
    if (!self->open_) return;
    if (error) return self->broken("cannot connect: " + why(error));
    self->start();
    if (!self->queued_.empty()) self->write();
  });
  close_on_exec(socket_);  // async_connect has opened it
}

void LinkConnection::start() {
  started_ = true;
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  read();
}

void LinkConnection::identify(NodeId peer) {
  DVS_CHECK(!peer_.has_value());
  peer_ = peer;
  reader_.set_max_body(wire::kMaxBody);
  arm(Clock::now() + std::min(timing_.ping, timing_.silence));
}

void LinkConnection::close() {
  open_ = false;
  timer_.cancel();
  error_code ignored;
  socket_.close(ignored);
}

void LinkConnection::broken(const std::string& reason) {
  close();
  handler_.on_broken(*this, reason);
}

void LinkConnection::read() {
  socket_.async_read_some(boost::asio::buffer(received_.get(), kReceiveBuffer),
                          [self = shared_from_this()](const error_code& error, size_t count) {
                            if (!self->open_) return;
                            if (error) return self->broken(why(error));
                            self->received(count);
                          });
}

void LinkConnection::received(size_t count) {
  heard_ = Clock::now();
  std::vector<wire::Frame> frames;
  const Status status = reader_.feed({received_.get(), count}, frames);
  for (auto& frame : frames) {
    handler_.on_frame(*this, std::move(frame));
    if (!open_) return;
  }
  if (!status.ok()) return broken(status.error().message());
  read();
}

void LinkConnection::send(wire::FrameType type, std::string_view body) {
  DVS_CHECK(open_);
  wire::append_frame(queued_, type, body);
  spoke_ = Clock::now();
  if (backlog() > kCongested) congested_ = true;
  if (started_ && writing_.empty()) write();
}

// Asio tries the system call at once, inside async_write_some: on an idle connection the frame is
// in the kernel when send() returns. What is sent until the completion has come back through the
// event loop is gathered and goes out in one call.
void LinkConnection::write() {
  if (writing_.empty()) std::swap(writing_, queued_);
  socket_.async_write_some(
      boost::asio::buffer(writing_.data() + written_, writing_.size() - written_),
      [self = shared_from_this()](const error_code& error, size_t count) {
        if (!self->open_) return;
        if (error) return self->broken("cannot send: " + why(error));
        self->written(count);
      });
}

void LinkConnection::written(size_t count) {
  written_ += count;
  if (written_ == writing_.size()) {
    writing_.clear();
    written_ = 0;
  }
  if (backlog() > 0) write();
  if (congested_ && backlog() < kCongested / 2) {
    congested_ = false;
    handler_.on_drained(*this);
  }
}

void LinkConnection::arm(Clock::time_point when) {
  timer_.expires_at(when);
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error && self->open_) self->tick();
  });
}

void LinkConnection::tick() {
  const auto now = Clock::now();
  if (peer_) return tick_identified(now);
  broken(started_ ? fmt::format("no hello within {} ms", timing_.hello.count())
                  : fmt::format("cannot connect within {} ms", timing_.hello.count()));
}

// When it was our own process that stood still, the peer's bytes are waiting, and asio hands out
// what sockets have before the timers that are due: they have been heard by now.
void LinkConnection::tick_identified(Clock::time_point now) {
  if (now - heard_ >= timing_.silence) {
    return broken(fmt::format("silent for {} ms", timing_.silence.count()));
  }
  if (now - spoke_ >= timing_.ping) {
    spoke_ = now;
    if (backlog() == 0) send(wire::FrameType::kPing, {});
  }
  arm(std::min(heard_ + timing_.silence, spoke_ + timing_.ping));
}

}  // namespace dvs
