#include "tls/authority.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <sstream>

#include "base/file.h"
#include "tls/openssl.h"

namespace dvs::tls {
namespace {

constexpr int kAuthorityDays = 3650;
constexpr int kSerialBits = 159;
constexpr long kDay = 86400;
constexpr long kClocksDiffer = -300;  // seconds, between the authority's machine and a node

using Authority = Pair;

Result<Authority> open_authority(const std::string& directory) {
  Authority authority;
  DVS_ASSIGN(authority.certificate, read_certificate(directory + "/" + kAuthorityCertificate));
  DVS_ASSIGN(authority.key, read_key(directory + "/" + kAuthorityKey));
  return authority;
}

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

// With a name, a key and a lifetime; not signed yet.
Result<Certificate> draft(const Subject& subject, EVP_PKEY* key, int days) {
  Certificate certificate(X509_new());
  X509* const x = certificate.get();
  const bool done = x != nullptr && X509_set_version(x, X509_VERSION_3) == 1 && number(x) &&
                    X509_gmtime_adj(X509_getm_notBefore(x), kClocksDiffer) != nullptr &&
                    X509_gmtime_adj(X509_getm_notAfter(x), days * kDay) != nullptr &&
                    X509_set_pubkey(x, key) == 1 && set_name(X509_get_subject_name(x), subject);
  if (!done) return failed("cannot make a certificate for '" + subject.name + "'");
  return certificate;
}

Status sign(X509* certificate, X509* issuer, EVP_PKEY* key) {
  if (X509_set_issuer_name(certificate, X509_get_subject_name(issuer)) != 1 ||
      X509_sign(certificate, key, EVP_sha256()) == 0) {
    return failed("cannot sign a certificate");
  }
  return {};
}

std::string serial_of(const X509* certificate) {
  const Number serial(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  char* const text = BN_bn2hex(serial.get());
  std::string digits(text == nullptr ? "" : text);
  OPENSSL_free(text);
  return digits;
}

// Before a certificate is given away: what is not in this file cannot be called back.
Status note_issued(const std::string& directory, const X509* certificate, const Subject& subject) {
  const std::string path = directory + "/issued";
  const std::string line = serial_of(certificate) + " " + subject.unit + " " + subject.name + "\n";
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("cannot open " + path);
  const ssize_t written = ::write(fd.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size()) && ::fdatasync(fd.get()) == 0) return {};
  return errno_error("cannot write " + path, written < 0 ? errno : ENOSPC);
}

// Who serves may also call; a user only calls, so that no user can pass for a node.
std::string purposes(const Subject& subject) {
  if (subject.unit == kNodeUnit) return "serverAuth,clientAuth";
  return subject.unit == kAuthorityUnit ? "serverAuth" : "clientAuth";
}

std::string names(const Wish& wish) {
  std::string all = "DNS:" + wish.subject.name;
  for (const std::string& address : wish.addresses) all += ",IP:" + address;
  return all;
}

Result<Certificate> make(const Authority& authority, const Wish& wish, EVP_PKEY* key) {
  DVS_ASSIGN(Certificate certificate, draft(wish.subject, key, wish.days));
  X509* const x = certificate.get();
  X509* const issuer = authority.certificate.get();
  if (!extend(x, issuer, NID_basic_constraints, "critical,CA:FALSE") ||
      !extend(x, issuer, NID_key_usage, "critical,digitalSignature") ||
      !extend(x, issuer, NID_ext_key_usage, purposes(wish.subject)) ||
      !extend(x, issuer, NID_subject_alt_name, names(wish)) ||
      !extend(x, issuer, NID_authority_key_identifier, "keyid")) {
    return failed("cannot make a certificate for '" + wish.subject.name + "'");
  }
  DVS_TRY(sign(x, issuer, authority.key.get()));
  return certificate;
}

// REQUIRES: the lock is held.
Result<Certificate> issue(const std::string& directory, const Wish& wish, EVP_PKEY* key) {
  DVS_ASSIGN(const Authority authority, open_authority(directory));
  DVS_ASSIGN(Certificate certificate, make(authority, wish, key));
  DVS_TRY(note_issued(directory, certificate.get(), wish.subject));
  return certificate;
}

Status sign_list(X509_CRL* list, const Authority& authority) {
  const Time now(X509_gmtime_adj(nullptr, kClocksDiffer));
  if (now == nullptr || X509_CRL_set1_lastUpdate(list, now.get()) != 1 ||
      // An old list is better than no links: it does not expire before the authority.
      X509_CRL_set1_nextUpdate(list, X509_get0_notAfter(authority.certificate.get())) != 1 ||
      X509_CRL_sort(list) != 1 || X509_CRL_sign(list, authority.key.get(), EVP_sha256()) == 0) {
    return failed("cannot sign the list of revoked certificates");
  }
  return {};
}

Status make_empty_list(const std::string& directory, const Authority& authority) {
  const RevokedList list(X509_CRL_new());
  if (list == nullptr || X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) != 1 ||
      X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority.certificate.get())) !=
          1) {
    return failed("cannot make a list of revoked certificates");
  }
  DVS_TRY(sign_list(list.get(), authority));
  DVS_ASSIGN(const std::string text, to_pem(list.get()));
  return replace_file(directory + "/" + kRevoked, text);
}

Result<std::set<std::string>> serials_of(const std::string& directory, const std::string& name) {
  std::set<std::string> serials;
  auto issued = read_file(directory + "/issued");
  if (!issued.ok() && issued.error().code() == Code::kNotFound) return serials;
  if (!issued.ok()) return issued.error();
  std::istringstream lines(*issued);
  for (std::string serial, unit, whose; lines >> serial >> unit >> whose;) {
    if (whose == name) serials.insert(serial);
  }
  return serials;
}

// True: it was not in the list before.
Result<bool> add_to(X509_CRL* list, const std::string& serial_digits) {
  BIGNUM* parsed = nullptr;
  BN_hex2bn(&parsed, serial_digits.c_str());
  const Number value(parsed);
  const Integer serial(value == nullptr ? nullptr : BN_to_ASN1_INTEGER(value.get(), nullptr));
  if (serial == nullptr) return failed("bad serial number '" + serial_digits + "'");
  X509_REVOKED* there = nullptr;
  if (X509_CRL_get0_by_serial(list, &there, serial.get()) > 0) return false;
  const Time now(X509_gmtime_adj(nullptr, 0));
  X509_REVOKED* const entry = X509_REVOKED_new();
  if (entry == nullptr || now == nullptr ||
      X509_REVOKED_set_serialNumber(entry, serial.get()) != 1 ||
      X509_REVOKED_set_revocationDate(entry, now.get()) != 1 ||
      X509_CRL_add0_revoked(list, entry) != 1) {
    X509_REVOKED_free(entry);
    return failed("cannot add to the list of revoked certificates");
  }
  return true;
}

// The key of a request, whose sender has the secret half of it.
Result<Key> key_of(const std::string& text) {
  DVS_ASSIGN(const Request request, parse_request(text));
  Key key(X509_REQ_get_pubkey(request.get()));
  if (key == nullptr || X509_REQ_verify(request.get(), key.get()) != 1) {
    return failed("the request is not signed by its key");
  }
  char group[32] = {};
  size_t length = 0;
  if (EVP_PKEY_get_base_id(key.get()) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key.get(), group, sizeof group, &length) != 1 ||
      std::string(group) != "prime256v1") {
    return Error(Code::kInvalid, "the key must be ECDSA P-256");
  }
  return key;
}

Status check_current(const std::string& directory, X509* certificate, EVP_PKEY* key,
                     const std::string& unit) {
  DVS_ASSIGN(const Certificate authority,
             read_certificate(directory + "/" + kAuthorityCertificate));
  DVS_ASSIGN(const RevokedList list, read_revoked(directory + "/" + kRevoked));
  X509_REVOKED* there = nullptr;
  const char* wrong = nullptr;
  if (!signed_by(certificate, authority.get())) {
    wrong = "the certificate is not of this authority";
  } else if (X509_cmp_current_time(X509_get0_notAfter(certificate)) <= 0) {
    wrong = "the certificate has expired";
  } else if (X509_CRL_get0_by_cert(list.get(), &there, certificate) > 0) {
    wrong = "the certificate was revoked";
  } else if (!is_of_key(certificate, key)) {
    wrong = "the request is not for the certificate's key";
  } else if (subject_of(certificate).unit != unit) {
    wrong = "certificates of its kind are not renewed";
  }
  return wrong == nullptr ? Status() : Error(Code::kDenied, wrong);
}

}  // namespace

Status create_file(const std::string& path, const std::string& text, unsigned mode) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
  if (!fd.valid() && errno == EEXIST) {
    return Error(Code::kConflict, path + " is there already");
  }
  if (!fd.valid()) return errno_error("cannot create " + path);
  const ssize_t written = ::write(fd.get(), text.data(), text.size());
  if (written == static_cast<ssize_t>(text.size()) && ::fdatasync(fd.get()) == 0) return {};
  const int error = written < 0 ? errno : ENOSPC;
  ::unlink(path.c_str());
  return errno_error("cannot write " + path, error);
}

Result<UniqueFd> lock_authority(const std::string& directory) {
  const std::string path = directory + "/lock";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!fd.valid()) return errno_error("cannot open " + path);
  while (::flock(fd.get(), LOCK_EX) != 0) {
    if (errno != EINTR) return errno_error("cannot lock " + path);
  }
  return fd;
}

Status make_authority(const std::string& directory, const std::string& cluster) {
  DVS_TRY(make_dirs(directory));
  ::chmod(directory.c_str(), 0700);
  Authority authority;
  DVS_ASSIGN(authority.key, make_key());
  DVS_ASSIGN(authority.certificate,
             draft({"DVS cluster " + cluster, ""}, authority.key.get(), kAuthorityDays));
  X509* const x = authority.certificate.get();
  if (!extend(x, x, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
      !extend(x, x, NID_key_usage, "critical,keyCertSign,cRLSign") ||
      !extend(x, x, NID_subject_key_identifier, "hash")) {
    return failed("cannot make a certificate");
  }
  DVS_TRY(sign(x, x, authority.key.get()));
  DVS_ASSIGN(const std::string key, to_pem(authority.key.get()));
  DVS_ASSIGN(const std::string certificate, to_pem(x));
  DVS_TRY(create_file(directory + "/" + kAuthorityKey, key, 0600));
  DVS_TRY(replace_file(directory + "/" + kAuthorityCertificate, certificate));
  return make_empty_list(directory, authority);
}

Status certify(const std::string& directory, const Wish& wish, const std::string& output) {
  DVS_ASSIGN(const UniqueFd lock, lock_authority(directory));
  DVS_ASSIGN(const Key key, make_key());
  DVS_ASSIGN(const std::string secret, to_pem(key.get()));
  DVS_ASSIGN(const std::string authority, read_file(directory + "/" + kAuthorityCertificate));
  DVS_TRY(make_dirs(output));
  const std::string base = output + "/" + wish.subject.name;
  DVS_TRY(create_file(base + ".key", secret, 0600));
  auto made = issue(directory, wish, key.get());
  auto text = made.ok() ? to_pem(made->get()) : Result<std::string>(made.error());
  if (!text.ok()) {
    ::unlink((base + ".key").c_str());
    return text.error();
  }
  DVS_TRY(replace_file(base + ".pem", *text));
  return replace_file(output + "/" + kAuthorityCertificate, authority);
}

Status certify(const std::string& directory, const std::string& node, const std::string& output,
               int days) {
  return certify(directory, {{node, kNodeUnit}, days}, output);
}

Result<Pair> certify_server(const std::string& directory) {
  DVS_ASSIGN(const Authority authority, open_authority(directory));
  Pair server;
  DVS_ASSIGN(server.key, make_key());
  DVS_ASSIGN(server.certificate,
             make(authority, {{kAuthorityUnit, kAuthorityUnit}, kAuthorityDays}, server.key.get()));
  return server;
}

Result<std::string> sign_request(const std::string& directory, const std::string& request,
                                 const Wish& wish) {
  DVS_ASSIGN(const Key key, key_of(request));
  DVS_ASSIGN(const Certificate certificate, issue(directory, wish, key.get()));
  return to_pem(certificate.get());
}

Result<std::string> renew(const std::string& directory, const std::string& certificate,
                          const std::string& request, const std::string& unit) {
  DVS_ASSIGN(const UniqueFd lock, lock_authority(directory));
  DVS_ASSIGN(const Certificate current, parse_certificate(certificate));
  DVS_ASSIGN(const Key key, key_of(request));
  DVS_TRY(check_current(directory, current.get(), key.get(), unit));
  return sign_request(directory, request, {subject_of(current.get())});
}

Result<int> revoke(const std::string& directory, const std::string& name) {
  DVS_ASSIGN(const UniqueFd lock, lock_authority(directory));
  DVS_ASSIGN(const Authority authority, open_authority(directory));
  DVS_ASSIGN(const auto serials, serials_of(directory, name));
  if (serials.empty()) return Error(Code::kNotFound, "no certificate was made for '" + name + "'");
  DVS_ASSIGN(const RevokedList list, read_revoked(directory + "/" + kRevoked));
  int added = 0;
  for (const std::string& serial : serials) {
    DVS_ASSIGN(const bool fresh, add_to(list.get(), serial));
    added += fresh ? 1 : 0;
  }
  DVS_TRY(sign_list(list.get(), authority));
  DVS_ASSIGN(const std::string text, to_pem(list.get()));
  DVS_TRY(replace_file(directory + "/" + kRevoked, text));
  return added;
}

Result<std::string> authority_fingerprint(const std::string& directory) {
  DVS_ASSIGN(const Certificate authority,
             read_certificate(directory + "/" + kAuthorityCertificate));
  return fingerprint_of(authority.get());
}

}  // namespace dvs::tls
