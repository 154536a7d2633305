#include "tls/openssl.h"

#include <sys/stat.h>

#include <cstring>

#include "base/file.h"
#include "tls/digest.h"

namespace dvs::tls {

std::string why() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  ERR_clear_error();
  return reason == nullptr ? "unknown reason" : reason;
}

Error failed(const std::string& what) { return Error(Code::kInvalid, what + ": " + why()); }

namespace {

std::string entry(const X509_NAME* subject, int nid) {
  char name[65];  // as long as X.520 allows
  const int length = X509_NAME_get_text_by_NID(const_cast<X509_NAME*>(subject), nid, name,
                                               static_cast<int>(sizeof name));
  if (length <= 0 || std::strlen(name) != static_cast<size_t>(length)) return {};
  return name;
}

Result<File> open(const std::string& path) {
  File file(BIO_new_file(path.c_str(), "r"));
  if (file == nullptr) return failed("cannot open " + path);
  return file;
}

template <typename Owned, auto kRead>
Result<Owned> read(BIO* from, const std::string& what) {
  // (An empty password: nobody is asked for one.)
  Owned object(from == nullptr ? nullptr : kRead(from, nullptr, nullptr, const_cast<char*>("")));
  if (object == nullptr) return failed(what);
  return object;
}

template <typename Owned, auto kRead>
Result<Owned> read_from(const std::string& path, const char* what) {
  DVS_ASSIGN(const File file, open(path));
  return read<Owned, kRead>(file.get(), path + " is not a " + what);
}

template <typename Owned, auto kRead>
Result<Owned> parse(const std::string& text, const char* what) {
  const File memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  return read<Owned, kRead>(memory.get(), std::string("not a ") + what);
}

template <typename Write>
Result<std::string> pem(Write write) {
  const File memory(BIO_new(BIO_s_mem()));
  if (memory == nullptr || write(memory.get()) != 1) return failed("cannot write PEM");
  char* text = nullptr;
  const long size = BIO_get_mem_data(memory.get(), &text);
  return std::string(text, static_cast<size_t>(size));
}

constexpr char kCertificate[] = "certificate (PEM)";
constexpr char kRequest[] = "request for a certificate (PEM)";
constexpr char kList[] = "list of revoked certificates (PEM)";

}  // namespace

Subject subject_of(const X509* certificate) {
  if (certificate == nullptr) return {};
  const X509_NAME* const subject = X509_get_subject_name(certificate);
  return {entry(subject, NID_commonName), entry(subject, NID_organizationalUnitName)};
}

Result<Certificate> read_certificate(const std::string& path) {
  return read_from<Certificate, PEM_read_bio_X509>(path, kCertificate);
}
Result<RevokedList> read_revoked(const std::string& path) {
  return read_from<RevokedList, PEM_read_bio_X509_CRL>(path, kList);
}

Result<Key> read_key(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && (info.st_mode & 077) != 0) {
    return Error(Code::kDenied, path + " can be read by others; make it 0600");
  }
  return read_from<Key, PEM_read_bio_PrivateKey>(path, "private key (PEM, without password)");
}

Result<Certificate> parse_certificate(const std::string& text) {
  return parse<Certificate, PEM_read_bio_X509>(text, kCertificate);
}
Result<Request> parse_request(const std::string& text) {
  return parse<Request, PEM_read_bio_X509_REQ>(text, kRequest);
}
Result<RevokedList> parse_revoked(const std::string& text) {
  return parse<RevokedList, PEM_read_bio_X509_CRL>(text, kList);
}

Result<std::string> to_pem(const X509* certificate) {
  return pem([&](BIO* to) { return PEM_write_bio_X509(to, certificate); });
}
Result<std::string> to_pem(const X509_REQ* request) {
  return pem([&](BIO* to) { return PEM_write_bio_X509_REQ(to, request); });
}
Result<std::string> to_pem(const X509_CRL* list) {
  return pem([&](BIO* to) { return PEM_write_bio_X509_CRL(to, list); });
}
Result<std::string> to_pem(const EVP_PKEY* key) {
  return pem([&](BIO* to) {
    return PEM_write_bio_PrivateKey(to, key, nullptr, nullptr, 0, nullptr, nullptr);
  });
}

std::string fingerprint_of(const X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate, &der);
  if (size <= 0) return {};
  std::string digest = sha256_hex({reinterpret_cast<const char*>(der), static_cast<size_t>(size)});
  OPENSSL_free(der);
  return digest;
}

Result<Key> make_key() {
  Key key(EVP_EC_gen("P-256"));
  if (key == nullptr) return failed("cannot make a key");
  return key;
}

bool set_name(X509_NAME* name, const Subject& subject) {
  const auto add = [name](const char* field, const std::string& value) {
    const auto* text = reinterpret_cast<const unsigned char*>(value.c_str());
    return value.empty() ||
           X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, text, -1, -1, 0) == 1;
  };
  return add("OU", subject.unit) && add("CN", subject.name);
}

bool signed_by(const X509* certificate, const X509* authority) {
  const bool is = X509_verify(const_cast<X509*>(certificate), X509_get0_pubkey(authority)) == 1;
  ERR_clear_error();
  return is;
}

bool is_of_key(const X509* certificate, EVP_PKEY* key) {
  const bool is = EVP_PKEY_eq(X509_get0_pubkey(certificate), key) == 1;
  ERR_clear_error();
  return is;
}

}  // namespace dvs::tls
