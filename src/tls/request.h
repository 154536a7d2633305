// What a node asks of the authority: that the key it has made is certified. The key stays here.
#pragma once

#include <string>

#include "base/result.h"

namespace dvs::tls {

// Makes a key (0600, ECDSA P-256) and returns a request for it (PEM). kConflict: the file is there.
Result<std::string> make_key_and_request(const std::string& key_path, const std::string& name);

// A request for a key that is there.
Result<std::string> request_for(const std::string& key_path, const std::string& name);

// Whether these (PEM) belong together: the certificate is signed by that authority, whose
// fingerprint is this unless it is empty, and is of the key in that file. kDenied: they do not.
Status check_answer(const std::string& certificate, const std::string& authority,
                    const std::string& fingerprint, const std::string& key_path);

// Whether a revocation list (PEM) is signed by the authority in this file. kDenied: it is not.
Status check_revoked(const std::string& revoked, const std::string& authority_path);

}  // namespace dvs::tls
