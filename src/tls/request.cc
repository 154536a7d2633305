#include "tls/request.h"

#include "tls/authority.h"
#include "tls/openssl.h"

namespace dvs::tls {
namespace {

Result<std::string> request_of(EVP_PKEY* key, const std::string& name) {
  const Request request(X509_REQ_new());
  if (request == nullptr || X509_REQ_set_pubkey(request.get(), key) != 1 ||
      !set_name(X509_REQ_get_subject_name(request.get()), {name, ""}) ||
      X509_REQ_sign(request.get(), key, EVP_sha256()) == 0) {
    return failed("cannot make a request for a certificate");
  }
  return to_pem(request.get());
}

}  // namespace

Result<std::string> make_key_and_request(const std::string& key_path, const std::string& name) {
  DVS_ASSIGN(const Key key, make_key());
  DVS_ASSIGN(const std::string text, to_pem(key.get()));
  DVS_ASSIGN(std::string request, request_of(key.get(), name));
  DVS_TRY(create_file(key_path, text, 0600));
  return request;
}

Result<std::string> request_for(const std::string& key_path, const std::string& name) {
  DVS_ASSIGN(const Key key, read_key(key_path));
  return request_of(key.get(), name);
}

Status check_answer(const std::string& certificate, const std::string& authority,
                    const std::string& fingerprint, const std::string& key_path) {
  DVS_ASSIGN(const Certificate ours, parse_certificate(certificate));
  DVS_ASSIGN(const Certificate signer, parse_certificate(authority));
  DVS_ASSIGN(const Key key, read_key(key_path));
  if (!fingerprint.empty() && fingerprint_of(signer.get()) != fingerprint) {
    return Error(Code::kDenied, "the answer is from another authority");
  }
  if (!signed_by(ours.get(), signer.get())) {
    return Error(Code::kDenied, "the certificate in the answer is not signed by the authority");
  }
  if (!is_of_key(ours.get(), key.get())) {
    return Error(Code::kDenied, "the certificate in the answer is not for " + key_path);
  }
  return {};
}

Status check_revoked(const std::string& revoked, const std::string& authority_path) {
  DVS_ASSIGN(const RevokedList list, parse_revoked(revoked));
  DVS_ASSIGN(const Certificate authority, read_certificate(authority_path));
  const bool is = X509_CRL_verify(list.get(), X509_get0_pubkey(authority.get())) == 1;
  ERR_clear_error();
  return is ? Status() : Error(Code::kDenied, "the list is not signed by " + authority_path);
}

}  // namespace dvs::tls
