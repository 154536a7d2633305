#include "directory/etcd_watch.h"

#include <netinet/tcp.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "directory/etcd_json.h"
#include "directory/etcd_stream.h"

namespace dvs {
namespace {

namespace beast = boost::beast;
namespace http = boost::beast::http;

constexpr std::chrono::milliseconds kReconnectDelay{100};
constexpr size_t kMaxLineSize = 64 << 20;

// A watch is silent for hours when nothing changes: only the kernel's probes tell a server that
// is gone without a word (within 5 + 3 * 2 s) from one with nothing to say.
void probe_peer(boost::asio::ip::tcp::socket& socket) {
  using boost::asio::detail::socket_option::integer;
  boost::system::error_code ignored;  // a watch works without, it only notices later
  socket.set_option(boost::asio::socket_base::keep_alive(true), ignored);
  socket.set_option(integer<IPPROTO_TCP, TCP_KEEPIDLE>(5), ignored);
  socket.set_option(integer<IPPROTO_TCP, TCP_KEEPINTVL>(2), ignored);
  socket.set_option(integer<IPPROTO_TCP, TCP_KEEPCNT>(3), ignored);
}

// connect -> send -> receive_header -> receive -> receive ...; any failure: retry -> connect.
// One operation is under way at a time, so one connection's objects can be replaced in connect().
class WatchSession final : public EtcdWatch, public std::enable_shared_from_this<WatchSession> {
 public:
  WatchSession(Executor& executor, WatchOptions options)
      : executor_(executor),
        options_(std::move(options)),
        next_revision_(options_.revision + 1),
        retry_timer_(executor) {}

  void connect();
  void stop() override;

 private:
  using Failure = boost::system::error_code;

  void send();
  void receive_header();
  void on_header();
  void receive();
  void on_received();
  void on_line(std::string_view line);
  void on_update(etcd::WatchUpdate update);
  void deliver(std::vector<WatchEvent> events);
  void on_canceled(const etcd::WatchUpdate& update);
  void retry(const std::string& reason);
  void lose(Error error);

  // A completion handler that calls `next`, or tries again when the operation failed.
  auto then(void (WatchSession::*next)()) {
    return [self = shared_from_this(), next](Failure failed, auto...) {
      if (self->stopped_) return;
      if (failed) return self->retry(failed.message());
      (*self.*next)();
    };
  }

  Executor& executor_;
  const WatchOptions options_;
  int64_t next_revision_;  // all before it were delivered, or do not concern this prefix
  size_t endpoint_ = 0;
  bool stopped_ = false;
  bool complained_ = false;  // this outage has been logged
  boost::asio::steady_timer retry_timer_;
  std::optional<EtcdStream> stream_;
  beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  std::optional<http::response_parser<http::string_body>> parser_;
  std::string line_;  // the beginning of a line whose end has not arrived
};

void WatchSession::connect() {
  stream_.emplace(executor_);
  stream_->tcp().expires_after(options_.connect_timeout);
  stream_->async_connect(options_.endpoints[endpoint_], then(&WatchSession::send));
}

void WatchSession::stop() {
  stopped_ = true;
  retry_timer_.cancel();
  if (stream_) stream_->tcp().close();
}

void WatchSession::send() {
  probe_peer(stream_->socket());
  request_ = {http::verb::post, "/v3/watch", 11,
              etcd::encode_watch(options_.prefix, next_revision_)};
  request_.set(http::field::host, options_.endpoints[endpoint_].authority);
  request_.set(http::field::content_type, "application/json");
  // Makes a member that loses its leader end the watch instead of falling silent.
  request_.set("Grpc-Metadata-hasleader", "true");
  request_.prepare_payload();
  http::async_write(*stream_, request_, then(&WatchSession::receive_header));
}

void WatchSession::receive_header() {
  buffer_.clear();
  line_.clear();
  parser_.emplace();
  parser_->body_limit(boost::none);
  http::async_read_header(*stream_, buffer_, *parser_, then(&WatchSession::on_header));
}

void WatchSession::on_header() {
  if (parser_->get().result() != http::status::ok) {
    return retry("HTTP status " + std::to_string(parser_->get().result_int()));
  }
  stream_->tcp().expires_never();
  receive();
}

// Not `eager`: an eager parser keeps a chunk to itself until the head of the next one arrives.
void WatchSession::receive() {
  http::async_read_some(*stream_, buffer_, *parser_, then(&WatchSession::on_received));
}

void WatchSession::on_received() {
  std::string& body = parser_->get().body();
  const std::string arrived = std::exchange(body, {});
  size_t begin = 0;
  for (size_t end; (end = arrived.find('\n', begin)) != std::string::npos; begin = end + 1) {
    line_.append(arrived, begin, end - begin);
    on_line(std::exchange(line_, {}));
    if (stopped_ || !stream_->socket().is_open()) return;
  }
  line_.append(arrived, begin);
  if (line_.size() > kMaxLineSize) {
    return lose(Error(Code::kCorrupt, "etcd's answer to a watch is too long"));
  }
  if (parser_->is_done()) return retry("the answer has ended");
  receive();
}

void WatchSession::on_line(std::string_view line) {
  if (line.empty()) return;
  auto update = etcd::decode_watch_update(line);
  if (!update.ok()) return retry(update.error().message());
  on_update(std::move(*update));
}

void WatchSession::on_update(etcd::WatchUpdate update) {
  if (update.canceled) return on_canceled(update);
  if (update.created) {
    if (complained_) log::info("the watch on '{}' goes on", options_.prefix);
    complained_ = false;
    return;  // its revision says nothing about events: older ones may follow
  }
  if (!update.events.empty()) return deliver(std::move(update.events));
  // A sign of life: nothing under the prefix up to this revision is still to come. (It may be an
  // old one, from a member that lags behind.)
  next_revision_ = std::max(next_revision_, update.revision + 1);
}

void WatchSession::deliver(std::vector<WatchEvent> events) {
  auto begin = events.begin();
  while (begin != events.end() && !stopped_) {
    const int64_t revision = begin->kv.mod_revision;
    const auto end = std::find_if(begin, events.end(), [&](const WatchEvent& event) {
      return event.kv.mod_revision != revision;
    });
    std::vector<WatchEvent> batch(std::make_move_iterator(begin), std::make_move_iterator(end));
    begin = end;
    if (revision < next_revision_) continue;
    next_revision_ = revision + 1;
    options_.on_events(revision, std::move(batch));
  }
}

void WatchSession::on_canceled(const etcd::WatchUpdate& update) {
  if (update.compact_revision == 0) return retry("etcd canceled it");
  lose(Error(Code::kNotFound, "the changes of '" + options_.prefix + "' since revision " +
                                  std::to_string(next_revision_) +
                                  " were compacted away, up to revision " +
                                  std::to_string(update.compact_revision)));
}

void WatchSession::retry(const std::string& reason) {
  stream_->tcp().close();
  const auto level = std::exchange(complained_, true) ? spdlog::level::debug : spdlog::level::warn;
  spdlog::log(level, "the watch on '{}' lost etcd at {} and tries again: {}", options_.prefix,
              options_.endpoints[endpoint_].authority, reason);
  endpoint_ = (endpoint_ + 1) % options_.endpoints.size();
  retry_timer_.expires_after(kReconnectDelay);
  retry_timer_.async_wait(then(&WatchSession::connect));
}

void WatchSession::lose(Error error) {
  stop();
  options_.on_lost(std::move(error));
}

}  // namespace

std::shared_ptr<EtcdWatch> EtcdWatch::start(Executor& executor, WatchOptions options) {
  DVS_CHECK(!options.endpoints.empty());
  DVS_CHECK(options.revision >= 0, "revision {}", options.revision);
  auto session = std::make_shared<WatchSession>(executor, std::move(options));
  session->connect();
  return session;
}

}  // namespace dvs
