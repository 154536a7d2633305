#include <algorithm>

#include "directory/etcd_json.h"
#include "directory/etcd_watch.h"
#include "directory/http_pool.h"
#include "directory/store.h"
#include "tls/client.h"

namespace dvs {
namespace {

// Turns the raw answer into what the caller waits for.
template <typename T>
Done<HttpAnswer> decoding(Result<T> (*decode)(const Json&), Done<T> done) {
  return [decode, done = std::move(done)](Result<HttpAnswer> answer) {
    if (!answer.ok()) return done(answer.error());
    auto json = etcd::parse_answer(answer->status, answer->body);
    if (!json.ok()) return done(json.error());
    done(decode(*json));
  };
}

Result<bool> decode_revoked(const Json&) { return true; }

class WatchHandle final : public Store::Watch {
 public:
  explicit WatchHandle(std::shared_ptr<EtcdWatch> watch) : watch_(std::move(watch)) {}
  ~WatchHandle() override { watch_->stop(); }

 private:
  std::shared_ptr<EtcdWatch> watch_;
};

class EtcdStore final : public Store {
 public:
  EtcdStore(Executor& executor, std::vector<Endpoint> endpoints, std::chrono::milliseconds timeout)
      : executor_(executor),
        endpoints_(std::move(endpoints)),
        timeout_(timeout),
        pool_(std::make_shared<HttpPool>(executor, endpoints_, timeout)) {}

  ~EtcdStore() override {
    for (const auto& weak : watches_) {
      if (const auto watch = weak.lock()) watch->stop();
    }
    pool_->close();
  }

  void txn(std::vector<Compare> compares, std::vector<Change> changes,
           Done<TxnResult> done) override {
    pool_->post("/v3/kv/txn", etcd::encode_txn(compares, changes), Repeat::kNever,
                decoding(etcd::decode_txn, std::move(done)));
  }

  void range(std::string prefix, Done<RangeResult> done) override {
    pool_->post("/v3/kv/range", etcd::encode_range(prefix), Repeat::kOnce,
                decoding(etcd::decode_range, std::move(done)));
  }

  // Repeating it may leave a lease that nobody knows: it ends by itself.
  void grant_lease(std::chrono::seconds ttl, Done<int64_t> done) override {
    pool_->post("/v3/lease/grant", etcd::encode_lease_grant(ttl), Repeat::kOnce,
                decoding(etcd::decode_lease_grant, std::move(done)));
  }

  void keep_alive(int64_t lease, Done<std::chrono::seconds> done) override {
    pool_->post("/v3/lease/keepalive", etcd::encode_lease(lease), Repeat::kOnce,
                decoding(etcd::decode_keep_alive, std::move(done)));
  }

  void revoke_lease(int64_t lease, Done<bool> done) override {
    auto unless_gone = [done = std::move(done)](Result<bool> revoked) {
      if (!revoked.ok() && revoked.error().code() == Code::kNotFound) return done(false);
      done(std::move(revoked));
    };
    pool_->post("/v3/lease/revoke", etcd::encode_lease(lease), Repeat::kOnce,
                decoding<bool>(decode_revoked, std::move(unless_gone)));
  }

  std::unique_ptr<Watch> watch(
      std::string prefix, int64_t revision,
      std::function<void(int64_t revision, std::vector<WatchEvent>)> on_events,
      std::function<void(Error)> on_lost) override {
    std::erase_if(watches_, [](const auto& weak) { return weak.expired(); });
    auto started = EtcdWatch::start(executor_, {endpoints_, std::move(prefix), revision, timeout_,
                                                std::move(on_events), std::move(on_lost)});
    watches_.push_back(started);
    return std::make_unique<WatchHandle>(std::move(started));
  }

 private:
  Executor& executor_;
  const std::vector<Endpoint> endpoints_;
  const std::chrono::milliseconds timeout_;
  std::shared_ptr<HttpPool> pool_;
  std::vector<std::weak_ptr<EtcdWatch>> watches_;
};

}  // namespace

Result<std::unique_ptr<Store>> open_etcd(Executor& executor, EtcdOptions options) {
  std::vector<Endpoint> endpoints;
  std::shared_ptr<boost::asio::ssl::context> tls;
  for (const std::string& url : options.endpoints) {
    DVS_ASSIGN(auto resolved, resolve_endpoint(executor, url));
    if (wants_tls(url) && tls == nullptr) {
      DVS_ASSIGN(auto* const context, tls::client_context(options.tls));
      tls = std::make_shared<boost::asio::ssl::context>(context);
    }
    if (!wants_tls(url) && !options.tls.empty()) {
      return Error(Code::kInvalid, url + " is not https, but there are certificates for etcd");
    }
    for (Endpoint& endpoint : resolved) endpoint.tls = wants_tls(url) ? tls : nullptr;
    endpoints.insert(endpoints.end(), resolved.begin(), resolved.end());
  }
  if (endpoints.empty()) return Error(Code::kInvalid, "no etcd endpoint is given");
  return std::unique_ptr<Store>(
      std::make_unique<EtcdStore>(executor, std::move(endpoints), options.request_timeout));
}

}  // namespace dvs
