// The blocking client's end of TLS 1.3, for the commands: to a node's API or to the authority.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "tls/session.h"

namespace dvs::tls {

// How the server proves who it is, and the client, if it does.
struct Trust {
  std::string authority;    // file of the authority's certificate (PEM); or, when it is not known,
  std::string fingerprint;  // its SHA-256 in hexadecimal digits: the server then sends it along
  std::string unit;         // the server's certificate must be of this unit (tls/subject.h)
  std::string certificate;  // the client's own, and its key; both may be empty
  std::string key;
};

// On a connected, blocking socket, which must outlive it; its time-outs are the socket's.
class Client {
 public:
  // Shakes hands. kInvalid: a file; kDenied: the server is not whom it should be, or refuses us;
  // kUnavailable: it did not answer.
  static Result<std::unique_ptr<Client>> open(int socket, const Trust& trust);
  virtual ~Client() = default;

  virtual Status write(std::string_view bytes) = 0;
  // Bytes read; 0: the end. kDenied: the server refuses our certificate (it says so late).
  virtual Result<size_t> read(std::span<char> to) = 0;
};

// For an asynchronous client of another server, such as etcd: TLS 1.2 or newer, the server's
// certificate by `authority` (empty: by what the system trusts), and our own if there is one. The
// caller sees to the server's name, and frees it (SSL_CTX_free). Errors as of Identity::load().
Result<ssl_ctx_st*> client_context(const Files& files);

}  // namespace dvs::tls
