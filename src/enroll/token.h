// One-time tokens: what a machine that is to be a node of the cluster is given, and what the
// authority remembers of it.
//
// A token is "dvs1.NODE.FINGERPRINT.SECRET": the node it is for, the SHA-256 of the authority's
// certificate, by which the new node knows whom it talks to, and 32 random bytes. The authority
// keeps a file named by the secret's digest, DIR/tokens/DIGEST, which goes when it is used.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dvs::enroll {

struct Token {
  std::string node;
  std::string fingerprint;
  std::string secret;
};
std::string to_text(const Token& token);
// kInvalid: it is none.
Result<Token> parse_token(std::string_view text);

// Makes one for the authority in `directory`. Blocks for file operations.
Result<Token> make_token(const std::string& directory, const std::string& node,
                         std::chrono::seconds valid);

// Uses a secret up. True once, for the node that it was made for and before it expires; otherwise
// kDenied. REQUIRES: tls::lock_authority() is held.
Status spend_token(const std::string& directory, const std::string& node,
                   const std::string& secret);

// Those of this node mean nothing any more.
Status forget_tokens(const std::string& directory, const std::string& node);

}  // namespace dvs::enroll
