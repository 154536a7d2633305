#include "enroll/enroll.h"

#include <unistd.h>

#include "base/file.h"
#include "tls/authority.h"
#include "tls/request.h"

namespace dvs::enroll {
namespace {

using Reply = std::shared_ptr<Responder>;

constexpr auto kPatience = std::chrono::seconds(30);

// ---- the authority's end

Result<Json> answer_enroll(const std::string& directory, const Json& body, std::string& node) {
  DVS_ASSIGN(node, json_get<std::string>(body, "node"));
  DVS_ASSIGN(const auto secret, json_get<std::string>(body, "secret"));
  DVS_ASSIGN(const auto request, json_get<std::string>(body, "request"));
  DVS_ASSIGN(const UniqueFd lock, tls::lock_authority(directory));
  DVS_TRY(spend_token(directory, node, secret));
  DVS_ASSIGN(auto certificate, tls::sign_request(directory, request, {{node, tls::kNodeUnit}}));
  DVS_ASSIGN(auto authority, read_file(directory + "/" + tls::kAuthorityCertificate));
  return Json{{"certificate", std::move(certificate)}, {"authority", std::move(authority)}};
}

Result<Json> answer_renew(const std::string& directory, const Json& body) {
  DVS_ASSIGN(const auto certificate, json_get<std::string>(body, "certificate"));
  DVS_ASSIGN(const auto request, json_get<std::string>(body, "request"));
  DVS_ASSIGN(auto renewed, tls::renew(directory, certificate, request, tls::kNodeUnit));
  return Json{{"certificate", std::move(renewed)}};
}

Result<Json> answer_revoked(const std::string& directory) {
  DVS_ASSIGN(auto list, read_file(directory + "/" + tls::kRevoked));
  return Json{{"revoked", std::move(list)}};
}

void give(const Reply& reply, const Result<Json>& answer) {
  if (!answer.ok()) return reply->fail(answer.error());
  reply->reply(*answer);
}

// ---- the node's end

struct Paths {
  Paths(const std::string& directory, const std::string& node)
      : key(directory + "/" + node + ".key"),
        certificate(directory + "/" + node + ".pem"),
        authority(directory + "/" + tls::kAuthorityCertificate),
        revoked(directory + "/" + tls::kRevoked) {}
  std::string key, certificate, authority, revoked;
};

Result<Json> ask(HttpsTarget from, const std::string& method, const std::string& target,
                 Json body = nullptr) {
  from.trust.unit = tls::kAuthorityUnit;
  HttpCall call{{}, method, target, std::move(body), {}, kPatience, std::move(from)};
  DVS_ASSIGN(HttpAnswer answer, http_exchange(call));
  if (const auto error = answer.error()) return *error;
  return std::move(answer.body);
}

Status use_answer(const Json& answer, const Token& token, const Paths& paths) {
  DVS_ASSIGN(const auto certificate, json_get<std::string>(answer, "certificate"));
  DVS_ASSIGN(const auto authority, json_get<std::string>(answer, "authority"));
  DVS_TRY(tls::check_answer(certificate, authority, token.fingerprint, paths.key));
  DVS_TRY(replace_file(paths.authority, authority));
  return replace_file(paths.certificate, certificate);
}

}  // namespace

void add_routes(HttpServer& server, const std::string& directory,
                std::function<void(const std::string&)> tell) {
  server.add(
      "POST", "/v1/enroll",
      [directory, tell](const HttpRequest& request, const Reply& reply) {
        std::string node;
        const auto answer = answer_enroll(directory, request.body, node);
        tell(answer.ok() ? node + " has its certificate"
                         : "refused a certificate: " + answer.error().message());
        give(reply, answer);
      },
      Role::kAnybody);
  server.add(
      "POST", "/v1/renew",
      [directory, tell](const HttpRequest& request, const Reply& reply) {
        const auto answer = answer_renew(directory, request.body);
        tell(answer.ok() ? "a certificate was renewed"
                         : "refused to renew: " + answer.error().message());
        give(reply, answer);
      },
      Role::kAnybody);
  server.add(
      "GET", "/v1/revoked",
      [directory](const HttpRequest&, const Reply& reply) {
        give(reply, answer_revoked(directory));
      },
      Role::kAnybody);
}

Status join(const HttpsTarget& from, const Token& token, const std::string& directory) {
  const Paths paths(directory, token.node);
  DVS_TRY(make_dirs(directory));
  DVS_ASSIGN(const std::string request, tls::make_key_and_request(paths.key, token.node));
  HttpsTarget authority = from;
  authority.trust.fingerprint = token.fingerprint;
  auto answer = ask(authority, "POST", "/v1/enroll",
                    {{"node", token.node}, {"secret", token.secret}, {"request", request}});
  Status used = answer.ok() ? use_answer(*answer, token, paths) : Status(answer.error());
  if (!used.ok()) {
    ::unlink(paths.key.c_str());  // of no use, and in the way of the next attempt
    return used;
  }
  return fetch_revoked(from, directory);
}

Status renew(const HttpsTarget& from, const std::string& node, const std::string& directory) {
  const Paths paths(directory, node);
  DVS_ASSIGN(const std::string certificate, read_file(paths.certificate));
  DVS_ASSIGN(const std::string authority, read_file(paths.authority));
  DVS_ASSIGN(const std::string request, tls::request_for(paths.key, node));
  HttpsTarget to = from;
  to.trust.authority = paths.authority;
  DVS_ASSIGN(const Json answer,
             ask(to, "POST", "/v1/renew", {{"certificate", certificate}, {"request", request}}));
  DVS_ASSIGN(const auto renewed, json_get<std::string>(answer, "certificate"));
  DVS_TRY(tls::check_answer(renewed, authority, "", paths.key));
  DVS_TRY(replace_file(paths.certificate, renewed));
  return fetch_revoked(from, directory);
}

Status fetch_revoked(const HttpsTarget& from, const std::string& directory) {
  const Paths paths(directory, "");
  HttpsTarget to = from;
  to.trust.authority = paths.authority;
  DVS_ASSIGN(const Json answer, ask(to, "GET", "/v1/revoked"));
  DVS_ASSIGN(const auto list, json_get<std::string>(answer, "revoked"));
  DVS_TRY(tls::check_revoked(list, paths.authority));
  return replace_file(paths.revoked, list);
}

}  // namespace dvs::enroll
