// What strangers, users and administrators give as proof: tokens, files of tokens, targets, and
// what a node sends to have its certificate renewed.
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "api/http_server.h"
#include "enroll/token.h"
#include "fuzz/target.h"
#include "tls/authority.h"

namespace dvs::fuzz {
namespace {

void token(std::string_view text) {
  const auto parsed = enroll::parse_token(text);
  if (parsed.ok()) must(enroll::to_text(*parsed) == text);
}

void tokens(std::string_view text) {
  ApiTokens all;
  (void)all.parse(text);
  must(!all.find(text).has_value());  // (a digest of itself is not found in a lifetime)
}

void target(std::string_view text) {
  const auto parsed = parse_https_target(text);
  if (parsed.ok()) must(!parsed->host.empty());
}

// An authority for as long as the program runs.
class Authority {
 public:
  Authority() {
    char name[] = "/tmp/dvs-fuzz-authority-XXXXXX";
    must(::mkdtemp(name) != nullptr);
    path_ = name;
    must(tls::make_authority(path_, "fuzz").ok());
  }
  ~Authority() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// "CERTIFICATE\0REQUEST". Nobody has a certificate of this authority.
void renewal(std::string_view text) {
  static const Authority authority;
  const size_t end = std::min(text.find('\0'), text.size());
  const std::string certificate(text.substr(0, end));
  const std::string request(text.substr(std::min(end + 1, text.size())));
  must(!tls::renew(authority.path(), certificate, request, tls::kNodeUnit).ok());
}

}  // namespace
}  // namespace dvs::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const auto text = dvs::fuzz::text_of(data + 1, size - 1).substr(0, 32 << 10);
  switch (data[0] % 4) {
    case 0:
      dvs::fuzz::token(text);
      break;
    case 1:
      dvs::fuzz::tokens(text);
      break;
    case 2:
      dvs::fuzz::target(text);
      break;
    default:
      dvs::fuzz::renewal(text);
  }
  return 0;
}
