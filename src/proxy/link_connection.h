// One TCP connection that carries frames: its send queue, its reader, its keep-alive. Who may
// be at the other end, and what becomes of a frame, is decided by its Handler, link.cc. Internal to
// proxy/.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/executor.h"
#include "base/ids.h"
#include "tls/session.h"
#include "wire/frame.h"

namespace dvs {

class LinkConnection : public std::enable_shared_from_this<LinkConnection> {
 public:
  // Called from the event loop only, never from inside a call to the connection, and never again
  // once it is closed. Each may do anything to the connection, also close() it.
  class Handler {
   public:
    virtual void on_frame(LinkConnection& connection, wire::Frame frame) = 0;
    // It broke, or its peer broke the rules; it is closed now.
    virtual void on_broken(LinkConnection& connection, const std::string& reason) = 0;
    virtual void on_drained(LinkConnection& connection) = 0;  // see LinkEvents::on_writable

   protected:
    ~Handler() = default;
  };
  struct Settings {
    std::chrono::milliseconds hello;  // to connect and to be identified
    std::chrono::milliseconds ping;
    std::chrono::milliseconds silence;
    size_t backlog;
    bool compress;  // see LinkOptions
    bool batch;
    std::shared_ptr<tls::Identity> tls;  // none: plain
  };

  // Starts to connect to node `to`. Frames may be sent at once: they wait for the connection.
  static std::shared_ptr<LinkConnection> dial(Executor& executor, NodeId to,
                                              const boost::asio::ip::tcp::endpoint& address,
                                              Settings settings, Handler& handler);
  // Takes over an accepted connection. Until identify() it accepts only small frames.
  static std::shared_ptr<LinkConnection> accept(Executor& executor,
                                                boost::asio::ip::tcp::socket socket,
                                                Settings settings, Handler& handler);

  // The peer has proved who it is: from now on silence counts, not the time since the start.
  void identify(NodeId peer);
  std::optional<NodeId> peer() const { return peer_; }
  std::optional<NodeId> dialled() const { return dialled_; }  // none: accepted
  // What the peer's certificate says; none: without TLS. REQUIRES: a frame has come.
  std::optional<tls::Subject> certified() const;
  // Whether the peer's certificate would still do. REQUIRES: a frame has come.
  Status recheck() const { return tls_ == nullptr ? Status() : tls_->recheck(); }

  // Sends a frame whose body is `head`, then `bulk`. On an idle connection it is in the kernel on
  // return; what is sent from then on goes out together, when the event loop comes round.
  // REQUIRES: is_open().
  void send(wire::FrameType type, std::string_view head, const Bytes& bulk = {});
  bool congested() const { return congested_; }

  bool is_open() const { return open_; }
  void close();                                            // idempotent; no event comes after
  const std::string& address() const { return address_; }  // of the peer, for messages

 private:
  using Clock = std::chrono::steady_clock;

  LinkConnection(Executor& executor, boost::asio::ip::tcp::socket socket,
                 std::optional<NodeId> dialled, Settings settings, Handler& handler);
  void connect(const boost::asio::ip::tcp::endpoint& address);
  void start();
  void shake_hands();
  void ready();
  void read();
  void read_sealed();
  bool received(size_t count);
  void append(wire::FrameType type, std::string_view head, const Bytes& bulk, uint16_t flags);
  void write_soon();
  void write();
  boost::system::error_code write_some();
  template <typename Buffers>
  size_t write_sealed(const Buffers& buffers, boost::system::error_code& error);
  void arm(Clock::time_point when);
  void tick();
  void tick_identified(Clock::time_point now);
  void broken(const std::string& reason);
  void overrun();

  const Settings settings_;
  Handler& handler_;
  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer timer_;
  std::string address_;
  const std::optional<NodeId> dialled_;
  std::optional<NodeId> peer_;
  bool open_ = true;
  bool started_ = false;  // connected, and frames may travel
  std::unique_ptr<tls::Session> tls_;

  wire::FrameReader reader_;
  std::unique_ptr<char[]> received_;

  // Frames, the last one's bulk apart.
  struct Piece {
    std::string text;
    Bytes bulk;
    size_t size() const { return text.size() + bulk.size(); }
  };
  std::deque<Piece> queue_;
  size_t written_ = 0;    // bytes of the first piece that are in the kernel
  size_t backlog_ = 0;    // bytes that are not
  bool writing_ = false;  // write() will come
  bool full_ = false;     // the kernel takes no more for now
  bool congested_ = false;

  const Clock::time_point born_ = Clock::now();
  Clock::time_point heard_ = born_;  // bytes came
  Clock::time_point spoke_ = born_;  // a frame was sent
  Clock::time_point taken_ = born_;  // the peer took bytes, or there were none for it
};

}  // namespace dvs
