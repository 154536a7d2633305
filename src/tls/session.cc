#include "tls/session.h"

#include <signal.h>

#include <cerrno>
#include <functional>

#include "base/file.h"
#include "tls/authority.h"
#include "tls/openssl.h"
#include "tls/request.h"

namespace dvs::tls {
namespace {

// The peer sends no data before it has read what it asked for; 64 KiB are four records.
constexpr size_t kReadAhead = 64 << 10;

// Everything that is read from files; replaced as a whole.
struct Material {
  Store trusted;
  Context links;
  Context server;
  RevokedList revoked = nullptr;  // null: there is none
};

// REQUIRES: `certificate` is one, or null.
Status verify(X509_STORE* trusted, X509* certificate) {
  const StoreContext context(X509_STORE_CTX_new());
  if (context == nullptr ||
      X509_STORE_CTX_init(context.get(), trusted, certificate, nullptr) != 1) {
    return failed("cannot check a certificate");
  }
  if (X509_verify_cert(context.get()) == 1) return {};
  const int error = X509_STORE_CTX_get_error(context.get());
  ERR_clear_error();
  return Error(Code::kDenied,
               std::string("the peer's certificate: ") + X509_verify_cert_error_string(error));
}

class OpenSslIdentity;

class OpenSslSession : public Session {
 public:
  OpenSslSession(std::shared_ptr<const OpenSslIdentity> identity, SSL_CTX& context, int socket,
                 bool accepting)
      : identity_(std::move(identity)), ssl_(SSL_new(&context)) {
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

  Subject peer() const override { return peer_of(ssl_.get()); }
  Status recheck() const override;

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

  const std::shared_ptr<const OpenSslIdentity> identity_;
  std::unique_ptr<SSL, Freed<SSL_free>> ssl_;
};

// Is everything called back by `newer` that was by `older`? (By none: nothing.)
bool has_all_of(X509_CRL* newer, X509_CRL* older) {
  if (older == nullptr) return true;
  if (newer == nullptr) return false;
  const STACK_OF(X509_REVOKED)* entries = X509_CRL_get_REVOKED(older);
  for (int i = 0; i < sk_X509_REVOKED_num(entries); ++i) {
    const X509_REVOKED* entry = sk_X509_REVOKED_value(entries, i);
    X509_REVOKED* there = nullptr;
    if (X509_CRL_get0_by_serial(newer, &there, X509_REVOKED_get0_serialNumber(entry)) <= 0) {
      return false;
    }
  }
  return true;
}

class OpenSslIdentity : public Identity, public std::enable_shared_from_this<OpenSslIdentity> {
 public:
  // `read` makes the material, now and at each reload(), of `files`, if it is of files.
  OpenSslIdentity(Files files, std::function<Result<Material>()> read)
      : files_(std::move(files)), read_(std::move(read)) {}

  Status reload() override {
    DVS_ASSIGN(material_, read_());
    return {};
  }
  Result<bool> take_revoked(const std::string& list) override {
    if (files_.revoked.empty()) {
      return Error(Code::kUnsupported, "it is not told by --tls-crl where to keep a list");
    }
    DVS_ASSIGN(const RevokedList newer, parse_revoked(list));
    DVS_TRY(check_revoked(list, files_.authority));
    if (!has_all_of(newer.get(), material_.revoked.get())) {
      return Error(Code::kConflict, "the list is older than the one in " + files_.revoked);
    }
    if (has_all_of(material_.revoked.get(), newer.get())) return false;
    const auto kept = read_file(files_.revoked);
    if (!kept.ok() || *kept != list) DVS_TRY(replace_file(files_.revoked, list));
    DVS_TRY(reload());
    return true;
  }
  std::unique_ptr<Session> session(int socket, bool accepting) override {
    return std::make_unique<OpenSslSession>(shared_from_this(), *material_.links, socket,
                                            accepting);
  }
  SSL_CTX* server_context() const override {
    SSL_CTX_up_ref(material_.server.get());
    return material_.server.get();
  }
  X509_STORE* trusted() const { return material_.trusted.get(); }

 private:
  const Files files_;
  const std::function<Result<Material>()> read_;
  Material material_;
};

Status OpenSslSession::recheck() const {
  const Certificate certificate(SSL_get1_peer_certificate(ssl_.get()));
  return verify(identity_->trusted(), certificate.get());
}

Status check_own(const X509* certificate, const std::string& path, const std::string& name) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
    return Error(Code::kInvalid, path + " has expired");
  }
  const Subject subject = subject_of(certificate);
  if (subject.unit != kNodeUnit) return Error(Code::kInvalid, path + " is no node's certificate");
  if (subject.name != name) {
    return Error(Code::kInvalid,
                 path + " is of node '" + subject.name + "', this node is '" + name + "'");
  }
  return {};
}

Context new_context(X509_STORE* trusted) {
  Context context(SSL_CTX_new(TLS_method()));
  if (context == nullptr) return nullptr;
  SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION);
  // The fastest first, where both have the instructions for it.
  SSL_CTX_set_ciphersuites(
      context.get(), "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256");
  SSL_CTX_set_mode(context.get(),
                   SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Links live long: nothing is resumed.
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context.get(), 0);
  SSL_CTX_set1_cert_store(context.get(), trusted);
  return context;
}

// What signs `certificate`, and what it has called back.
Result<Store> trust(X509* authority, X509_CRL* revoked) {
  Store store(X509_STORE_new());
  if (store == nullptr || X509_STORE_add_cert(store.get(), authority) != 1) {
    return failed("cannot use the authority's certificate");
  }
  if (revoked == nullptr) return store;
  if (X509_STORE_add_crl(store.get(), revoked) != 1 ||
      X509_STORE_set_flags(store.get(), X509_V_FLAG_CRL_CHECK) != 1) {
    return failed("cannot use the list of revoked certificates");
  }
  return store;
}

Result<Material> make_material(Store trusted, X509* certificate, EVP_PKEY* key) {
  Material material{std::move(trusted), nullptr, nullptr, nullptr};
  material.links = new_context(material.trusted.get());
  material.server = new_context(material.trusted.get());
  for (SSL_CTX* context : {material.links.get(), material.server.get()}) {
    if (context == nullptr || SSL_CTX_use_certificate(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey(context, key) != 1) {
      return failed("cannot use OpenSSL");
    }
  }
  SSL_CTX_set_verify(material.links.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                     nullptr);
  SSL_CTX_set_read_ahead(material.links.get(), 1);
  SSL_CTX_set_default_read_buffer_len(material.links.get(), kReadAhead);
  SSL_CTX_set_verify(material.server.get(), SSL_VERIFY_PEER, nullptr);
  return material;
}

Result<RevokedList> read_list_of(const std::string& path, X509* authority) {
  if (path.empty()) return RevokedList();
  DVS_ASSIGN(RevokedList list, read_revoked(path));
  if (X509_CRL_verify(list.get(), X509_get0_pubkey(authority)) != 1) {
    ERR_clear_error();
    return Error(Code::kInvalid, path + " is not signed by the authority");
  }
  return list;
}

Result<Material> read_files(const Files& files, const std::string& name) {
  DVS_ASSIGN(const Certificate certificate, read_certificate(files.certificate));
  DVS_TRY(check_own(certificate.get(), files.certificate, name));
  DVS_ASSIGN(const Key key, read_key(files.key));
  DVS_ASSIGN(const Certificate authority, read_certificate(files.authority));
  if (!signed_by(certificate.get(), authority.get())) {
    return Error(Code::kInvalid, files.certificate + " is not signed by " + files.authority);
  }
  if (!is_of_key(certificate.get(), key.get())) {
    return Error(Code::kInvalid, files.key + " is not the key of " + files.certificate);
  }
  DVS_ASSIGN(RevokedList revoked, read_list_of(files.revoked, authority.get()));
  DVS_ASSIGN(Store trusted, trust(authority.get(), revoked.get()));
  DVS_ASSIGN(Material material, make_material(std::move(trusted), certificate.get(), key.get()));
  material.revoked = std::move(revoked);
  return material;
}

Result<Material> borrow_authority(const std::string& directory) {
  DVS_ASSIGN(const Pair pair, certify_server(directory));
  DVS_ASSIGN(const Certificate authority,
             read_certificate(directory + "/" + kAuthorityCertificate));
  DVS_ASSIGN(Store trusted, trust(authority.get(), nullptr));
  DVS_ASSIGN(Material material,
             make_material(std::move(trusted), pair.certificate.get(), pair.key.get()));
  if (SSL_CTX_add1_chain_cert(material.server.get(), authority.get()) != 1) {
    return failed("cannot use the authority's certificate");
  }
  return material;
}

Result<std::shared_ptr<Identity>> make_identity(const Files& files,
                                                std::function<Result<Material>()> read) {
  auto identity = std::make_shared<OpenSslIdentity>(files, std::move(read));
  DVS_TRY(identity->reload());
  ::signal(SIGPIPE, SIG_IGN);
  return std::shared_ptr<Identity>(std::move(identity));
}

}  // namespace

Result<std::shared_ptr<Identity>> Identity::load(const Files& files, const std::string& name) {
  if (files.authority.empty() || files.certificate.empty() || files.key.empty()) {
    return Error(Code::kInvalid, "TLS needs all of: authority, certificate, key");
  }
  return make_identity(files, [files, name] { return read_files(files, name); });
}

Result<std::shared_ptr<Identity>> Identity::of_authority(const std::string& directory) {
  return make_identity({}, [directory] { return borrow_authority(directory); });
}

Subject peer_of(const SSL* ssl) {
  const Certificate certificate(SSL_get1_peer_certificate(ssl));
  return subject_of(certificate.get());
}

}  // namespace dvs::tls
