#include "tls/client.h"

#include <signal.h>

#include <cerrno>

#include "tls/openssl.h"
#include "tls/session.h"

namespace dvs::tls {
namespace {

// The authority is one of the certificates that the server sent: the one with this fingerprint.
// From there on it is verified as any other chain.
int verify_by_fingerprint(X509_STORE_CTX* chain, void* fingerprint) {
  STACK_OF(X509)* const sent = X509_STORE_CTX_get0_untrusted(chain);
  STACK_OF(X509)* const trusted = sk_X509_new_null();
  for (int i = 0; i < sk_X509_num(sent); ++i) {
    X509* const each = sk_X509_value(sent, i);
    if (fingerprint_of(each) == *static_cast<const std::string*>(fingerprint)) {
      sk_X509_push(trusted, each);
    }
  }
  X509_STORE_CTX_set0_trusted_stack(chain, trusted);
  const int verified = X509_verify_cert(chain);
  X509_STORE_CTX_set0_trusted_stack(chain, nullptr);
  sk_X509_free(trusted);
  return verified;
}

// The client's own certificate, if there is one.
Status use_own(SSL_CTX* context, const std::string& certificate_path, const std::string& key_path) {
  if (certificate_path.empty() && key_path.empty()) return {};
  DVS_ASSIGN(const Certificate certificate, read_certificate(certificate_path));
  DVS_ASSIGN(const Key key, read_key(key_path));
  if (!is_of_key(certificate.get(), key.get())) {
    return Error(Code::kInvalid, key_path + " is not the key of " + certificate_path);
  }
  if (SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
      SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
    return failed("cannot use " + certificate_path);
  }
  return {};
}

class OpenSslClient : public Client {
 public:
  explicit OpenSslClient(const Trust& trust) : trust_(trust) {}

  Status start(int socket) {
    DVS_TRY(prepare());
    ssl_.reset(SSL_new(context_.get()));
    if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), socket) != 1) return failed("cannot use OpenSSL");
    ERR_clear_error();
    errno = 0;
    if (SSL_connect(ssl_.get()) != 1) return refusal();
    if (const Subject server = peer_of(ssl_.get()); server.unit != trust_.unit) {
      return Error(Code::kDenied, "the server's certificate is that of '" + server.name +
                                      "', which is not the " + trust_.unit + " that was meant");
    }
    return {};
  }

  Status write(std::string_view bytes) override {
    size_t count = 0;
    ERR_clear_error();
    if (bytes.empty() || SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &count) == 1) {
      return {};
    }
    return Error(Code::kUnavailable, "cannot send: " + why());
  }

  Result<size_t> read(std::span<char> to) override {
    size_t count = 0;
    ERR_clear_error();
    errno = 0;
    const int rc = SSL_read_ex(ssl_.get(), to.data(), to.size(), &count);
    if (rc == 1) return count;
    const int error = SSL_get_error(ssl_.get(), rc);
    if (error == SSL_ERROR_ZERO_RETURN) return size_t{0};
    if (errno == EAGAIN) return Error(Code::kTimeout, "it is silent");
    const unsigned long code = ERR_peek_last_error();
    if (ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING || code == 0) {
      ERR_clear_error();
      return size_t{0};  // what was cut off is seen by who reads
    }
    return Error(Code::kDenied, "the server refuses: " + why());
  }

 private:
  Status prepare() {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX* const context = context_.get();
    if (context == nullptr) return failed("cannot use OpenSSL");
    ::signal(SIGPIPE, SIG_IGN);
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
    if (trust_.authority.empty()) {
      SSL_CTX_set_cert_verify_callback(context, verify_by_fingerprint, &trust_.fingerprint);
    } else if (SSL_CTX_load_verify_file(context, trust_.authority.c_str()) != 1) {
      return failed("cannot use " + trust_.authority);
    }
    return use_own(context, trust_.certificate, trust_.key);
  }

  Error refusal() {
    if (errno == EAGAIN) return Error(Code::kUnavailable, "it does not answer");
    const long verified = SSL_get_verify_result(ssl_.get());
    if (verified == X509_V_OK) return Error(Code::kUnavailable, "no TLS: " + why());
    ERR_clear_error();
    return Error(Code::kDenied, std::string("the server's certificate: ") +
                                    X509_verify_cert_error_string(verified));
  }

  Trust trust_;
  Context context_;
  std::unique_ptr<SSL, Freed<SSL_free>> ssl_;
};

}  // namespace

Result<std::unique_ptr<Client>> Client::open(int socket, const Trust& trust) {
  auto client = std::make_unique<OpenSslClient>(trust);
  DVS_TRY(client->start(socket));
  return std::unique_ptr<Client>(std::move(client));
}

Result<SSL_CTX*> client_context(const Files& files) {
  Context context(SSL_CTX_new(TLS_client_method()));
  if (context == nullptr) return failed("cannot use OpenSSL");
  ::signal(SIGPIPE, SIG_IGN);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  const bool trusts = files.authority.empty()
                          ? SSL_CTX_set_default_verify_paths(context.get()) == 1
                          : SSL_CTX_load_verify_file(context.get(), files.authority.c_str()) == 1;
  if (!trusts) return failed("cannot use " + files.authority);
  DVS_TRY(use_own(context.get(), files.certificate, files.key));
  return context.release();
}

}  // namespace dvs::tls
