// Whom a certificate names, and as what.
#pragma once

#include <string>

namespace dvs::tls {

// The units (OU) of the certificates that the authority makes. Those of users are the roles of the
// API (api/access.h): "view", "operate", "admin".
constexpr char kNodeUnit[] = "node";            // may make and take links, and serve the API
constexpr char kAuthorityUnit[] = "authority";  // what new nodes ask for a certificate

struct Subject {
  std::string name;  // CN
  std::string unit;  // OU
};

}  // namespace dvs::tls
