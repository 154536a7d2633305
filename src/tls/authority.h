// The cluster's certificate authority: a directory with its certificate and key. Whoever has the
// key can make nodes and users of the cluster; it is needed for nothing else, and on no node.
//
//   ca.pem  ca.key   its certificate and key
//   crl.pem          the certificates it has called back, signed by it (dvsd --tls-crl)
//   issued           a line per certificate: serial number, unit, name
//
// Calls block for file operations. Several processes may use the directory at a time.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tls/subject.h"

namespace dvs::tls {

constexpr char kAuthorityCertificate[] = "ca.pem";
constexpr char kAuthorityKey[] = "ca.key";
constexpr char kRevoked[] = "crl.pem";

// Makes the directory (0700), its ca.pem and ca.key (0600, ECDSA P-256), good for ten years, and a
// crl.pem of none. kConflict: there is an authority already.
Status make_authority(const std::string& directory, const std::string& cluster);

struct Wish {
  Subject subject;
  int days = 365;
  std::vector<std::string> addresses = {};  // IP addresses by which clients that want one find it
};

// Makes NAME.pem and NAME.key (0600) in `output`; ca.pem is put beside them. kConflict: NAME.key is
// there already; kInvalid: the name, or the authority's files.
Status certify(const std::string& directory, const Wish& wish, const std::string& output);
// A node's.
Status certify(const std::string& directory, const std::string& node, const std::string& output,
               int days = 365);

// A certificate (PEM) for the key of a request (PEM, see tls/request.h), whose own wishes are
// ignored. REQUIRES: lock_authority() is held. kInvalid: it is no request, its sender has not the
// key, or that is not ECDSA P-256.
Result<std::string> sign_request(const std::string& directory, const std::string& request,
                                 const Wish& wish);

// The same for a certificate (PEM) that is to be had anew: for the same subject, and the key that
// both have. kDenied: it is not the authority's, has expired, was called back, has another key than
// the request, or is of another unit than `unit`.
Result<std::string> renew(const std::string& directory, const std::string& certificate,
                          const std::string& request, const std::string& unit);

// Adds all certificates of that name to crl.pem. Returns how many were new there. kNotFound: there
// are none.
Result<int> revoke(const std::string& directory, const std::string& name);

// SHA-256 of its certificate, in hexadecimal digits.
Result<std::string> authority_fingerprint(const std::string& directory);

// Nobody else changes the directory until the descriptor is closed.
Result<UniqueFd> lock_authority(const std::string& directory);

// Creates a file with these permissions, never over what is there (kConflict).
Status create_file(const std::string& path, const std::string& text, unsigned mode);

}  // namespace dvs::tls
