// The cluster's certificate authority: a directory with its certificate and key. Whoever has the
// key can make nodes of the cluster; it is needed for nothing else, and on no node.
#pragma once

#include <string>

#include "base/result.h"

namespace dvs::tls {

constexpr char kAuthorityCertificate[] = "ca.pem";
constexpr char kAuthorityKey[] = "ca.key";

// Makes the directory (0700), its ca.pem and ca.key (0600, ECDSA P-256), good for ten years.
// kConflict: there is an authority already. Blocks for file operations.
Status make_authority(const std::string& directory, const std::string& cluster);

// Makes NODE.pem and NODE.key (0600) in `output`, good for `days`; ca.pem is put beside them.
// kConflict: NODE.key is there already; kInvalid: the name, or the authority's files.
Status certify(const std::string& directory, const std::string& node, const std::string& output,
               int days = 365);

}  // namespace dvs::tls
