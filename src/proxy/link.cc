#include "proxy/link.h"

#include <fcntl.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "proxy/link_connection.h"
#include "proxy/link_hello.h"

namespace dvs {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxUnidentified = 64;
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);

// Tells of refused connections, a few times a second at most: anybody can knock.
class RefusalLog {
 public:
  void add(const std::string& who, const std::string& reason) {
    constexpr int kPerSecond = 5;
    const auto now = Clock::now();
    if (now - window_ >= std::chrono::seconds(1)) {
      if (count_ > kPerSecond) log::warn("{} more connections refused", count_ - kPerSecond);
      window_ = now;
      count_ = 0;
    }
    if (++count_ <= kPerSecond) log::warn("connection from {} refused: {}", who, reason);
  }

 private:
  Clock::time_point window_{};
  int count_ = 0;
};

// The state behind Links. Handlers that wait in the event loop share it, so it outlives Links, but
// after stop() it does nothing any more.
class Core final : public std::enable_shared_from_this<Core>, public LinkConnection::Handler {
 public:
  Core(Executor& executor, LinkOptions options, LinkEvents events);

  Status listen();
  void stop();
  uint16_t port() const { return port_; }

  void expect(NodeId id, std::string name, std::string address, uint16_t port);
  void forget(NodeId id);
  bool is_up(NodeId id) const;
  bool send(NodeId id, wire::FrameType type, std::string_view head, const Bytes& bulk);
  bool congested(NodeId id) const;
  void drop(NodeId id, const std::string& reason);
  void recheck();

  void on_frame(LinkConnection& connection, wire::Frame frame) override;
  void on_broken(LinkConnection& connection, const std::string& reason) override;
  void on_drained(LinkConnection& connection) override;

 private:
  struct Peer {
    Peer(Executor& executor, NodeId node) : id(node), redial(executor) {}

    NodeId id;
    std::string name;
    std::string address;
    uint16_t port = 0;
    std::shared_ptr<LinkConnection> connection;  // the link, or our attempt to make it
    bool up = false;                             // on_up was called for `connection`
    uint64_t incarnation = 0;                    // of the latest link
    std::string trouble;                         // why there is no link, as logged
    boost::asio::steady_timer redial;
  };
  struct Down {
    NodeId peer;
    std::string reason;
  };

  Peer* find(NodeId id);
  const Peer* find(NodeId id) const { return const_cast<Core*>(this)->find(id); }
  bool dials(NodeId id) const { return options_.node < id; }
  LinkConnection::Settings settings() const;

  void accept_next();
  void accept_later();
  void accepted(tcp::socket socket);
  void disown(const LinkConnection& connection);

  void dial(Peer& peer);
  void redial_later(Peer& peer);
  void send_hello(LinkConnection& connection, NodeId to);
  static Status check_subject(const tls::Subject& subject, const Peer& peer);
  Result<Hello> admit(const LinkConnection& connection, const wire::Frame& frame) const;
  void link_up(LinkConnection& connection, const Hello& hello);
  void take_down(Peer& peer, const std::string& reason);
  void report_downs();
  void note_trouble(Peer& peer, const std::string& reason);

  Executor& executor_;
  const LinkOptions options_;
  LinkEvents events_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer accept_timer_;
  uint16_t port_ = 0;
  bool stopped_ = false;

  std::unordered_map<NodeId, Peer> peers_;
  std::deque<std::shared_ptr<LinkConnection>> unidentified_;  // accepted, oldest first
  std::deque<Down> downs_;                                    // on_down still to be called
  RefusalLog refusals_;
};

Core::Core(Executor& executor, LinkOptions options, LinkEvents events)
    : executor_(executor),
      options_(std::move(options)),
      events_(std::move(events)),
      acceptor_(executor),
      accept_timer_(executor) {
  if (!events_.on_up) events_.on_up = [](NodeId) {};
  if (!events_.on_down) events_.on_down = [](NodeId, const std::string&) {};
  if (!events_.on_frame) events_.on_frame = [](NodeId, const wire::Frame&) {};
  if (!events_.on_writable) events_.on_writable = [](NodeId) {};
}

Status Core::listen() {
  error_code error;
  const auto ip = boost::asio::ip::make_address(options_.listen_address, error);
  if (error) return Error(Code::kInvalid, "bad listen address '" + options_.listen_address + "'");
  const tcp::endpoint endpoint(ip, options_.listen_port);
  acceptor_.open(endpoint.protocol(), error);
  if (!error) ::fcntl(acceptor_.native_handle(), F_SETFD, FD_CLOEXEC);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(boost::asio::socket_base::max_listen_connections, error);
  if (!error) port_ = acceptor_.local_endpoint(error).port();
  if (error) {
    const auto what =
        fmt::format("cannot listen on {}:{}", options_.listen_address, options_.listen_port);
    if (error == boost::system::errc::address_not_available) {
      return Error(Code::kInvalid, what + ": no such address on this node");
    }
    return errno_error(what, error.value());
  }
  accept_next();
  return {};
}

void Core::stop() {
  stopped_ = true;
  error_code ignored;
  acceptor_.close(ignored);
  accept_timer_.cancel();
  for (auto& [id, peer] : peers_) {
    if (peer.connection) peer.connection->close();
  }
  for (auto& connection : unidentified_) connection->close();
  peers_.clear();
  unidentified_.clear();
  downs_.clear();
}

Core::Peer* Core::find(NodeId id) {
  const auto found = peers_.find(id);
  return found == peers_.end() ? nullptr : &found->second;
}

LinkConnection::Settings Core::settings() const {
  return {.hello = options_.hello,
          .ping = options_.ping,
          .silence = options_.silence,
          .backlog = options_.backlog,
          .compress = options_.compress,
          .batch = options_.batch,
          .tls = options_.tls};
}

void Core::expect(NodeId id, std::string name, std::string address, uint16_t port) {
  DVS_CHECK(id < kMaxNodes && id != options_.node, "peer {} of node {}", id, options_.node);
  auto [found, fresh] = peers_.try_emplace(id, executor_, id);
  Peer& peer = found->second;
  peer.name = std::move(name);
  if (!fresh && peer.address == address && peer.port == port) return;
  peer.address = std::move(address);
  peer.port = port;
  if (!dials(id)) return;
  take_down(peer, "its address changed");
  dial(peer);
}

void Core::forget(NodeId id) {
  Peer* peer = find(id);
  if (peer == nullptr) return;
  take_down(*peer, "forgotten");
  peers_.erase(id);
}

bool Core::is_up(NodeId id) const {
  const Peer* peer = find(id);
  return peer != nullptr && peer->up;
}

bool Core::send(NodeId id, wire::FrameType type, std::string_view head, const Bytes& bulk) {
  Peer* peer = find(id);
  if (peer == nullptr || !peer->up) return false;
  peer->connection->send(type, head, bulk);
  return true;
}

bool Core::congested(NodeId id) const {
  const Peer* peer = find(id);
  return peer != nullptr && peer->up && peer->connection->congested();
}

void Core::drop(NodeId id, const std::string& reason) {
  Peer* peer = find(id);
  if (peer == nullptr || !peer->up) return;
  take_down(*peer, reason);
  if (dials(id)) redial_later(*peer);
}

void Core::recheck() {
  std::vector<std::pair<NodeId, std::string>> bad;
  for (auto& [id, peer] : peers_) {
    if (!peer.up) continue;
    if (const Status good = peer.connection->recheck(); !good.ok()) {
      bad.emplace_back(id, good.error().message());
    }
  }
  for (const auto& [id, reason] : bad) drop(id, reason);
}

// ---- Accepting

void Core::accept_next() {
  acceptor_.async_accept([self = shared_from_this()](const error_code& error, tcp::socket socket) {
    if (self->stopped_) return;
    if (!error) return self->accepted(std::move(socket));
    self->refusals_.add("the network", error.message());
    self->accept_later();
  });
}

// After a failure such as "too many open files", which would come back at once for ever.
void Core::accept_later() {
  accept_timer_.expires_after(kAcceptRetry);
  accept_timer_.async_wait([self = shared_from_this()](const error_code&) {
    if (!self->stopped_) self->accept_next();
  });
}

// The oldest has to go when there are too many: an honest peer says hello at once, so those that
// wait longest are the silent ones, and they cannot keep it out.
void Core::accepted(tcp::socket socket) {
  if (unidentified_.size() == kMaxUnidentified) {
    const auto oldest = unidentified_.front();
    on_broken(*oldest, "too many connections without a hello");
  }
  unidentified_.push_back(LinkConnection::accept(executor_, std::move(socket), settings(), *this));
  accept_next();
}

void Core::disown(const LinkConnection& connection) {
  std::erase_if(unidentified_, [&](const auto& item) { return item.get() == &connection; });
}

// ---- Connecting

void Core::dial(Peer& peer) {
  error_code error;
  const auto ip = boost::asio::ip::make_address(peer.address, error);
  if (error) return note_trouble(peer, "not an address");
  peer.connection =
      LinkConnection::dial(executor_, peer.id, tcp::endpoint(ip, peer.port), settings(), *this);
  send_hello(*peer.connection, peer.id);
}

void Core::redial_later(Peer& peer) {
  peer.redial.expires_after(options_.reconnect);
  peer.redial.async_wait([self = shared_from_this(), id = peer.id](const error_code& error) {
    if (error) return;
    Peer* waiting = self->find(id);
    if (waiting != nullptr && !waiting->connection) self->dial(*waiting);
  });
}

void Core::send_hello(LinkConnection& connection, NodeId to) {
  connection.send(wire::FrameType::kHello, encode_hello({.cluster = options_.cluster,
                                                         .node = options_.node,
                                                         .name = options_.name,
                                                         .incarnation = options_.incarnation,
                                                         .to = to}));
}

// ---- Up and down

Status Core::check_subject(const tls::Subject& subject, const Peer& peer) {
  const bool is_node = subject.unit == tls::kNodeUnit;
  if (is_node && subject.name == peer.name) return {};
  return Error(Code::kDenied,
               fmt::format("it says it is node {} ({}), but its certificate is {}'s{}", peer.id,
                           peer.name, to_text(Json(subject.name)), is_node ? "" : ", no node"));
}

Result<Hello> Core::admit(const LinkConnection& connection, const wire::Frame& frame) const {
  if (frame.type != wire::FrameType::kHello) {
    return Error(Code::kCorrupt, "the first frame is not a hello");
  }
  DVS_ASSIGN(Hello hello, check_hello(frame.body.view(), options_.cluster, options_.node));
  if (connection.dialled() && hello.node != *connection.dialled()) {
    return Error(Code::kDenied, fmt::format("node {} answers there", hello.node));
  }
  const Peer* peer = find(hello.node);
  if (peer == nullptr) return Error(Code::kDenied, fmt::format("unknown node {}", hello.node));
  if (const auto subject = connection.certified()) DVS_TRY(check_subject(*subject, *peer));
  if (!connection.dialled() && dials(hello.node)) {
    return Error(Code::kDenied, fmt::format("node {} should be called, not call", hello.node));
  }
  return hello;
}

// The connection's first frame was good. A link that is still up is an older one of the same peer:
// the peer noticed the break before we did.
void Core::link_up(LinkConnection& connection, const Hello& hello) {
  if (Peer* peer = find(hello.node); peer->up) {
    take_down(*peer, peer->incarnation == hello.incarnation ? "the peer connected anew"
                                                            : "the peer restarted");
  }
  report_downs();
  Peer* peer = find(hello.node);
  if (peer == nullptr || !connection.is_open()) {  // by what was called just now
    connection.close();
    return disown(connection);
  }
  if (!connection.dialled()) {
    peer->connection = connection.shared_from_this();
    disown(connection);
    send_hello(connection, peer->id);
  }
  connection.identify(peer->id);
  peer->up = true;
  peer->incarnation = hello.incarnation;
  peer->trouble.clear();
  log::info("link to node {} ({}) up", peer->id, connection.address());
  events_.on_up(peer->id);
}

void Core::take_down(Peer& peer, const std::string& reason) {
  if (peer.connection) peer.connection->close();
  peer.connection.reset();
  if (!std::exchange(peer.up, false)) return;
  log::info("link to node {} down: {}", peer.id, reason);
  peer.trouble = reason;
  downs_.push_back({peer.id, reason});
  boost::asio::post(executor_, [self = shared_from_this()] { self->report_downs(); });
}

void Core::report_downs() {
  while (!downs_.empty()) {
    const Down down = std::move(downs_.front());
    downs_.pop_front();
    events_.on_down(down.peer, down.reason);
  }
}

void Core::note_trouble(Peer& peer, const std::string& reason) {
  if (peer.trouble == reason) return;
  peer.trouble = reason;
  log::warn("no link to node {} at {}:{}: {}", peer.id, peer.address, peer.port, reason);
}

// ---- What connections tell

void Core::on_frame(LinkConnection& connection, wire::Frame frame) {
  const auto self = shared_from_this();  // the callbacks may destroy Links
  if (!connection.peer()) {
    const auto hello = admit(connection, frame);
    if (!hello.ok()) return on_broken(connection, hello.error().message());
    return link_up(connection, *hello);
  }
  if (frame.type == wire::FrameType::kPing) return;
  if (frame.type == wire::FrameType::kHello) return on_broken(connection, "a second hello");
  events_.on_frame(*connection.peer(), std::move(frame));
}

void Core::on_broken(LinkConnection& connection, const std::string& reason) {
  connection.close();
  const auto id = connection.peer() ? connection.peer() : connection.dialled();
  if (!id) {
    refusals_.add(connection.address(), reason);
    return disown(connection);
  }
  Peer& peer = *find(*id);
  if (!peer.up) note_trouble(peer, reason);
  take_down(peer, reason);
  if (dials(peer.id)) redial_later(peer);
}

void Core::on_drained(LinkConnection& connection) {
  const auto self = shared_from_this();
  events_.on_writable(*connection.peer());
}

// ---- The face

class LinksImpl : public Links {
 public:
  explicit LinksImpl(std::shared_ptr<Core> core) : core_(std::move(core)) {}
  ~LinksImpl() override { core_->stop(); }

  uint16_t port() const override { return core_->port(); }
  void expect(NodeId peer, std::string name, std::string address, uint16_t port) override {
    core_->expect(peer, std::move(name), std::move(address), port);
  }
  void forget(NodeId peer) override { core_->forget(peer); }
  bool is_up(NodeId peer) const override { return core_->is_up(peer); }
  bool send(NodeId peer, wire::FrameType type, std::string_view head, const Bytes& bulk) override {
    return core_->send(peer, type, head, bulk);
  }
  bool congested(NodeId peer) const override { return core_->congested(peer); }
  void drop(NodeId peer, const std::string& reason) override { core_->drop(peer, reason); }
  void recheck() override { core_->recheck(); }

 private:
  std::shared_ptr<Core> core_;
};

}  // namespace

Result<std::unique_ptr<Links>> open_links(Executor& executor, LinkOptions options,
                                          LinkEvents events) {
  auto core = std::make_shared<Core>(executor, std::move(options), std::move(events));
  DVS_TRY(core->listen());
  return std::unique_ptr<Links>(std::make_unique<LinksImpl>(std::move(core)));
}

}  // namespace dvs
