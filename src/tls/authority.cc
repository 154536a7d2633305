#include "tls/authority.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/unique_fd.h"
#include "tls/openssl.h"

namespace dvs::tls {
namespace {

constexpr int kAuthorityDays = 3650;
constexpr int kSerialBits = 159;

struct Pair {
  Certificate certificate;
  Key key;
};

bool extend(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const Extension extension(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
  return extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1;
}

bool number(X509* certificate) {
  const Number serial(BN_new());
  return serial != nullptr &&
         BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
         BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) != nullptr;
}

// A key and a certificate with a name and a lifetime, not signed yet.
Result<Pair> draft(const std::string& name, int days) {
  Pair pair{Certificate(X509_new()), Key(EVP_EC_gen("P-256"))};
  X509* const x = pair.certificate.get();
  constexpr long kDay = 86400;
  constexpr long kClocksDiffer = -300;
  const auto* text = reinterpret_cast<const unsigned char*>(name.c_str());
  const bool done =
      x != nullptr && pair.key != nullptr && X509_set_version(x, X509_VERSION_3) == 1 &&
      number(x) && X509_gmtime_adj(X509_getm_notBefore(x), kClocksDiffer) != nullptr &&
      X509_gmtime_adj(X509_getm_notAfter(x), days * kDay) != nullptr &&
      X509_set_pubkey(x, pair.key.get()) == 1 &&
      X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, text, -1, -1, 0) ==
          1;
  if (!done) return failed("cannot make a certificate");
  return pair;
}

Status sign(X509* certificate, X509* issuer, EVP_PKEY* key) {
  if (X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) != 1 ||
      X509_sign(certificate, key, EVP_sha256()) == 0) {
    return failed("cannot sign a certificate");
  }
  return {};
}

template <typename Write>
Result<std::string> pem(Write write) {
  const File memory(BIO_new(BIO_s_mem()));
  if (memory == nullptr || write(memory.get()) != 1) return failed("cannot write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

// Never over what is there.
Status create(const std::string& path, const std::string& text, mode_t mode) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid() && errno == EEXIST) {
    return Error(Code::kConflict, path + " is there already");
  }
  if (!fd.valid()) return errno_error("cannot create " + path, errno);
  const ssize_t written = ::write(fd.get(), text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size())) return {};
  ::unlink(path.c_str());
  return errno_error("cannot write " + path, written < 0 ? errno : ENOSPC);
}

Status save(const Pair& pair, const std::string& key_path, const std::string& certificate_path) {
  DVS_ASSIGN(const std::string key, pem([&](BIO* to) {
               return PEM_write_bio_PrivateKey(to, pair.key.get(), nullptr, nullptr, 0, nullptr,
                                               nullptr);
             }));
  DVS_ASSIGN(const std::string certificate,
             pem([&](BIO* to) { return PEM_write_bio_X509(to, pair.certificate.get()); }));
  DVS_TRY(create(key_path, key, 0600));
  return replace_file(certificate_path, certificate);
}

}  // namespace

Status make_authority(const std::string& directory, const std::string& cluster) {
  DVS_TRY(make_dirs(directory));
  ::chmod(directory.c_str(), 0700);
  DVS_ASSIGN(const Pair pair, draft("DVS cluster " + cluster, kAuthorityDays));
  X509* const x = pair.certificate.get();
  if (!extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !extend(x, x, NID_subject_key_identifier, "hash")) {
    return failed("cannot make a certificate");
  }
  DVS_TRY(sign(x, x, pair.key.get()));
  return save(pair, directory + "/" + kAuthorityKey, directory + "/" + kAuthorityCertificate);
}

Status certify(const std::string& directory, const std::string& node, const std::string& output,
               int days) {
  const std::string authority_path = directory + "/" + kAuthorityCertificate;
  DVS_ASSIGN(const Certificate authority, read_certificate(authority_path));
  DVS_ASSIGN(const Key authority_key, read_key(directory + "/" + kAuthorityKey));
  DVS_ASSIGN(const Pair pair, draft(node, days));
  X509* const x = pair.certificate.get();
  if (!extend(x, authority.get(), NID_basic_constraints, "critical,CA:FALSE") ||
      !extend(x, authority.get(), NID_key_usage, "critical,digitalSignature") ||
      !extend(x, authority.get(), NID_ext_key_usage, "serverAuth,clientAuth") ||
      !extend(x, authority.get(), NID_subject_alt_name, "DNS:" + node) ||
      !extend(x, authority.get(), NID_authority_key_identifier, "keyid")) {
    return failed("cannot make a certificate for '" + node + "'");
  }
  DVS_TRY(sign(x, authority.get(), authority_key.get()));
  DVS_TRY(make_dirs(output));
  DVS_TRY(save(pair, output + "/" + node + ".key", output + "/" + node + ".pem"));
  DVS_ASSIGN(const std::string text, read_file(authority_path));
  return replace_file(output + "/" + kAuthorityCertificate, text);
}

}  // namespace dvs::tls
