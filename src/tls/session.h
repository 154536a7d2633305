// TLS 1.3 between nodes, both sides with a certificate of the cluster's authority
// (tls/authority.h).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/result.h"

namespace dvs::tls {

// PEM files.
struct Files {
  std::string authority;    // its certificate
  std::string certificate;  // of this node
  std::string key;          // of that certificate; not readable by others
  bool empty() const { return authority.empty() && certificate.empty() && key.empty(); }
};

class Session;

// This node's certificate, ready for use. Ignores SIGPIPE from then on, as OpenSSL needs it.
class Identity {
 public:
  // kInvalid: a file is missing, is not what it should be, does not fit the others, has expired, or
  // is of another node than `name`; kDenied: the key can be read by others.
  static Result<std::shared_ptr<Identity>> load(const Files& files, const std::string& name);
  virtual ~Identity() = default;

  // On a connected, non-blocking socket, which must outlive it.
  virtual std::unique_ptr<Session> session(int socket, bool accepting) = 0;
};

// One connection. Nothing blocks; errors are for ever.
class Session {
 public:
  virtual ~Session() = default;

  enum class Step { kDone, kWantsToRead, kWantsToWrite };
  // To be called again when the socket is ready for what it wants, until it is done. kDenied: the
  // peer is nobody of this cluster, or speaks no TLS 1.3.
  virtual Result<Step> handshake() = 0;
  // The node that the peer's certificate names. REQUIRES: the handshake is done.
  virtual std::string peer() const = 0;

  // Bytes moved; 0: the socket is not ready. kUnavailable: the peer has closed it, or it broke.
  virtual Result<size_t> read(std::span<char> to) = 0;
  virtual Result<size_t> write(std::span<const char> from) = 0;
};

}  // namespace dvs::tls
