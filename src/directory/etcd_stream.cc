#include "directory/etcd_stream.h"

#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <boost/asio/ip/address.hpp>

namespace dvs {
namespace {

// Whom the server's certificate must name.
bool expect_host(SSL* ssl, const std::string& host) {
  boost::system::error_code failed;
  (void)boost::asio::ip::make_address(host, failed);
  if (!failed) return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host.c_str()) == 1;
  return SSL_set_tlsext_host_name(ssl, host.c_str()) == 1 && SSL_set1_host(ssl, host.c_str()) == 1;
}

}  // namespace

void EtcdStream::async_connect(const Endpoint& endpoint, std::function<void(Failure)> done) {
  if (endpoint.tls != nullptr) {
    tls_.emplace(tcp_, *endpoint.tls);
    if (!expect_host(tls_->native_handle(), endpoint.host)) {
      return boost::asio::post(
          get_executor(), [done = std::move(done)] { done(boost::asio::error::invalid_argument); });
    }
  }
  tcp_.async_connect(endpoint.address, [this, done = std::move(done)](Failure failed) {
    if (failed || !tls_) return done(failed);
    Failure ignored;
    socket().set_option(boost::asio::ip::tcp::no_delay(true), ignored);
    tls_->async_handshake(boost::asio::ssl::stream_base::client, done);
  });
}

}  // namespace dvs
