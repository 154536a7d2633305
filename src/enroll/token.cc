#include "enroll/token.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "directory/records.h"
#include "tls/authority.h"
#include "tls/digest.h"

namespace dvs::enroll {
namespace {

constexpr std::string_view kPrefix = "dvs1.";
constexpr size_t kDigits = 64;
constexpr int64_t kSecondNs = 1'000'000'000;

std::string tokens_of(const std::string& directory) { return directory + "/tokens"; }

struct Kept {
  std::string node;
  int64_t expires_ns = 0;
};

Result<Kept> read_kept(const std::string& path) {
  DVS_ASSIGN(const std::string text, read_file(path));
  DVS_ASSIGN(const Json json, parse_json(text));
  Kept kept;
  DVS_ASSIGN(kept.node, json_get<std::string>(json, "node"));
  DVS_ASSIGN(kept.expires_ns, json_get<int64_t>(json, "expires_ns"));
  return kept;
}

}  // namespace

std::string to_text(const Token& token) {
  return std::string(kPrefix) + token.node + "." + token.fingerprint + "." + token.secret;
}

Result<Token> parse_token(std::string_view text) {
  const Error bad(Code::kInvalid, "not a token as `dvs cluster token` prints it");
  if (!text.starts_with(kPrefix)) return bad;
  text.remove_prefix(kPrefix.size());
  const size_t first = text.find('.');
  const size_t second = text.rfind('.');
  if (first == std::string_view::npos || first == second) return bad;
  Token token{std::string(text.substr(0, first)),
              std::string(text.substr(first + 1, second - first - 1)),
              std::string(text.substr(second + 1))};
  const bool good = is_name(token.node) && tls::is_hex(token.fingerprint, kDigits) &&
                    tls::is_hex(token.secret, kDigits);
  return good ? Result<Token>(std::move(token)) : bad;
}

Result<Token> make_token(const std::string& directory, const std::string& node,
                         std::chrono::seconds valid) {
  if (!is_name(node)) return Error(Code::kInvalid, "'" + node + "' is no name for a node");
  Token token{node, "", ""};
  DVS_ASSIGN(token.fingerprint, tls::authority_fingerprint(directory));
  DVS_ASSIGN(token.secret, tls::random_hex(kDigits / 2));
  DVS_TRY(make_dirs(tokens_of(directory)));
  const Json kept = {{"node", node}, {"expires_ns", realtime_ns() + valid.count() * kSecondNs}};
  DVS_TRY(tls::create_file(tokens_of(directory) + "/" + tls::sha256_hex(token.secret),
                           dvs::to_text(kept), 0600));
  return token;
}

Status spend_token(const std::string& directory, const std::string& node,
                   const std::string& secret) {
  const Error unknown(Code::kDenied, "the token is not known here: it may have been used already");
  if (!tls::is_hex(secret, kDigits)) return unknown;
  const std::string path = tokens_of(directory) + "/" + tls::sha256_hex(secret);
  const auto kept = read_kept(path);
  if (!kept.ok()) return unknown;
  if (kept->node != node) return Error(Code::kDenied, "the token is for another node");
  if (::unlink(path.c_str()) != 0) return unknown;
  if (realtime_ns() > kept->expires_ns) return Error(Code::kDenied, "the token has expired");
  return {};
}

Status forget_tokens(const std::string& directory, const std::string& node) {
  const auto names = list_dir(tokens_of(directory));
  if (!names.ok()) return {};  // there were none yet
  for (const std::string& name : *names) {
    const std::string path = tokens_of(directory) + "/" + name;
    const auto kept = read_kept(path);
    if (kept.ok() && kept->node != node) continue;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      return errno_error("cannot remove " + path);
    }
  }
  return {};
}

}  // namespace dvs::enroll
