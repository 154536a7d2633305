// Who asks, and what he may: the roles of the API.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs {

// Each may what those before it may.
enum class Role {
  kAnybody,  // without proof of who he is
  kView,     // sees everything
  kOperate,  // starts, signals and moves processes
  kAdmin,    // creates and removes DCs and nodes
};

// "view", "operate" and "admin", in options, files and certificates (tls::Subject::unit).
std::optional<Role> role_named(std::string_view name);
std::string_view name_of(Role role);

struct Caller {
  std::string name;
  Role role = Role::kAnybody;
};

// Bearer tokens, from a file with a line "SHA256 ROLE NAME" for each: the digest of the token in
// hexadecimal digits, so that the file is no secret worth stealing. Empty lines and what follows
// '#' mean nothing.
class ApiTokens {
 public:
  // kInvalid names the line that is wrong; an Error changes nothing. Blocks to read the file.
  Status load(const std::string& path);
  // The same from text.
  Status parse(std::string_view text);

  std::optional<Caller> find(std::string_view token) const;

 private:
  std::map<std::string, Caller, std::less<>> by_digest_;
};

}  // namespace dvs
