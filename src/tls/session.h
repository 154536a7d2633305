// TLS 1.3 with certificates of the cluster's authority (tls/authority.h): links between nodes, and
// the servers of the API and of the authority.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "tls/subject.h"

// Of OpenSSL.
struct ssl_ctx_st;
struct ssl_st;

namespace dvs::tls {

// PEM files.
struct Files {
  std::string authority;     // its certificate
  std::string certificate;   // of this node
  std::string key;           // of that certificate; not readable by others
  std::string revoked = {};  // may be empty: the authority's list of certificates called back
  bool empty() const {
    return authority.empty() && certificate.empty() && key.empty() && revoked.empty();
  }
};

class Session;

// This node's certificate, ready for use. Ignores SIGPIPE from then on, as OpenSSL needs it. One
// thread.
class Identity {
 public:
  // kInvalid: a file is missing, is not what it should be, does not fit the others, has expired, or
  // is of another node than `name`; kDenied: the key can be read by others.
  static Result<std::shared_ptr<Identity>> load(const Files& files, const std::string& name);
  // The authority's own server, with a key and a certificate that are nowhere but in memory. It
  // sends the authority's certificate along, for clients that know its fingerprint only.
  static Result<std::shared_ptr<Identity>> of_authority(const std::string& directory);
  virtual ~Identity() = default;

  // Reads the files again. What begins from then on uses them; sessions go on, see
  // Session::recheck(). An Error, as of load(): all is as before.
  virtual Status reload() = 0;

  // Takes in a list (PEM) of the authority's that somebody brings: it is kept in the file of
  // `Files::revoked`, and used as after reload(). False: it says nothing new. kInvalid: it is no
  // list; kDenied: it is not the authority's; kConflict: something is missing of what was called
  // back before, so it is older; kUnsupported: there is no such file.
  virtual Result<bool> take_revoked(const std::string& list) = 0;

  // Of a link, on a connected, non-blocking socket, which must outlive it.
  virtual std::unique_ptr<Session> session(int socket, bool accepting) = 0;

  // For a server whose clients need no certificate; one that they have is checked. With a reference
  // of its own (SSL_CTX_free).
  virtual ssl_ctx_st* server_context() const = 0;
};

// One connection. Nothing blocks; errors are for ever.
class Session {
 public:
  virtual ~Session() = default;

  enum class Step { kDone, kWantsToRead, kWantsToWrite };
  // To be called again when the socket is ready for what it wants, until it is done. kDenied: the
  // peer is nobody of this cluster, or speaks no TLS 1.3.
  virtual Result<Step> handshake() = 0;
  // What the peer's certificate says. REQUIRES: the handshake is done.
  virtual Subject peer() const = 0;
  // Whether that certificate would still do: it may have expired, or been called back, since.
  virtual Status recheck() const = 0;

  // Bytes moved; 0: the socket is not ready. kUnavailable: the peer has closed it, or it broke.
  virtual Result<size_t> read(std::span<char> to) = 0;
  virtual Result<size_t> write(std::span<const char> from) = 0;
};

// What the certificate of the client at the other end says; empty: it gave none.
Subject peer_of(const ssl_st* ssl);

}  // namespace dvs::tls
