// How a machine gets and renews the certificate of a node. The key is made where it is used and
// never leaves it: the authority sees a request for its certificate (tls/request.h).
//
//   POST /v1/enroll {"node", "secret", "request"} -> {"certificate", "authority"}   anybody
//   POST /v1/renew {"certificate", "request"} -> {"certificate"}                    anybody
//   GET /v1/revoked -> {"revoked"}                                                  anybody
//
// All values are PEM but the first two. Whom a request comes from is in it: the secret of a token,
// or a certificate with proof of its key.
#pragma once

#include <functional>
#include <string>

#include "api/http_server.h"
#include "enroll/token.h"

namespace dvs::enroll {

// The authority's end. Each request blocks for file operations. `tell` hears of what was given and
// what was refused.
void add_routes(HttpServer& server, const std::string& directory,
                std::function<void(const std::string&)> tell);

// The node's end; all block, 30 s at most for an answer. NODE.key, NODE.pem, ca.pem and crl.pem are
// in `directory`.

// kDenied: the server is not the token's authority, or knows the token no more; kConflict: there is
// a key already; kTimeout: the token may have been used up without a certificate.
Status join(const HttpsTarget& from, const Token& token, const std::string& directory);

// Replaces NODE.pem by one that is good from now on, for the same key, and crl.pem. kDenied: the
// certificate has expired or was revoked.
Status renew(const HttpsTarget& from, const std::string& node, const std::string& directory);

// Replaces crl.pem.
Status fetch_revoked(const HttpsTarget& from, const std::string& directory);

}  // namespace dvs::enroll
