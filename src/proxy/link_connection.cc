#include "proxy/link_connection.h"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "base/check.h"
#include "proxy/link_hello.h"
#include "wire/compression.h"

namespace dvs {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;

constexpr size_t kReceiveBuffer = 32u << 10;  // (what is larger is received in place)
constexpr size_t kMuch = 64u << 10;           // that gathering more before a write gains nothing
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
                               std::optional<NodeId> dialled, Settings settings, Handler& handler)
    : settings_(settings),
      handler_(handler),
      socket_(std::move(socket)),
      timer_(executor),
      dialled_(dialled),
      reader_(dialled ? wire::kMaxBody : kMaxHello),
      received_(std::make_unique_for_overwrite<char[]>(kReceiveBuffer)) {}

std::shared_ptr<LinkConnection> LinkConnection::dial(Executor& executor, NodeId to,
                                                     const tcp::endpoint& address,
                                                     Settings settings, Handler& handler) {
  std::shared_ptr<LinkConnection> connection(
      new LinkConnection(executor, tcp::socket(executor), to, settings, handler));
  connection->address_ = describe(address);
  connection->arm(connection->born_ + settings.hello);
  connection->connect(address);
  return connection;
}

std::shared_ptr<LinkConnection> LinkConnection::accept(Executor& executor, tcp::socket socket,
                                                       Settings settings, Handler& handler) {
  std::shared_ptr<LinkConnection> connection(
      new LinkConnection(executor, std::move(socket), std::nullopt, settings, handler));
  close_on_exec(connection->socket_);
  error_code ignored;
  connection->address_ = describe(connection->socket_.remote_endpoint(ignored));
  connection->arm(connection->born_ + settings.hello);
  connection->start();
  return connection;
}

void LinkConnection::connect(const tcp::endpoint& address) {
  socket_.async_connect(address, [self = shared_from_this()](const error_code& error) {
    if (!self->open_) return;
    if (error) return self->broken("cannot connect: " + why(error));
    self->start();
  });
  close_on_exec(socket_);  // async_connect has opened it
}

void LinkConnection::start() {
  error_code ignored;
  socket_.set_option(tcp::no_delay(true), ignored);
  socket_.non_blocking(true, ignored);
  socket_.native_non_blocking(true, ignored);
  const auto next =
      settings_.tls == nullptr ? &LinkConnection::ready : &LinkConnection::shake_hands;
  if (settings_.tls != nullptr) {
    tls_ = settings_.tls->session(socket_.native_handle(), !dialled_.has_value());
  }
  boost::asio::post(socket_.get_executor(), [self = shared_from_this(), next] {
    if (self->open_) (*self.*next)();
  });
}

void LinkConnection::shake_hands() {
  const auto step = tls_->handshake();
  if (!step.ok()) return broken(step.error().message());
  if (*step == tls::Session::Step::kDone) return ready();
  const auto what =
      *step == tls::Session::Step::kWantsToRead ? tcp::socket::wait_read : tcp::socket::wait_write;
  socket_.async_wait(what, [self = shared_from_this()](const error_code&) {
    if (self->open_) self->shake_hands();
  });
}

void LinkConnection::ready() {
  started_ = true;
  read();
  write();
}

std::optional<tls::Subject> LinkConnection::certified() const {
  if (tls_ == nullptr) return std::nullopt;
  return tls_->peer();
}

void LinkConnection::identify(NodeId peer) {
  DVS_CHECK(!peer_.has_value());
  peer_ = peer;
  reader_.set_max_body(wire::kMaxBody);
  arm(Clock::now() + std::min(settings_.ping, settings_.silence));
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
  if (tls_ != nullptr) return read_sealed();
  const auto lacking = reader_.lacking();
  const std::array<boost::asio::mutable_buffer, 2> room = {
      boost::asio::buffer(lacking.data(), lacking.size()),
      boost::asio::buffer(received_.get(), kReceiveBuffer)};
  socket_.async_read_some(room, [self = shared_from_this()](const error_code& error, size_t count) {
    if (!self->open_) return;
    if (error) return self->broken(why(error));
    if (self->received(count)) self->read();
  });
}

// A record at a time, others of the event loop between them. OpenSSL may have more than the socket
// shows.
void LinkConnection::read_sealed() {
  const auto lacking = reader_.lacking();
  const std::span<char> room =
      lacking.empty() ? std::span(received_.get(), kReceiveBuffer) : lacking;
  const auto count = tls_->read(room);
  if (!count.ok()) return broken(count.error().message());
  const auto again = [self = shared_from_this()](const error_code& = {}) {
    if (self->open_) self->read_sealed();
  };
  if (*count == 0) return socket_.async_wait(tcp::socket::wait_read, again);
  if (received(*count)) boost::asio::post(socket_.get_executor(), again);
}

// What came, first in the reader's own room. False: this was the end.
bool LinkConnection::received(size_t count) {
  heard_ = Clock::now();
  std::vector<wire::Frame> frames;
  const size_t in_place = std::min(count, reader_.lacking().size());
  Status status;
  if (in_place != 0) status = reader_.received(in_place, frames);
  if (status.ok()) status = reader_.feed({received_.get(), count - in_place}, frames);
  for (auto& frame : frames) {
    handler_.on_frame(*this, std::move(frame));
    if (!open_) return false;
  }
  if (!status.ok()) broken(status.error().message());
  return open_;
}

void LinkConnection::send(wire::FrameType type, std::string_view head, const Bytes& bulk) {
  DVS_CHECK(open_);
  if (backlog_ > settings_.backlog) return overrun();
  if (backlog_ == 0) taken_ = Clock::now();
  const auto packed =
      settings_.compress ? wire::compress(head, bulk.view()) : std::optional<wire::Compressed>();
  if (packed) {
    append(type, packed->head, packed->bulk, wire::kCompressed);
  } else {
    append(type, head, bulk, 0);
  }
  spoke_ = Clock::now();
  const bool gather = settings_.batch && backlog_ < kMuch;
  const bool at_once = !writing_ || (!gather && !full_);
  if (started_ && at_once) (void)write_some();  // (an error comes again)
  if (started_ && !writing_) write_soon();
  if (backlog_ > kCongested) congested_ = true;
}

// A peer that takes less than there is for it must not cost the memory of this node. The handler is
// told later, since it is the one that sends; until then nothing more is queued.
void LinkConnection::overrun() {
  boost::asio::post(socket_.get_executor(), [self = shared_from_this()] {
    if (!self->open_) return;
    self->broken(fmt::format("{} MiB wait for the peer", self->backlog_ >> 20));
  });
}

void LinkConnection::append(wire::FrameType type, std::string_view head, const Bytes& bulk,
                            uint16_t flags) {
  if (queue_.empty() || !queue_.back().bulk.empty()) queue_.emplace_back();
  Piece& piece = queue_.back();
  const size_t before = piece.size();
  wire::append_frame_up_to(piece.text, type, head, bulk.view(), flags);
  piece.bulk = bulk;
  backlog_ += piece.size() - before;
}

void LinkConnection::write_soon() {
  writing_ = true;
  boost::asio::post(socket_.get_executor(), [self = shared_from_this()] { self->write(); });
}

void LinkConnection::write() {
  if (!open_) return;
  writing_ = true;
  error_code error;
  while (backlog_ > 0 && !error) error = write_some();
  if (error == boost::asio::error::would_block) {
    socket_.async_wait(tcp::socket::wait_write,
                       [self = shared_from_this()](const error_code&) { self->write(); });
  } else if (error) {
    return broken("cannot send: " + why(error));
  } else {
    writing_ = false;
  }
  if (congested_ && backlog_ < kCongested / 2) {
    congested_ = false;
    handler_.on_drained(*this);
  }
}

error_code LinkConnection::write_some() {
  constexpr size_t kPieces = 16;
  std::array<boost::asio::const_buffer, 2 * kPieces> buffers;
  size_t skip = written_;
  for (size_t i = 0; i < std::min(kPieces, queue_.size()); ++i) {
    const Piece& piece = queue_[i];
    const auto text = boost::asio::buffer(piece.text);
    buffers[2 * i] = text + skip;
    buffers[2 * i + 1] =
        boost::asio::buffer(piece.bulk.view()) + (skip - std::min(skip, text.size()));
    skip = 0;
  }
  error_code error;
  const size_t count =
      tls_ == nullptr ? socket_.write_some(buffers, error) : write_sealed(buffers, error);
  full_ = error == boost::asio::error::would_block;
  if (count > 0) taken_ = Clock::now();
  backlog_ -= count;
  written_ += count;
  while (!queue_.empty() && written_ >= queue_.front().size()) {
    written_ -= queue_.front().size();
    queue_.pop_front();
  }
  return error;
}

template <typename Buffers>
size_t LinkConnection::write_sealed(const Buffers& buffers, error_code& error) {
  size_t total = 0;
  for (const auto& buffer : buffers) {
    for (size_t done = 0; done < buffer.size();) {
      const std::span from(static_cast<const char*>(buffer.data()) + done, buffer.size() - done);
      const auto count = tls_->write(from);
      if (!count.ok() || *count == 0) {
        error = count.ok() ? boost::asio::error::would_block : boost::asio::error::broken_pipe;
        return total;
      }
      done += *count;
      total += *count;
    }
  }
  return total;
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
  const char* what = started_          ? "no hello"
                     : tls_ == nullptr ? "cannot connect"
                                       : "no TLS handshake";
  broken(fmt::format("{} within {} ms", what, settings_.hello.count()));
}

// When it was our own process that stood still, the peer's bytes are waiting, and asio hands out
// what sockets have before the timers that are due: they have been heard by now.
void LinkConnection::tick_identified(Clock::time_point now) {
  if (now - heard_ >= settings_.silence) {
    return broken(fmt::format("silent for {} ms", settings_.silence.count()));
  }
  if (backlog_ > 0 && now - taken_ >= settings_.silence) {
    return broken(fmt::format("takes nothing for {} ms", settings_.silence.count()));
  }
  if (now - spoke_ >= settings_.ping) {
    spoke_ = now;
    if (backlog_ == 0) send(wire::FrameType::kPing, {});
  }
  const auto patience = std::min(heard_, backlog_ > 0 ? taken_ : now) + settings_.silence;
  arm(std::min(patience, spoke_ + settings_.ping));
}

}  // namespace dvs
