#include "tls/session.h"

#include <signal.h>

#include <cerrno>

#include "tls/openssl.h"

namespace dvs::tls {
namespace {

// The peer sends no data before it has read what it asked for; 64 KiB are four records.
constexpr size_t kReadAhead = 64 << 10;

using Context = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;

class OpenSslSession : public Session {
 public:
  OpenSslSession(SSL_CTX& context, int socket, bool accepting) : ssl_(SSL_new(&context)) {
    if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), socket) != 1) {
      ssl_.reset();
    } else if (accepting) {
      SSL_set_accept_state(ssl_.get());
    } else {
      SSL_set_connect_state(ssl_.get());
    }
  }

  Result<Step> handshake() override {
    if (ssl_ == nullptr) return failed("cannot begin with TLS");
    ERR_clear_error();
    const int rc = SSL_do_handshake(ssl_.get());
    if (rc == 1) return Step::kDone;
    switch (SSL_get_error(ssl_.get(), rc)) {
      case SSL_ERROR_WANT_READ:
        return Step::kWantsToRead;
      case SSL_ERROR_WANT_WRITE:
        return Step::kWantsToWrite;
      default:
        return Error(Code::kDenied, "TLS: " + refusal());
    }
  }

  std::string peer() const override {
    const Certificate certificate(SSL_get1_peer_certificate(ssl_.get()));
    return name_of(certificate.get());
  }

  Result<size_t> read(std::span<char> to) override {
    size_t count = 0;
    ERR_clear_error();
    const int rc = SSL_read_ex(ssl_.get(), to.data(), to.size(), &count);
    return moved(rc, count);
  }

  Result<size_t> write(std::span<const char> from) override {
    size_t count = 0;
    ERR_clear_error();
    const int rc = SSL_write_ex(ssl_.get(), from.data(), from.size(), &count);
    return moved(rc, count);
  }

 private:
  Result<size_t> moved(int rc, size_t count) {
    if (rc == 1) return count;
    switch (SSL_get_error(ssl_.get(), rc)) {
      case SSL_ERROR_WANT_READ:
      case SSL_ERROR_WANT_WRITE:
        return size_t{0};
      case SSL_ERROR_ZERO_RETURN:
        return Error(Code::kUnavailable, "closed by the peer");
      case SSL_ERROR_SYSCALL:
        if (errno != 0) return errno_error("TLS", errno);
        [[fallthrough]];
      default:
        // (A peer that is killed says no good-bye; to us that is no worse than one that does.)
        const std::string reason = why();
        const bool closed = reason == "unexpected eof while reading";
        return Error(Code::kUnavailable, closed ? "closed by the peer" : "TLS: " + reason);
    }
  }

  std::string refusal() {
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified == X509_V_OK) return why();
    ERR_clear_error();
    return std::string("the peer's certificate: ") + X509_verify_cert_error_string(verified);
  }

  std::unique_ptr<SSL, Freed<SSL_free>> ssl_;
};

class OpenSslIdentity : public Identity {
 public:
  explicit OpenSslIdentity(Context context) : context_(std::move(context)) {}

  std::unique_ptr<Session> session(int socket, bool accepting) override {
    return std::make_unique<OpenSslSession>(*context_, socket, accepting);
  }

 private:
  Context context_;
};

Status check_own(const X509* certificate, const std::string& path, const std::string& name) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return Error(Code::kInvalid, path + " has expired");
  }
  if (const std::string named = name_of(certificate); named != name) {
    return Error(Code::kInvalid, path + " is of node '" + named + "', this node is '" + name + "'");
  }
  return {};
}

Context new_context() {
  Context context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  // The fastest first, where both have the instructions for it.
  SSL_CTX_set_ciphersuites(
      context.get(), "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Links live long: nothing is resumed.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set_read_ahead(context.get(), 1);
  SSL_CTX_set_default_read_buffer_len(context.get(), kReadAhead);
  return context;
}

}  // namespace

Result<std::shared_ptr<Identity>> Identity::load(const Files& files, const std::string& name) {
  if (files.authority.empty() || files.certificate.empty() || files.key.empty()) {
    return Error(Code::kInvalid, "TLS needs all of: authority, certificate, key");
  }
  DVS_ASSIGN(const Certificate certificate, read_certificate(files.certificate));
  DVS_TRY(check_own(certificate.get(), files.certificate, name));
  DVS_ASSIGN(const Key key, read_key(files.key));
  DVS_ASSIGN(const Certificate authority, read_certificate(files.authority));
  Context context = new_context();
  if (context == nullptr) return failed("cannot use OpenSSL");
  SSL_CTX* const ssl = context.get();
  if (X509_verify(certificate.get(), X509_get0_pubkey(authority.get())) != 1) {
    ERR_clear_error();
    return Error(Code::kInvalid, files.certificate + " is not signed by " + files.authority);
  }
  if (X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), authority.get()) != 1 ||
      SSL_CTX_use_certificate(ssl, certificate.get()) != 1) {
    return failed("cannot use " + files.certificate);
  }
  if (SSL_CTX_use_PrivateKey(ssl, key.get()) != 1 || SSL_CTX_check_private_key(ssl) != 1) {
    ERR_clear_error();
    return Error(Code::kInvalid, files.key + " is not the key of " + files.certificate);
  }
  ::signal(SIGPIPE, SIG_IGN);
  return std::shared_ptr<Identity>(std::make_shared<OpenSslIdentity>(std::move(context)));
}

}  // namespace dvs::tls
